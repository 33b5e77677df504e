"""A payment provider and a liquidity provider inside the worker's process: they obey the ports and take no time.

The bare workflow calls nobody, so the payment it is compared with must not wait for a network either.
"""

# ruff: noqa: ARG002 — a stand-in obeys the port's signatures and uses what it needs.

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pydantic import SecretStr

from corridor.domain.effect import FrozenRequest, Operation
from corridor.domain.money import Money
from corridor.domain.outcome import Evidence, Outcome, ProviderAnswer
from corridor.domain.settlement import SettlementBatch, SettlementPage
from corridor.fx.ecb import EcbRates
from corridor.fx.port import Offer
from corridor.providers.port import (
    Capabilities,
    IdempotencyContract,
    Instruction,
    LookedUp,
    LookUp,
    ProviderEvent,
    SignatureInvalid,
)
from corridor.providers.registry import Registry
from corridor.providers.stripe.adapter import StripeProvider
from corridor.runtime.settings import Settings
from workers import wiring
from workers.wiring import Wiring

SPREAD_BPS = 10
NEVER_CALLED = SecretStr("sk_test_never_sent")


def wire(settings: Settings) -> Wiring:
    """Our own wiring with the world outside replaced; database, rates, risk and keys are the real ones."""
    wired = wiring.build(settings)
    liquidity = [InstantLiquidity(name, wired.edge.desk.rates) for name in settings.liquidity_providers]
    desk = replace(wired.edge.desk, providers=liquidity)
    return replace(wired, edge=replace(wired.edge, providers=Registry([InstantProvider()]), desk=desk))


class InstantProvider:
    """Freezes as the Stripe adapter does and approves at once."""

    def __init__(self) -> None:
        self._stripe = StripeProvider(
            base_url="http://127.0.0.1:9", secret_key=NEVER_CALLED, webhook_secrets=(), clock=_now
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._stripe.capabilities

    @property
    def contract(self) -> IdempotencyContract:
        return self._stripe.contract

    def freeze(self, instruction: Instruction) -> FrozenRequest:
        return self._stripe.freeze(instruction)

    async def send(self, effect_key: str, operation: Operation, request: FrozenRequest) -> ProviderAnswer:
        evidence = Evidence(
            seen_at=_now(), http_status=200, provider_status="succeeded", request_id="req_instant"
        )
        return ProviderAnswer(
            outcome=Outcome.APPROVED, evidence=evidence, provider_reference=f"pi_{effect_key[:40]}"
        )

    async def look_up(self, wanted: LookUp) -> LookedUp:
        return LookedUp(answer=None, evidence=Evidence(seen_at=_now(), note="nothing is kept here"))

    async def ping(self) -> None:
        return None

    async def settlement_batches(self, since: datetime) -> tuple[SettlementBatch, ...]:
        return ()

    async def settlement_page(self, batch_id: str, cursor: str | None) -> SettlementPage:
        return SettlementPage(lines=(), bad_rows=(), next_cursor=None)

    def read_webhook(self, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderEvent:
        raise SignatureInvalid("no webhook comes from here")


class InstantLiquidity:
    """Offers the reference rate less a fixed spread, at once."""

    def __init__(self, name: str, rates: EcbRates) -> None:
        self.name = name
        self._rates = rates

    async def quote(self, sell: Money, buy_currency: str, lock_seconds: int) -> Offer:
        day = self._rates.newest_day()
        mid = self._rates.rate(sell.currency, buy_currency, day).rate
        return Offer(
            provider=self.name,
            reference=f"{self.name}-1",
            sell=sell,
            buy_currency=buy_currency,
            rate=mid * (1 - Decimal(SPREAD_BPS) / 10_000),
            mid=mid,
            mid_as_of=day.isoformat(),
            spread_bps=SPREAD_BPS,
            expires_at=_now() + timedelta(seconds=lock_seconds + 1),
        )

    async def accept(self, reference: str, our_reference: str) -> None:
        return None


def _now() -> datetime:
    return datetime.now(UTC)
