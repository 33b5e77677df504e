"""A careful merchant's backend: every request has a key of its own, and is repeated under it until it is answered."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import Connection, update

from api import credentials
from corridor.domain.failure import Refusal
from corridor.runtime.settings import Settings
from corridor.storage.tables import idempotency_keys, merchants
from tests.chaos.sweep import traffic
from tests.workflows.world import World, now

PATIENCE_SECONDS = 1.5
"""For the first answer; a process that is frozen, and most that are lost, take longer."""


@dataclass(frozen=True)
class Request:
    """One request to make exactly once."""

    path: str
    body: Mapping[str, Any]
    key: str


@dataclass
class Shop:
    """Posts to any of several API processes; `sure` is one that answers."""

    here: World
    api_key: str
    sure: str
    webhook_secret: str
    orders: int = 0
    requests: int = 0

    async def meet(
        self, point: str, at: str, just_before: Callable[[], None] = lambda: None
    ) -> httpx.Response | None:
        """Make the request that passes the point, at that API; then see it through. Returns the first answer."""
        if point.startswith("webhook."):
            await self._buyer_proves_himself(at, just_before)
            return None
        request = await self._request(point)
        just_before()
        first = await self.ask(request, at, PATIENCE_SECONDS)
        answer = await self.insist(request)
        if first is not None and first.status_code < 300:
            assert first.json()["id"] == answer["id"], "a key made two objects"
        return first

    async def ask(self, request: Request, at: str, seconds: float) -> httpx.Response | None:
        """One try; None when no answer came."""
        headers = {"Authorization": f"Bearer {self.api_key}", "Idempotency-Key": request.key}
        try:
            async with httpx.AsyncClient(timeout=seconds, trust_env=False) as client:
                return await client.post(f"{at}{request.path}", json=request.body, headers=headers)
        except httpx.HTTPError:
            return None

    async def insist(self, request: Request) -> Any:
        """Repeat until it is answered for good."""
        async with asyncio.timeout(60):
            while True:
                answer = await self.ask(request, self.sure, 20)
                if answer is not None and answer.status_code in (200, 201):
                    return answer.json()
                assert answer is None or answer.status_code in (202, 409, 503), answer.text
                if answer is not None and answer.status_code == 409:
                    assert answer.json()["code"] == Refusal.IDEMPOTENCY_IN_FLIGHT, answer.text
                    await self.here.database.write(_a_minute_passes)
                await asyncio.sleep(0.3)

    async def _request(self, point: str) -> Request:
        if point.startswith("refund."):
            payment = await self.insist(self._order())
            return self._new("/v1/refunds", {"payment": payment["id"], "amount": _eur(1_000), "metadata": {}})
        if point.startswith("command."):
            payment = await self.insist(self._order(capture="manual"))
            return self._new(f"/v1/payments/{payment['id']}:capture", {})
        return self._order()

    def _order(self, token: str = "pm_card_visa", capture: str = "automatic") -> Request:
        self.orders += 1
        body = {
            "amount": _eur(10_000),
            "payment_method": {"type": "card", "provider_token": token, "fingerprint": f"card-{self.orders}"},
            "buyer": {"country": "DE", "reference": f"buyer-{self.orders}"},
            "capture": capture,
            "return_url": "https://shop.example/back",
            "metadata": {},
        }
        return self._new("/v1/payments", body)

    def _new(self, path: str, body: Mapping[str, Any]) -> Request:
        self.requests += 1
        return Request(path, body, f"sweep-{self.requests}")

    async def _buyer_proves_himself(self, at: str, just_before: Callable[[], None]) -> None:
        """The provider tells that API of it."""
        await self.insist(self._order("pm_card_threeDSecure2Required"))
        just_before()
        await self.listen_at(at)
        await traffic.complete_challenges(self.here)

    async def listen_at(self, api: str) -> None:
        """Provider webhooks go there from now on, those that are repeated too."""
        endpoint = {"url": f"{api}/v1/provider_webhooks/stripe", "secret": self.webhook_secret}
        (await self.here.control.put("/control/webhook_endpoint", json=endpoint)).raise_for_status()


def _eur(minor: int) -> dict[str, Any]:
    return {"minor": minor, "currency": "EUR"}


async def open_shop(here: World, settings: Settings, sure: str) -> Shop:
    """The merchant of this world with an API key of his own; the provider tells the sure API of what happens."""
    await here.database.write(_sell_at_home)
    key = await here.database.write(
        credentials.issue,
        merchant_id=here.merchant_id,
        role="merchant",
        mode="test",
        pepper=settings.api_key_pepper,
        now=now(),
    )
    shop = Shop(here, key, sure, settings.stripe_webhook_secret.get_secret_value())
    await shop.listen_at(sure)
    return shop


def _a_minute_passes(connection: Connection) -> None:
    """A claim belongs to the request that made it for a minute, and that one may be dead."""
    connection.execute(update(idempotency_keys).values(lease_until=now()))


def _sell_at_home(connection: Connection) -> None:
    """Nothing is converted: a quote that comes late on a crowded machine is another test's matter."""
    connection.execute(update(merchants).values(country="DE", settle_currency="EUR"))
