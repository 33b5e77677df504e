"""Retake: one recorded step taken again on a database that does not know it, by the step's own code.

The clock stands at the recorded moment, the history supplies what was decided then (the quote, the review's id, the
provider's answer), and nothing is sent to anyone. So the rows, events, postings and frozen answers come out as they
were. A step the database knows already changes nothing.
"""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, select

from activities import contracts, preparation, recording, refund_booking
from activities.contracts import (
    DecideReviewIn,
    Declared,
    DeclareIn,
    EffectPlan,
    Executed,
    Moved,
    MoveIn,
    OpenReviewIn,
    Prepared,
    RefundIn,
    RefundReleased,
    RefundReserved,
    Requoted,
    ReviewDecided,
    ReviewOpened,
    Settled,
    SettleIn,
    Standing,
)
from activities.edge import Deadlines, Edge
from activities.payment_steps import PaymentSteps, mark_started, renew_lock
from activities.refund_steps import RefundSteps
from activities.review_steps import ReviewSteps
from activities.settle_step import SettleStep
from corridor.domain.effect import EffectState, Operation
from corridor.domain.failure import Refusal, Refused, broken
from corridor.domain.outcome import Outcome
from corridor.domain.payment import RefundStatus, Status, StatusReason
from corridor.domain.quote import Quote
from corridor.fx.store import insert_quote, lock_quote
from corridor.ledger import store
from corridor.storage import effects, payments, refunds
from corridor.storage.tables import quotes, reviews
from workers.histories.reading import StepTaken
from workflows.messages import ReviewCommand, SettlementFact

P = ParamSpec("P")
T = TypeVar("T")


_OF_OTHERS = "it took what other payments of the merchant brought in; a repair takes it again after them"


class NotTold(Exception):
    """The history does not say what the step did: it was written by a build that told less, or was cut off."""


class _Within:
    """The database as the steps know it, inside the one transaction that repairs a payment."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return work(self._connection, *args, **kwargs)

    read = write


class Retake:
    """Takes steps of one payment and of its refunds again, on one connection."""

    def __init__(self, connection: Connection, edge: Edge, payment_id: str) -> None:
        self._connection = connection
        self._edge = edge
        self._payment_id = payment_id
        self._take: dict[str, Callable[[str, StepTaken, Any], None]] = {
            contracts.PREPARE.name: self._prepared,
            contracts.DECLARE.name: self._declared,
            contracts.EXECUTE.name: self._answered,
            contracts.LOOK_UP.name: self._answered,
            contracts.REQUOTE.name: self._requoted,
            contracts.MOVE.name: self._moved,
            contracts.OPEN_REVIEW.name: self._review_opened,
            contracts.DECIDE_REVIEW.name: self._review_decided,
            contracts.SETTLE.name: self._settled,
            contracts.RESERVE_REFUND.name: self._reserved,
            contracts.RELEASE_REFUND.name: self._released,
        }

    def take(self, object_id: str, step: StepTaken, cause: Any) -> None:
        """Take the step of `object_id` (payment or refund) again; `cause` is the command or fact that led to it.

        Raises `NotTold`, and whatever the step's own code raises where the rows do not allow it.
        """
        self._take[step.name](object_id, step, cause)

    # --- payments ------------------------------------------------------------------------------------------------

    def _prepared(self, _object_id: str, step: StepTaken, _cause: Any) -> None:
        told: Prepared = step.result
        payment = payments.lock(self._connection, self._payment_id)
        if told.plan is not None:
            if effects.find(self._connection, told.plan.effect_key) is None:
                self._route(payment, told.plan, told.quote)
            return
        stood = stood_of(told.stands, self._payment_id)
        if payment.sequence >= stood.sequence:
            return
        if stood.row.get("status_reason") == StatusReason.DECLINED_BY_REVIEWER:
            # A reset's preparation found it so: the decision and its review would not be made with it.
            raise NotTold(f"{payment.id}: which decision a person took")
        mark_started(self._connection, payment.id, stood.at)
        if told.review_id is not None:
            preparation.ask_person(self._connection, payment, told.review_id, told.reasons, stood.at)
        else:
            preparation.fail(self._connection, payment, _reason(stood), stood.at, told.reasons)

    def _route(self, payment: Any, plan: EffectPlan, quote: Quote | None) -> None:
        at = plan.declared_at
        mark_started(self._connection, payment.id, at)
        if quote is None and payment.currency != payment.settle_currency:
            raise NotTold(f"{plan.effect_key}: the rate that was locked")
        if quote is not None:
            self._keep_quote(quote)
            quote = lock_quote(self._connection, quote.id, payment.id, at)
        provider = self._edge.providers[plan.provider]
        preparation.take_route(self._connection, payment, provider, plan.operation, quote, at)

    def _keep_quote(self, quote: Quote) -> None:
        known = select(quotes.c.id).where(quotes.c.id == quote.id)
        if self._connection.execute(known).one_or_none() is None:
            insert_quote(self._connection, quote, quote.valid_from)

    def _declared(self, object_id: str, step: StepTaken, _cause: Any) -> None:
        told: Declared = step.result
        _, operation, number = told.plan.effect_key.split(":")
        wanted = DeclareIn(
            payment_id=self._payment_id,
            object_id=object_id,
            operation=Operation(operation),
            number=int(number),
            amount=told.plan.amount,
        )
        done(PaymentSteps(self._at(told.plan.declared_at)).declare(wanted))

    def _answered(self, object_id: str, step: StepTaken, _cause: Any) -> None:
        self._record(step.given.effect_key, step.result, self._payment_id, object_id, step.at)

    def _record(self, key: str, told: Executed, payment_id: str, object_id: str, ended_at: datetime) -> None:
        effect = effects.get(self._connection, key)
        stood = next((it for it in told.stands if it.object_id == object_id), None)
        at = told.resolved_at or (ended_at if stood is None else stood.at)
        if EffectState(effect.state).is_final:
            came_back = told.refund_status is RefundStatus.FAILED and effect.state == EffectState.APPROVED
            if came_back and stood is not None:
                payment = payments.lock(self._connection, payment_id)
                refund_booking.come_back_once(self._connection, payment, object_id, effect.provider, stood.at)
            return
        if told.answer is not None:
            deadlines = self._deadlines(effect, told, at)
            recording.record_answer(self._connection, key, told.answer, at, deadlines)
        elif told.outcome is not Outcome.UNKNOWN and not told.quote_expired:
            raise NotTold(f"{key}: what the provider answered")

    def _deadlines(self, effect: Any, told: Executed, at: datetime) -> Deadlines:
        """The deadlines that were given then, not those of today's settings."""
        today = self._edge.deadlines(effect.provider)
        return Deadlines(
            today.settle_within if told.settle_by is None else told.settle_by - at,
            today.authorization_life
            if told.authorization_expires_at is None
            else told.authorization_expires_at - effect.declared_at,
        )

    def _requoted(self, _object_id: str, step: StepTaken, _cause: Any) -> None:
        told: Requoted = step.result
        payment = payments.lock(self._connection, self._payment_id)
        if not told.accepted or told.quote_id == payment.quote_id:
            return
        if told.quote is None:
            raise NotTold(f"{self._payment_id}: the rate that was locked anew")
        self._keep_quote(told.quote)
        renew_lock(self._connection, payment, told.quote.id, stood_of(told.stands, self._payment_id).at)

    def _moved(self, _object_id: str, step: StepTaken, _cause: Any) -> None:
        told: Moved = step.result
        stood = stood_of(told.stands, self._payment_id)
        wanted = MoveIn(payment_id=self._payment_id, to=told.status, reason=_reason(stood))
        done(PaymentSteps(self._at(stood.at)).move(wanted))

    def _settled(self, _object_id: str, step: StepTaken, cause: Any) -> None:
        told: Settled = step.result
        known = [store.posting_by_key(self._connection, posting.key) for posting in told.postings]
        if all(known):
            return
        if not isinstance(cause, SettlementFact):
            raise NotTold(f"{self._payment_id}: which row of the provider's report was booked")
        at = told.posted_at[0] if told.posted_at else step.at
        wanted = SettleIn(payment_id=self._payment_id, provider=cause.provider, line_id=cause.line_id)
        done(SettleStep(self._at(at)).settle(wanted))

    # --- reviews ---------------------------------------------------------------------------------------------------

    def _review_opened(self, object_id: str, step: StepTaken, _cause: Any) -> None:
        told: ReviewOpened = step.result
        if told.review_id is None or self._review_status(told.review_id) is not None:
            return
        if told.reason is None or told.at is None:
            raise NotTold(f"{told.review_id}: what a person was asked")
        wanted = OpenReviewIn(
            payment_id=self._payment_id,
            object_id=object_id,
            reason=told.reason,
            facts=told.facts,
            review_id=told.review_id,
        )
        done(ReviewSteps(self._at(told.at)).open(wanted))

    def _review_decided(self, _object_id: str, step: StepTaken, cause: Any) -> None:
        told: ReviewDecided = step.result
        if not isinstance(cause, ReviewCommand) or told.at is None:
            raise NotTold(f"{self._payment_id}: which decision a person took")
        if self._review_status(cause.review_id) == "open":
            wanted = DecideReviewIn(**cause.model_dump(), effect_key=told.effect_key)
            done(ReviewSteps(self._at(told.at)).decide(wanted))
        self._fail_unsent(told.stands)

    def _fail_unsent(self, stands: tuple[Standing, ...]) -> None:
        """What followed the decision in the same task, when both answers were lost: only the decision's repeat tells of it.

        Where no effect was ever declared nothing was sent, and nothing but a preparation can have ended the payment.
        """
        payment = payments.lock(self._connection, self._payment_id)
        stood = stood_of(stands, payment.id)
        is_next = (stood.event, stood.sequence) == ("payment.failed", payment.sequence + 1)
        if is_next and payment.status == Status.PROCESSING:
            if effects.of_payment(self._connection, payment.id):
                raise NotTold(f"how {payment.id} failed after an effect was declared")
            preparation.fail(self._connection, payment, _reason(stood), stood.at)

    def _review_status(self, review_id: str) -> str | None:
        query = select(reviews.c.status).where(reviews.c.id == review_id)
        status: str | None = self._connection.execute(query).scalar_one_or_none()
        return status

    # --- refunds ---------------------------------------------------------------------------------------------------

    def _reserved(self, object_id: str, step: StepTaken, _cause: Any) -> None:
        told: RefundReserved = step.result
        # By a clock that was behind, the effect is declared later than the money was reserved.
        declared_at = told.plan.declared_at if told.plan is not None else stood_of(told.stands, object_id).at
        at = told.posted_at[0] if told.posted_at else declared_at
        if told.refused is not None and self._refuse(object_id, told.refused, at):
            return
        wanted = RefundIn(refund_id=object_id, payment_id=self._payment_id)
        reserved: RefundReserved = done(RefundSteps(self._at(at)).reserve(wanted))
        if told.plan is not None and reserved.refused == Refusal.INSUFFICIENT_AVAILABLE:
            raise Refused(Refusal.INSUFFICIENT_AVAILABLE, _OF_OTHERS)

    def _refuse(self, refund_id: str, code: str, at: datetime) -> bool:
        """Refuse again what was refused; the balance of that moment is not to be had, others may be repaired already.

        False when it is no longer as it was accepted.
        """
        payments.lock(self._connection, self._payment_id)
        refund = refunds.lock(self._connection, refund_id)
        if refund.status != RefundStatus.PROCESSING or refund.reserved_from is not None:
            return False
        refunds.mark_started(self._connection, refund_id, at)
        refunds.refuse(self._connection, refund, code, at)
        return True

    def _released(self, object_id: str, step: StepTaken, _cause: Any) -> None:
        told: RefundReleased = step.result
        if refunds.load(self._connection, object_id).status == told.status:
            return
        wanted = RefundIn(refund_id=object_id, payment_id=self._payment_id)
        done(RefundSteps(self._at(stood_of(told.stands, object_id).at)).release(wanted))

    def _at(self, moment: datetime) -> Edge:
        within: Any = _Within(self._connection)
        return replace(self._edge, database=within, now=lambda: moment)


def _reason(stood: Standing) -> StatusReason:
    """Raises `NotTold`."""
    if "status_reason" not in stood.row:
        raise NotTold(f"why {stood.object_id} is {stood.row.get('status')}")
    return StatusReason(stood.row["status_reason"])


def stood_of(stands: tuple[Standing, ...], object_id: str) -> Standing:
    """Where a step left the object. Raises `NotTold`."""
    found = next((stood for stood in stands if stood.object_id == object_id), None)
    if found is None:
        raise NotTold(f"where the step left {object_id}")
    return found


def done(step: Coroutine[Any, Any, T] | Any) -> T:
    """The result of a step that waits for nothing but the database, which is at hand."""
    try:
        step.send(None)
    except StopIteration as finished:
        result: T = finished.value
        return result
    broken("a step of our own waits for nothing but the database")
