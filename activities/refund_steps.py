"""A refund's own steps: reserve its money under the limit, release it when the refund is proven not to happen."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from activities import plans, refund_booking, standing
from activities.contracts import (
    RELEASE_REFUND,
    RESERVE_REFUND,
    EffectPlan,
    RefundIn,
    RefundReleased,
    RefundReserved,
)
from activities.edge import Edge
from activities.errors import CaptureNotKnown, implements
from corridor.domain.effect import Operation
from corridor.domain.failure import Refused
from corridor.domain.money import Money
from corridor.domain.payment import REFUNDABLE, RefundStatus, Status, StatusReason
from corridor.domain.posting import Posting
from corridor.ledger import store
from corridor.runtime.crash import crash_point
from corridor.storage import effects, payments, refunds


class RefundSteps:
    """Activities on a refund; each is one transaction under the payment's row lock."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    @implements(RESERVE_REFUND)
    async def reserve(self, wanted: RefundIn) -> RefundReserved:
        """Reserve the money and declare the effect, or refuse; run again, it returns what stands.

        That is the refund's newest effect: a workflow that was lost or reset may have sent under a second key. Raises
        (retryable) `CaptureNotKnown`.
        """
        crash_point("reservation.before_commit")
        reserved = await self._edge.database.write(self._reserve_and_tell, wanted, self._edge.now())
        crash_point("reservation.committed")
        return reserved

    def _reserve_and_tell(self, connection: Connection, wanted: RefundIn, now: datetime) -> RefundReserved:
        payment = payments.lock(connection, wanted.payment_id)
        refund = refunds.lock(connection, wanted.refund_id)
        earlier = self._reserved_before(connection, payment, refund)
        reserved = earlier or self._reserve(connection, payment, refund, now)
        told = {
            "posted_at": standing.posted_at(connection, reserved.postings),
            "stands": standing.of_refund(connection, payment.id, refund.id, again=earlier is not None),
        }
        return reserved.model_copy(update=told)

    def _reserved_before(self, connection: Connection, payment: Any, refund: Any) -> RefundReserved | None:
        """What an earlier run of this step left behind."""
        if refund.status == RefundStatus.FAILED:
            return RefundReserved(status=RefundStatus.FAILED, refused=refund.status_reason)
        known = effects.newest(connection, payment.id, refund.id, (Operation.REFUND,))
        if known is None:
            return None
        posted = store.posting_by_key(connection, refund_booking.reserve_key(refund.id))
        return _reserved(refund, plans.plan_of(known, self._edge.providers[payment.provider]), posted)

    def _reserve(self, connection: Connection, payment: Any, refund: Any, now: datetime) -> RefundReserved:
        # Refused now, it would be told as failed although the provider may have paid it back before the database was lost.
        status = Status(payment.status)
        if status not in REFUNDABLE and not status.is_terminal:
            raise CaptureNotKnown(payment.id, status)
        refunds.mark_started(connection, refund.id, now)
        try:
            with connection.begin_nested():
                posting = refund_booking.reserve(connection, payment, refund, now)
                amount = Money(refund.amount_minor, refund.currency)
                provider = self._edge.providers[payment.provider]
                plan = plans.declare(
                    connection, provider, payment, Operation.REFUND, refund.id, 1, amount, now
                )
        except Refused as refused:
            refunds.refuse(connection, refund, refused.code, now)
            return RefundReserved(status=RefundStatus.FAILED, refused=refused.code)
        return _reserved(refund, plan, posting)

    @implements(RELEASE_REFUND)
    async def release(self, wanted: RefundIn) -> RefundReleased:
        """Give reserved money back: the refund was proven never to have been sent."""
        return await self._edge.database.write(_release, wanted, self._edge.now())


def _reserved(refund: Any, plan: EffectPlan, posting: Posting | None) -> RefundReserved:
    postings = () if posting is None else (posting,)
    return RefundReserved(status=RefundStatus(refund.status), plan=plan, postings=postings)


def _release(connection: Connection, wanted: RefundIn, now: datetime) -> RefundReleased:
    payment = payments.lock(connection, wanted.payment_id)
    refund = refunds.lock(connection, wanted.refund_id)
    is_new = refund.status in (RefundStatus.PROCESSING, RefundStatus.REQUIRES_REVIEW)
    if is_new:
        refund_booking.release(connection, payment, refund, StatusReason.NOT_SENT, now)
    posted = [store.posting_by_key(connection, key) for key in refund_booking.later_keys(refund.id)]
    postings = tuple(posting for posting in posted if posting is not None)
    refund = refunds.load(connection, refund.id)
    return RefundReleased(
        status=RefundStatus(refund.status),
        postings=postings,
        posted_at=standing.posted_at(connection, postings),
        stands=standing.of_refund(connection, payment.id, refund.id, again=not is_new),
    )
