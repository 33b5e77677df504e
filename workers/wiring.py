"""The composition root: the only file that names concrete adapters and puts the pieces together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client

from activities.edge import Edge
from activities.payment_steps import PaymentSteps
from activities.preparation import Preparation
from activities.provider_steps import ProviderSteps
from activities.refund_steps import RefundSteps
from activities.review_steps import ReviewSteps
from activities.settle_step import SettleStep
from activities.settlement_steps import SettlementSteps, Tidings
from activities.webhooks import WebhookSteps
from corridor.fx.desk import Desk
from corridor.fx.ecb import EcbRates
from corridor.fx.liquidity_http import HttpLiquidityProvider
from corridor.fx.market import Market
from corridor.notify.outbound import Outbound, Rules
from corridor.providers.registry import Registry
from corridor.providers.stripe.adapter import StripeProvider
from corridor.risk import policy
from corridor.runtime import keys
from corridor.runtime.rates import RateKeeper
from corridor.runtime.settings import Settings
from corridor.storage.database import Database
from corridor.storage.deadlines import SERVING, Deadlines
from corridor.storage.sealing import Sealer
from workflows import names
from workflows.payment import PaymentWorkflow
from workflows.refund import RefundWorkflow
from workflows.settlement import SettlementWorkflow
from workflows.webhook_delivery import WebhookDeliveryWorkflow

WORKFLOWS: tuple[type, ...] = (PaymentWorkflow, RefundWorkflow, SettlementWorkflow, WebhookDeliveryWorkflow)


def clock_of(settings: Settings) -> Callable[[], datetime]:
    """The clock of a process; a setting of the sandbox mode sets it wrong, to prove that nothing depends on it."""
    offset = timedelta(seconds=settings.clock_offset_seconds)
    return lambda: datetime.now(UTC) + offset


@dataclass(frozen=True)
class Wiring:
    """Everything a process of ours is made of; `close` when it ends."""

    edge: Edge
    sealer: Sealer
    outbound: Outbound
    rates: RateKeeper
    _stripe: StripeProvider
    _liquidity: tuple[HttpLiquidityProvider, ...]

    async def close(self) -> None:
        await self._stripe.close()
        for provider in self._liquidity:
            await provider.close()
        await self.edge.database.close()


def build(settings: Settings, *, deadlines: Deadlines = SERVING) -> Wiring:
    """Read the settings into adapters and databases; connects to nothing yet. `deadlines` are the database's."""
    clock = clock_of(settings)
    stripe = StripeProvider(
        base_url=settings.stripe_address,
        secret_key=settings.stripe_secret_key,
        webhook_secrets=[settings.stripe_webhook_secret],
        clock=clock,
        call_timeout_seconds=settings.provider_timeout_seconds,
    )
    liquidity = _liquidity(settings)
    rates = EcbRates(max_age_days=settings.rate_max_age_hours // 24)
    edge = Edge(
        database=Database(
            settings.database,
            settings.database_pool_size,
            settings.database_pool_overflow,
            deadlines=deadlines,
        ),
        providers=Registry([stripe]),
        desk=Desk(liquidity, rates, Market(settings.market_day), settings.quote_deadline_seconds),
        policies=policy.shipped(),
        now=clock,
        lock_seconds=settings.quote_lock_seconds,
        settle_within=timedelta(days=settings.settle_within_days),
    )
    ring = keys.load(settings)
    return Wiring(
        edge=edge,
        sealer=Sealer(ring.current, ring.keys),
        rates=RateKeeper(edge.desk, edge.database, settings.reference_rates_url or None, clock),
        outbound=Outbound(Rules(private=settings.webhook_allow_private)),
        _stripe=stripe,
        _liquidity=liquidity,
    )


def _liquidity(settings: Settings) -> tuple[HttpLiquidityProvider, ...]:
    base = settings.liquidity_address
    return tuple(HttpLiquidityProvider(name, f"{base}/{name}") for name in settings.liquidity_providers)


def core_activities(wiring: Wiring, client: Client) -> Sequence[Callable[..., Any]]:
    """Activities of the core queue: our own database steps.

    And webhook delivery and settlement import, for runs begun before these had queues of their own.
    """
    edge = wiring.edge
    steps = PaymentSteps(edge)
    refunds, reviews = RefundSteps(edge), ReviewSteps(edge)
    return (
        Preparation(edge).prepare,
        steps.record,
        steps.declare,
        steps.move,
        steps.requote,
        SettleStep(edge).settle,
        refunds.reserve,
        refunds.release,
        reviews.open,
        reviews.decide,
        *settlement_activities(wiring, client),
        *webhook_activities(wiring),
    )


def settlement_activities(wiring: Wiring, client: Client) -> Sequence[Callable[..., Any]]:
    """Activities of the settlement imports' own queue."""
    steps = SettlementSteps(
        wiring.edge,
        Tidings(client, names.payment_workflow_id(""), names.SETTLEMENT_FACT),
        Tidings(client, names.refund_workflow_id(""), names.PROVIDER_HINT),
    )
    return (steps.find_batches, steps.import_page, steps.close_batch)


def webhook_activities(wiring: Wiring) -> Sequence[Callable[..., Any]]:
    """Activities of the webhooks' own queue."""
    edge = wiring.edge
    return (WebhookSteps(edge.database, wiring.outbound, wiring.sealer, edge.now).attempt,)


def provider_activities(wiring: Wiring) -> Sequence[Callable[..., Any]]:
    """Activities of a provider's own queue."""
    steps = ProviderSteps(wiring.edge)
    return (steps.execute, steps.look_up)
