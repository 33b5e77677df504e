"""One payment's transactions by the code that serves payments, called one after another without a workflow between.

Provider and market answer at once inside this process, so what is left is what we and the database do.
"""

# ruff: noqa: ARG002 — a stand-in obeys the port's signature and uses what it needs.

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection
from temporalio.testing import ActivityEnvironment

from activities import settlement_steps
from activities.contracts import (
    BatchIn,
    Executed,
    ExecuteIn,
    OpenReviewIn,
    Prepared,
    PrepareIn,
    RefundIn,
    SettleIn,
)
from activities.edge import Edge
from activities.preparation import Preparation
from activities.provider_steps import ProviderSteps
from activities.refund_steps import RefundSteps
from activities.review_steps import ReviewSteps
from activities.settle_step import SettleStep
from benchmarks import instant
from corridor.domain.accepted import Asked, NewPayment, NewRefund
from corridor.domain.effect import FrozenRequest, Operation, effect_key
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money, zero
from corridor.domain.outcome import Decline, DeclineCategory, Evidence, Outcome, ProviderAnswer
from corridor.domain.payment import CaptureMethod, StatusReason
from corridor.domain.settlement import SettlementBatch, SettlementLine
from corridor.providers.registry import Registry
from corridor.runtime import keys
from corridor.runtime.settings import Settings
from corridor.storage import events, idempotency, inbox, inbox_routing, payments, refunds, settlement
from corridor.storage import webhook_deliveries as deliveries
from corridor.storage.inbox import NewProviderEvent
from corridor.storage.payments import PaymentRow
from workers.relay.dispatcher import dispatch
from workers.wiring import Wiring

PROVIDER = "stripe"
BATCH = "po_0"
INSUFFICIENT = Decline(category=DeclineCategory.SOFT, reason="insufficient_funds", provider_code="51")
PLACED_AT_ONCE = 500


@dataclass
class Clock:
    """The moment the steps happen at. Whole milliseconds, as far as ids and views show."""

    moment: datetime

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, **span: float) -> datetime:
        self.moment += timedelta(**span)
        return self.moment


class Scripted(instant.InstantProvider):
    """The provider of the other benchmarks, which also declines or falls silent when told to."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self.outcome = Outcome.APPROVED
        self._clock = clock

    async def send(self, effect_key: str, operation: Operation, request: FrozenRequest) -> ProviderAnswer:
        status = "requires_payment_method" if self.outcome is Outcome.DECLINED else "succeeded"
        seen = Evidence(seen_at=self._clock(), http_status=200, provider_status=status, request_id="req_1")
        if self.outcome is Outcome.UNKNOWN:
            return ProviderAnswer(outcome=Outcome.UNKNOWN, evidence=Evidence(seen_at=self._clock()))
        return ProviderAnswer(
            outcome=self.outcome,
            evidence=seen,
            provider_reference=reference_of(effect_key),
            decline=INSUFFICIENT if self.outcome is Outcome.DECLINED else None,
        )


@dataclass(frozen=True)
class Order:
    """What a merchant asks for: everything of a payment that is not drawn by us."""

    merchant_id: str
    amount: Money
    number: str
    """Makes the merchant's reference, the buyer's, the card's and the idempotency key."""
    manual: bool = False


class Steps:
    """The steps on one database at one clock."""

    def __init__(self, edge: Edge, clock: Clock, provider: Scripted) -> None:
        self.database, self.clock, self.provider = edge.database, clock, provider
        self._preparation, self._settling = Preparation(edge), SettleStep(edge)
        self._provider_steps, self._refunds, self._reviews = (
            ProviderSteps(edge), RefundSteps(edge), ReviewSteps(edge),
        )  # fmt: skip
        self._activity = ActivityEnvironment()

    async def accept(self, order: Order) -> PaymentRow:
        """The API's accepting transaction."""
        return await self.database.write(_accept, _new_payment(order, self.clock()), self.clock())

    async def prepare(self, row: PaymentRow) -> Prepared:
        amount = Money(row.amount_minor, row.currency)
        wanted = PrepareIn(payment_id=row.id, amount=amount, settle_currency=row.settle_currency)
        return await self._preparation.prepare(wanted)

    async def execute(self, key: str, outcome: Outcome = Outcome.APPROVED) -> Executed:
        """Send the declared effect and record the answer."""
        self.provider.outcome = outcome
        done: Executed = await self._activity.run(self._provider_steps.execute, ExecuteIn(effect_key=key))
        return done

    async def answer(self, payment_id: str) -> None:
        """The API reads what was frozen for the caller."""
        await self.database.read(idempotency.answer_of, payment_id)

    async def report(self, row: PaymentRow) -> None:
        """The provider's report row, staged as the import does."""
        await self.database.write(_stage, _line(row, self.clock()), self.clock())

    async def settle(self, row: PaymentRow) -> None:
        wanted = SettleIn(payment_id=row.id, provider=PROVIDER, line_id=line_id(row.id))
        await self._settling.settle(wanted)

    async def hear(self, row: PaymentRow, body: bytes) -> None:
        """The provider's webhook: stored, and put aside by the relay because its news is known."""
        await self.database.write(inbox.store, _provider_event(row, body, self.clock()), self.clock())
        self.clock.forward(seconds=2)
        await self.database.write(inbox_routing.take_due, self.clock(), 1)

    async def refund(self, row: PaymentRow, amount: Money) -> str:
        """Accept, reserve, return the money; the refund's id."""
        new = _new_refund(row, amount, self.clock())
        await self.database.write(_accept_refund, new, self.clock())
        await self._refunds.reserve(RefundIn(refund_id=new.id, payment_id=row.id))
        await self.execute(effect_key(new.id, Operation.REFUND, 1))
        return new.id

    async def report_refund(self, row: PaymentRow, refund_id: str, amount: Money) -> None:
        """The provider's report row of a refund, booked where the batch is closed."""
        await self.database.write(_close_refund, row, refund_id, amount, self.clock())

    async def ask_person(self, row: PaymentRow) -> None:
        """The look-ups gave no answer: a person is asked."""
        reason, facts = StatusReason.OUTCOME_UNKNOWN, {"effect": sale_key(row.id)}
        wanted = OpenReviewIn(payment_id=row.id, object_id=row.id, reason=reason, facts=facts)
        await self._reviews.open(wanted)

    async def place(self) -> int:
        """The relay's sequencer and dispatcher: events get their place, deliveries their rows."""
        await self.database.write(events.assign_positions, PLACED_AT_ONCE)
        return len(await self.database.write(dispatch, self.clock(), PLACED_AT_ONCE))

    async def deliver(self) -> None:
        """Every delivery that waits is taken by its merchant at the first attempt."""
        await self.database.write(_deliver, self.clock())


def steps_on(settings: Settings, url: str, clock: Clock) -> tuple[Wiring, Steps]:
    """Our own wiring on the database at `url`, with the world outside replaced; close the first at the end."""
    keys.load_or_generate(settings)
    wired = instant.wire(settings.model_copy(update={"database_url": SecretStr(url)}))
    provider = Scripted(clock)
    edge = replace(wired.edge, now=clock, providers=Registry([provider]))
    return replace(wired, edge=edge), Steps(edge, clock, provider)


def sale_key(payment_id: str) -> str:
    return effect_key(payment_id, Operation.SALE, 1)


def reference_of(effect_key: str) -> str:
    """The provider's own id of what an effect made; letters and digits only, as Stripe's are."""
    object_id = effect_key.partition(":")[0]
    return f"{'re' if object_id.startswith(Prefix.REFUND) else 'pi'}_{object_id.partition('_')[2]}"


def line_id(payment_id: str) -> str:
    return f"txn_{payment_id}"


def _new_payment(order: Order, now: datetime) -> NewPayment:
    return NewPayment(
        id=new_id(Prefix.PAYMENT, now), merchant_id=order.merchant_id, amount=order.amount, settle_currency="CNY",
        source_country="DE", destination_country="CN", payment_token="pm_card_visa",  # noqa: S106 — a public test token
        instrument=f"card-{order.number}", payer_reference=f"buyer-{order.number}",
        merchant_reference=f"order-{order.number}", metadata={"cart": f"cart-{order.number}"},
        capture_method=CaptureMethod.MANUAL if order.manual else CaptureMethod.AUTOMATIC,
        asked=Asked(idempotency_key=f"key-{order.number}", fingerprint=order.number.rjust(64, "0")),
    )  # fmt: skip


def _accept(connection: Connection, new: NewPayment, now: datetime) -> PaymentRow:
    asked = new.asked
    if asked is not None:
        idempotency.claim(connection, new.merchant_id, asked.idempotency_key, asked.fingerprint, new.id, now)
    return payments.accept(connection, new, now)


def _new_refund(row: PaymentRow, amount: Money, now: datetime) -> NewRefund:
    key = f"back-{row.idempotency_key}"
    return NewRefund(
        id=new_id(Prefix.REFUND, now), payment_id=row.id, merchant_id=row.merchant_id, amount=amount,
        reason="requested_by_customer", asked=Asked(idempotency_key=key, fingerprint=row.request_fingerprint),
    )  # fmt: skip


def _accept_refund(connection: Connection, new: NewRefund, now: datetime) -> Any:
    asked = new.asked
    if asked is not None:
        idempotency.claim(connection, new.merchant_id, asked.idempotency_key, asked.fingerprint, new.id, now)
    return refunds.accept(connection, new, now)


def _line(row: PaymentRow, now: datetime) -> SettlementLine:
    gross = Money(row.amount_minor, row.currency)
    fee = Money(row.amount_minor * 3 // 100, row.currency)
    return SettlementLine(
        line_id=line_id(row.id), batch_id=BATCH, kind="charge", provider_kind="charge",
        provider_reference=f"ch_{row.id}", effect_key=sale_key(row.id), payment_id=row.id, gross=gross, fee=fee,
        net=gross - fee, converted_from=None, rate=None, available_at=now, created_at=now,
    )  # fmt: skip


def _stage(connection: Connection, line: SettlementLine, now: datetime) -> None:
    settlement.stage(connection, PROVIDER, [line], [], line.batch_id, now)


def _close_refund(
    connection: Connection, row: PaymentRow, refund_id: str, amount: Money, now: datetime
) -> None:
    taken = -amount
    line = SettlementLine(
        line_id=line_id(refund_id), batch_id=BATCH, kind="refund", provider_kind="refund",
        provider_reference=reference_of(refund_id), effect_key=effect_key(refund_id, Operation.REFUND, 1),
        payment_id=row.id, gross=taken, fee=zero(amount.currency), net=taken, converted_from=None, rate=None,
        available_at=now, created_at=now,
    )  # fmt: skip
    batch = SettlementBatch(batch_id=BATCH, total=taken, status="paid", arrives_at=now, created_at=now)
    settlement.know_batch(connection, PROVIDER, batch)
    settlement.stage(connection, PROVIDER, [line], [], BATCH, now)
    settlement_steps.close(connection, BatchIn(provider=PROVIDER, batch_id=BATCH), [], now)


def _provider_event(row: PaymentRow, body: bytes, now: datetime) -> NewProviderEvent:
    return NewProviderEvent(
        id=new_id(Prefix.PROVIDER_EVENT, now), provider=PROVIDER, provider_event_id=f"evt_{row.id}",
        type="payment_intent.succeeded", payment_id=row.id, effect_key=sale_key(row.id),
        provider_reference=reference_of(row.id), body_sealed=body, created_at=now,
    )  # fmt: skip


def _deliver(connection: Connection, now: datetime) -> None:
    waiting = [row.id for row in deliveries.unstarted(connection, PLACED_AT_ONCE)]
    deliveries.mark_started(connection, waiting, now)
    for delivery_id in waiting:
        deliveries.record_delivered(connection, delivery_id, 1, 200, now)
