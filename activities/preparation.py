"""Prepare: risk decision, FX lock, route and declared effect, all in one transaction with everything considered."""

from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select, update

from activities import plans, standing
from activities.contracts import PREPARE, EffectPlan, Prepared, PrepareIn
from activities.edge import Edge
from activities.errors import implements
from activities.payment_steps import mark_started
from activities.recording import release_lock
from corridor.domain.effect import Operation
from corridor.domain.failure import Refusal, Refused
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.payment import CaptureMethod, Status, StatusReason
from corridor.domain.quote import Quote
from corridor.fx.best_execution import Chosen
from corridor.fx.requote import Requote, after_expiry
from corridor.fx.store import get_quote, insert_locked, lock_quote
from corridor.providers.port import PaymentProvider
from corridor.risk.decide import Verdict
from corridor.risk.store import decide_payment, verdict_of
from corridor.risk.valuation import Valuation, unvalued
from corridor.runtime.crash import crash_point
from corridor.storage import clock, effects, merchants, payments, reviews
from corridor.storage.payments import PaymentRow
from corridor.storage.tables import payments as payment_table
from corridor.storage.tables import risk_decisions

_WHY = {
    Refusal.RATE_UNAVAILABLE: StatusReason.RATE_UNAVAILABLE,
    Refusal.SLIPPAGE_EXCEEDED: StatusReason.SLIPPAGE_EXCEEDED,
    Refusal.NO_ROUTE: StatusReason.NO_ROUTE,
}

_TAKE_ROUTE = (
    update(payment_table)
    .where(payment_table.c.id == bindparam("wanted"))
    .values(
        provider=bindparam("provider"),
        quote_id=bindparam("quote_id"),
        workflow_started_at=func.coalesce(
            payment_table.c.workflow_started_at,
            bindparam("started", type_=payment_table.c.workflow_started_at.type),
        ),
    )
)
_REASONS = select(risk_decisions.c.reasons).where(risk_decisions.c.payment_id == bindparam("wanted"))


class Preparation:
    """The first step of a payment. The market is asked before the transaction; what it said is stored in it."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    @implements(PREPARE)
    async def prepare(self, wanted: PrepareIn) -> Prepared:
        """Decide whether and how the payment goes on. Run again, it returns what the first run decided."""
        converts = wanted.amount.currency != wanted.settle_currency
        # A rate is judged by the clock that all have in common: by one that is ahead every offer would be over.
        now = await self._edge.database.read(clock.read) if converts else self._edge.now()
        chosen = await self._ask_the_market(wanted, now) if converts else None
        crash_point("preparation.before_commit")
        prepared = await self._edge.database.write(self._prepare, wanted, chosen, now)
        crash_point("preparation.committed")
        return prepared

    async def _ask_the_market(self, wanted: PrepareIn, now: datetime) -> Chosen | Refused:
        """The best offer, or why there is none (kept for the transaction)."""
        try:
            return await self._edge.desk.ask(
                wanted.amount, wanted.settle_currency, self._edge.lock_seconds, now
            )
        except Refused as refused:
            return refused

    def _prepare(
        self, connection: Connection, wanted: PrepareIn, chosen: Chosen | Refused | None, now: datetime
    ) -> Prepared:
        payment = payments.lock(connection, wanted.payment_id)
        earlier = self._decided_before(connection, payment)
        decided = earlier or self._decide(connection, payment, wanted, chosen, now)
        stands = standing.of_payment(connection, payment.id, again=earlier is not None)
        return decided.model_copy(update={"stands": stands})

    def _decide(
        self,
        connection: Connection,
        payment: PaymentRow,
        wanted: PrepareIn,
        chosen: Chosen | Refused | None,
        now: datetime,
    ) -> Prepared:
        # By a clock that is behind, a lock would have run out for everybody else before it is used.
        now = max(now, payment.created_at)
        if wanted.approved_review is None:
            stopped = self._judge(connection, payment, now)
            if stopped is not None:
                mark_started(connection, payment.id, now)
                return stopped
        try:
            with connection.begin_nested():
                return self._route(connection, payment, chosen, now)
        except Refused as refused:
            mark_started(connection, payment.id, now)
            return fail(connection, payment, _WHY.get(refused.code, StatusReason.QUOTE_UNUSABLE), now)

    def _decided_before(self, connection: Connection, payment: PaymentRow) -> Prepared | None:
        """What an earlier run of this step left behind; a local activity may run again after its commit."""
        attempts = (Operation.AUTHORISE, Operation.SALE)
        attempt = effects.newest(connection, payment.id, payment.id, attempts)
        if attempt is not None:
            plan = plans.plan_of(attempt, self._edge.providers[attempt.provider])
            return _proceed(payment, plan, _locked(connection, payment))
        if payment.status == Status.PROCESSING:
            return None
        open_reviews = reviews.open_for(connection, payment.id)
        return Prepared(
            verdict="review" if open_reviews else "declined",
            status=Status(payment.status),
            sequence=payment.sequence,
            review_id=open_reviews[0].id if open_reviews else None,
        )

    def _judge(self, connection: Connection, payment: PaymentRow, now: datetime) -> Prepared | None:
        """Risk: None lets the payment go on."""
        verdict = verdict_of(connection, payment.id)
        if verdict is None:
            policy = self._edge.policies.in_force(now)
            verdict = decide_payment(connection, payment, policy, self._valuation(now), now).verdict
        if verdict is Verdict.ACCEPT:
            return None
        reasons = _reasons(connection, payment.id)
        if verdict is Verdict.DECLINE:
            return fail(connection, payment, StatusReason.DECLINED_BY_RISK, now, reasons)
        return ask_person(connection, payment, new_id(Prefix.REVIEW, now), reasons, now)

    def _valuation(self, now: datetime) -> Valuation:
        try:
            as_of, per_euro = self._edge.desk.per_euro(now)
        except Refused as refused:
            return unvalued(refused.detail)
        return Valuation(per_euro, f"ECB {as_of.isoformat()}")

    def _route(
        self, connection: Connection, payment: PaymentRow, chosen: Chosen | Refused | None, now: datetime
    ) -> Prepared:
        """Choose the provider, lock the rate, declare the effect. Raises `Refused`; nothing of it is kept then."""
        operation = (
            Operation.SALE if payment.capture_method == CaptureMethod.AUTOMATIC else Operation.AUTHORISE
        )
        provider = self._provider(payment, operation)
        quote = None if chosen is None else self._lock(connection, payment, chosen, now)
        return take_route(connection, payment, provider, operation, quote, now)

    def _provider(self, payment: PaymentRow, operation: Operation) -> PaymentProvider:
        """The first provider, by name, that takes the operation in the currency. Raises `Refused(NO_ROUTE)`."""
        for provider in self._edge.providers.able(operation, payment.currency):
            return provider
        raise Refused(Refusal.NO_ROUTE, f"no provider here takes {payment.currency}")

    def _lock(
        self, connection: Connection, payment: PaymentRow, chosen: Chosen | Refused, now: datetime
    ) -> Quote:
        """The merchant's own quote while it lasts; else a new one, inside the slippage the merchant allowed."""
        old: Quote | None = None
        if payment.quote_id is not None:
            try:
                with connection.begin_nested():
                    return lock_quote(connection, payment.quote_id, payment.id, now)
            except Refused as refused:
                if refused.code is not Refusal.QUOTE_EXPIRED:
                    raise
                old, _ = get_quote(connection, payment.merchant_id, payment.quote_id, now)
        if isinstance(chosen, Refused):
            raise chosen
        new = self._price(connection, payment, chosen, now)
        if old is not None and self._is_too_far(old, new, payment):
            raise Refused(Refusal.SLIPPAGE_EXCEEDED, "the quote expired and the rate moved past the limit")
        insert_locked(connection, new, payment, now)
        return new

    def _price(self, connection: Connection, payment: PaymentRow, chosen: Chosen, now: datetime) -> Quote:
        markup_bps = merchants.get(connection, payment.merchant_id).fx_markup_bps
        return self._edge.desk.quote(chosen, payment.merchant_id, markup_bps, self._edge.lock_seconds, now)

    @staticmethod
    def _is_too_far(old: Quote, new: Quote, payment: PaymentRow) -> bool:
        return after_expiry(old, new, payment.slippage_max_bps, payment.slippage_policy) is Requote.REJECT


def take_route(
    connection: Connection,
    payment: PaymentRow,
    provider: PaymentProvider,
    operation: Operation,
    quote: Quote | None,
    now: datetime,
) -> Prepared:
    """The payment goes to `provider` at the rate it holds: both are noted, and its first effect is declared.

    Its workflow runs, so the orphan starter leaves the payment alone from here.
    """
    connection.execute(
        _TAKE_ROUTE,
        {
            "wanted": payment.id,
            "provider": provider.capabilities.provider,
            "quote_id": quote.id if quote is not None else None,
            "started": now,
        },
    )
    amount = Money(payment.amount_minor, payment.currency)
    plan = plans.declare(connection, provider, payment, operation, payment.id, 1, amount, now)
    return _proceed(payment, plan, quote)


def ask_person(
    connection: Connection, payment: PaymentRow, review_id: str, reasons: tuple[str, ...], now: datetime
) -> Prepared:
    """Risk wants a person to decide: the review is opened and the payment waits for it."""
    opened = reviews.open_review(
        connection,
        review_id=review_id,
        payment_id=payment.id,
        object_id=payment.id,
        merchant_id=payment.merchant_id,
        reason=StatusReason.RISK_REVIEW,
        evidence={"reasons": list(reasons)},
        now=now,
    )
    moved = payments.move(
        connection,
        payment,
        "payment.requires_review",
        now,
        to=Status.REQUIRES_REVIEW,
        reason=StatusReason.RISK_REVIEW,
    )
    return Prepared(
        verdict="review",
        status=Status.REQUIRES_REVIEW,
        sequence=moved.sequence,
        review_id=opened.id,
        reasons=reasons,
    )


def fail(
    connection: Connection,
    payment: PaymentRow,
    reason: StatusReason,
    now: datetime,
    why: tuple[str, ...] = (),
) -> Prepared:
    """The payment ends before anything was sent; a rate it held is given back."""
    release_lock(connection, payment, now)
    moved = payments.move(connection, payment, "payment.failed", now, to=Status.FAILED, reason=reason)
    return Prepared(verdict="declined", status=Status.FAILED, sequence=moved.sequence, reasons=why)


def _proceed(payment: PaymentRow, plan: EffectPlan, quote: Quote | None) -> Prepared:
    return Prepared(
        verdict="proceed",
        status=Status(payment.status),
        sequence=payment.sequence,
        plan=plan,
        quote=None if quote is None else plans.rate_of(quote),
    )


def _locked(connection: Connection, payment: PaymentRow) -> Quote | None:
    if payment.quote_id is None:
        return None
    return get_quote(connection, payment.merchant_id, payment.quote_id, payment.updated_at)[0]


def _reasons(connection: Connection, payment_id: str) -> tuple[str, ...]:
    rows = connection.execute(_REASONS, {"wanted": payment_id}).scalar_one()
    return tuple(f"{row['code']}: {row['observed']} against {row['limit']}" for row in rows)
