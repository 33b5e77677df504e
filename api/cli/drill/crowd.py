"""The merchants' backends, buyers and the reviewer of a drill: they post, wait and repeat, and remember each answer."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from api.cli.demo.drive import money
from api.cli.demo.shop import Answer, Json, NoAnswer, Shop
from api.cli.drill.purchases import Kind, Purchase
from corridor.domain.money import Money

AT_ONCE = 16
AFTER_THE_DISASTER = 0.9
"""Purchases of this share of the run and later are new ones: how long they wait is the time to recovery."""
PATIENCE_SECONDS = 150.0
REFUND_TRIES = 12
REFUND_PAUSE_SECONDS = 3.0


@dataclass
class Deal:
    """A purchase and what its merchant knows of it; times are `time.monotonic()`."""

    purchase: Purchase
    asked_at: float | None = None
    answered_at: float | None = None
    answer: Answer | None = None
    is_stepped: bool = False
    trouble: str = ""

    @property
    def payment_id(self) -> str | None:
        made = self.answer is not None and self.answer.status in (201, 202)
        return str(self.answer.document["id"]) if made and self.answer is not None else None

    def was_acknowledged(self, before: float) -> bool:
        """The merchant had an answer that names the payment."""
        return self.payment_id is not None and self.answered_at is not None and self.answered_at < before


@dataclass
class Crowd:
    """Everybody outside."""

    shops: Mapping[str, Shop]
    operator: Shop
    sandbox: httpx.AsyncClient
    deals: list[Deal] = field(default_factory=list)
    struck: asyncio.Event = field(default_factory=asyncio.Event)
    """T0 has come. The last of the purchases are made only after it."""

    async def buy(self, purchases: Sequence[Purchase], seconds: float) -> None:
        """Post every purchase at its time within `seconds`; ends when all have an answer. Outages are waited out."""
        gate, begun = asyncio.Semaphore(AT_ONCE), time.monotonic()
        new = [Deal(purchase) for purchase in purchases]
        self.deals += new
        await asyncio.gather(*(self._buy(deal, gate, begun + deal.purchase.at * seconds) for deal in new))

    async def finish(self) -> None:
        """Everybody who made a payment wait does what it waits for."""
        gate = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._step_later(deal, gate) for deal in self.deals if not deal.is_stepped))

    async def _buy(self, deal: Deal, gate: asyncio.Semaphore, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if deal.purchase.at >= AFTER_THE_DISASTER:
            await self.struck.wait()
        async with gate:
            deal.asked_at = time.monotonic()
            try:
                purchase = deal.purchase
                answer = await self._shop(deal).post("/v1/payments", _request(purchase), purchase.name)
            except NoAnswer as error:
                deal.trouble = str(error)
                return
            deal.answer, deal.answered_at = answer, time.monotonic()
            if answer.status not in (201, 202):
                deal.trouble = f"answered {answer.status} {answer.code}"
        if not deal.trouble and not (deal.purchase.kind.waits and deal.purchase.is_patient):
            await self._step_later(deal, gate)

    async def _step_later(self, deal: Deal, gate: asyncio.Semaphore) -> None:
        if deal.payment_id is None:
            return
        deal.is_stepped = True
        async with gate:
            try:
                await self._step(deal, deal.payment_id)
            except (NoAnswer, httpx.HTTPError, StopIteration) as error:
                deal.trouble = str(error) or type(error).__name__

    async def _step(self, deal: Deal, payment_id: str) -> None:
        shop, path, name = self._shop(deal), f"/v1/payments/{payment_id}", deal.purchase.name
        match deal.purchase.kind:
            case Kind.CAPTURE:
                await shop.until(path, lambda it: it["status"] != "processing", PATIENCE_SECONDS)
                await shop.post(f"{path}:capture", {}, f"{name}-capture")
            case Kind.CHALLENGE:
                found = await shop.until(path, lambda it: it["status"] != "processing", PATIENCE_SECONDS)
                if found["next_action"] is not None:
                    await self.sandbox.post(f"{found['next_action']['url']}/complete")
            case Kind.REVIEW:
                await self._review(shop, path, payment_id)
            case Kind.REFUND:
                await self._refund(deal, shop, path)

    async def _review(self, shop: Shop, path: str, payment_id: str) -> None:
        await shop.until(path, lambda it: it["status"] != "processing", PATIENCE_SECONDS)
        listed = await self.operator.get("/v1/reviews", limit=100)
        found = [it["id"] for it in listed["data"] if it["payment"] == payment_id]
        for review_id in found:
            body: Json = {"decision": "approve", "note": "the buyer is known"}
            await self.operator.post(f"/v1/reviews/{review_id}:decide", body, f"{review_id}-1")

    async def _refund(self, deal: Deal, shop: Shop, path: str) -> None:
        await shop.until(
            path, lambda it: it["status"] not in ("processing", "requires_action"), PATIENCE_SECONDS
        )
        whole = deal.purchase.amount
        amount = Money(whole.minor // 4 // 10 * 10, whole.currency)
        body = {
            "payment": path.rpartition("/")[2],
            "amount": money(amount),
            "reason": "returned by the buyer",
        }
        for number in range(REFUND_TRIES):
            answer = await shop.post("/v1/refunds", body, f"{deal.purchase.name}-refund-{number}")
            if answer.code != "insufficient_available":
                return
            await asyncio.sleep(REFUND_PAUSE_SECONDS)

    def _shop(self, deal: Deal) -> Shop:
        return self.shops[deal.purchase.seller]


def _request(purchase: Purchase) -> Json:
    return {
        "amount": money(purchase.amount),
        "payment_method": {
            "type": "card",
            "provider_token": purchase.token,
            "fingerprint": f"card-of-{purchase.name}",
        },
        "buyer": {"country": purchase.country, "reference": f"buyer-of-{purchase.name}"},
        "capture": purchase.capture,
        "merchant_reference": purchase.name,
        "return_url": f"https://{purchase.seller}.example/orders/{purchase.name}",
        "metadata": {"kind": purchase.kind.name.lower()},
    }
