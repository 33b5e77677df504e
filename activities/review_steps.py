"""Reviews: ask a person, and carry out what the person decided."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from activities import recording, standing
from activities.contracts import (
    DECIDE_REVIEW,
    OPEN_REVIEW,
    DecideReviewIn,
    OpenReviewIn,
    ReviewDecided,
    ReviewOpened,
    Standing,
)
from activities.edge import Edge
from activities.errors import implements
from corridor.domain.effect import Operation
from corridor.domain.failure import broken
from corridor.domain.ids import Prefix, is_id, new_id
from corridor.domain.outcome import Evidence, Outcome, ProviderAnswer
from corridor.domain.payment import TRANSITIONS, RefundStatus, Status, StatusReason
from corridor.runtime.crash import crash_point
from corridor.storage import effects, payments, refunds, reviews
from corridor.storage.records import Json


class ReviewSteps:
    """Activities around human decisions; each is one transaction."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    @implements(OPEN_REVIEW)
    async def open(self, wanted: OpenReviewIn) -> ReviewOpened:
        """Open the review, once per object and reason, and show the object as waiting for a person.

        An object that has moved on needs nobody: its status is the answer, and no review is opened.
        """
        return await self._edge.database.write(_open, wanted, self._edge.now())

    @implements(DECIDE_REVIEW)
    async def decide(self, wanted: DecideReviewIn) -> ReviewDecided:
        """Record the decision and what follows from it. Raises (final) REVIEW_ALREADY_DECIDED."""
        crash_point("decision.before_commit")
        decided = await self._edge.database.write(self._decide, wanted, self._edge.now())
        crash_point("decision.committed")
        return decided

    def _decide(self, connection: Connection, wanted: DecideReviewIn, now: datetime) -> ReviewDecided:
        payment = payments.lock(connection, reviews.get(connection, wanted.review_id).payment_id)
        review = reviews.get(
            connection, wanted.review_id
        )  # under the lock: evidence may just have answered it
        is_new = review.status == "open"
        decided_at = now if is_new else review.decided_at
        if is_new:
            reviews.decide(connection, review.id, wanted.decision, wanted.decided_by, wanted.note, now)
        executed = None
        match wanted.decision:
            case "approve" if payment.status_reason == StatusReason.RISK_REVIEW:
                payments.move(connection, payment, "payment.review_approved", now, to=Status.PROCESSING)
            case "decline" if payment.status == Status.REQUIRES_REVIEW:
                reason = StatusReason.DECLINED_BY_REVIEWER
                recording.release_lock(connection, payment, now)
                payments.move(connection, payment, "payment.failed", now, to=Status.FAILED, reason=reason)
            case "found" | "absent":
                key = wanted.effect_key or broken("a finding is about an effect")
                deadlines = self._edge.deadlines(effects.get(connection, key).provider)
                executed = recording.record_answer(
                    connection, key, _finding(connection, wanted, key, now), now, deadlines
                )
                _close_without_effect(connection, review.object_id, key, executed.outcome, now)
        payment = payments.load(connection, review.payment_id)
        return ReviewDecided(
            status=Status(payment.status),
            sequence=payment.sequence,
            executed=executed,
            effect_key=wanted.effect_key,
            at=decided_at,
            stands=_stands(connection, payment.id, review.object_id, again=not is_new),
        )


def _finding(connection: Connection, wanted: DecideReviewIn, key: str, now: datetime) -> ProviderAnswer:
    """What a named person found out about the effect, as an answer; the note is the evidence."""
    evidence = Evidence(
        seen_at=now, provider_status=wanted.decision, note=f"{wanted.decided_by}: {wanted.note}"
    )
    effect = effects.get(connection, key)
    if wanted.decision == "absent":
        return ProviderAnswer(outcome=Outcome.NOT_SENT, evidence=evidence)
    return ProviderAnswer(
        outcome=Outcome.APPROVED,
        evidence=evidence,
        amount=effects.amount(effect),
        provider_reference=wanted.provider_reference or effect.provider_reference,
    )


def _close_without_effect(
    connection: Connection, object_id: str, key: str, outcome: Outcome, now: datetime
) -> None:
    """A person proved that nothing was sent: the payment ends as failed (a refund releases its money itself).

    A capture that never happened leaves the authorisation, which the merchant may capture again or cancel.
    """
    if outcome is not Outcome.NOT_SENT or is_id(object_id, Prefix.REFUND):
        return
    payment = payments.lock(connection, object_id)
    if payment.status != Status.REQUIRES_REVIEW:
        return
    if effects.get(connection, key).operation == Operation.CAPTURE:
        payments.move(connection, payment, "payment.authorized", now, to=Status.AUTHORIZED)
    else:
        recording.release_lock(connection, payment, now)
        payments.move(
            connection, payment, "payment.failed", now, to=Status.FAILED, reason=StatusReason.NOT_SENT
        )


def _open(connection: Connection, wanted: OpenReviewIn, now: datetime) -> ReviewOpened:
    payment = payments.lock(connection, wanted.payment_id)
    refund = refunds.lock(connection, wanted.object_id) if is_id(wanted.object_id, Prefix.REFUND) else None
    if not _may_wait(payment if refund is None else refund):
        return _opened(connection, None, payment, wanted, now)
    facts: Json = {**wanted.facts, "looks": _looks(connection, wanted.facts.get("effect"))}
    review = reviews.open_review(
        connection,
        review_id=wanted.review_id or new_id(Prefix.REVIEW, now),
        payment_id=payment.id,
        object_id=wanted.object_id,
        merchant_id=payment.merchant_id,
        reason=wanted.reason,
        evidence=facts,
        now=now,
    )
    if refund is not None:
        if refund.status == RefundStatus.PROCESSING:
            refunds.move(
                connection,
                refund,
                "refund.requires_review",
                now,
                to=RefundStatus.REQUIRES_REVIEW,
                reason=wanted.reason,
            )
    elif payment.status != Status.REQUIRES_REVIEW:
        payment = payments.move(
            connection,
            payment,
            "payment.requires_review",
            now,
            to=Status.REQUIRES_REVIEW,
            reason=wanted.reason,
        )
    return _opened(connection, review, payment, wanted, now)


def _opened(
    connection: Connection,
    review: Any | None,
    payment: Any,
    wanted: OpenReviewIn,
    now: datetime,
) -> ReviewOpened:
    """`review` is None where nobody is asked; a repeat tells when it was opened, which may be by a try that was lost."""
    opened_at = None if review is None else review.created_at
    return ReviewOpened(
        review_id=None if review is None else review.id,
        status=Status(payment.status),
        sequence=payment.sequence,
        reason=wanted.reason,
        facts=wanted.facts,
        at=opened_at or now,
        stands=_stands(connection, payment.id, wanted.object_id, again=opened_at != now),
    )


def _stands(
    connection: Connection, payment_id: str, object_id: str, *, again: bool = False
) -> tuple[Standing, ...]:
    if is_id(object_id, Prefix.REFUND):
        return standing.of_refund(connection, payment_id, object_id, again=again)
    return standing.of_payment(connection, payment_id, again=again)


def _may_wait(row: Any) -> bool:
    """Whether a payment or refund may wait for a person: it does already, or may go there from where it is."""
    if is_id(row.id, Prefix.REFUND):
        return row.status in (RefundStatus.PROCESSING, RefundStatus.REQUIRES_REVIEW)
    return row.status == Status.REQUIRES_REVIEW or Status.REQUIRES_REVIEW in TRANSITIONS[Status(row.status)]


def _looks(connection: Connection, key: str | None) -> list[Json]:
    """Everything seen of the effect so far, for the person who decides."""
    effect = effects.find(connection, key) if key is not None else None
    return list(effect.looks) if effect is not None else []
