"""Reviews: a person's decision a workflow waits for, with the evidence and the reason shown."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, tuple_, update

from corridor.domain.failure import Refusal, Refused
from corridor.storage import effects, operator_acts
from corridor.storage.pages import Page
from corridor.storage.records import Json, time_view
from corridor.storage.tables import reviews

ReviewRow = Row[Any]

BY_NOBODY = ("evidence", "payment")
"""Who closes a review that no person had to decide any more: the provider's answer, or the payment's own end."""

_OPEN = select(reviews).where(reviews.c.object_id == bindparam("of_object"), reviews.c.status == "open")
"""Built once: asked after every answer of a provider."""


def open_review(
    connection: Connection,
    *,
    review_id: str,
    payment_id: str,
    object_id: str,
    merchant_id: str,
    reason: str,
    evidence: Json,
    now: datetime,
) -> ReviewRow:
    """Open a review, or return the one already open for the object and reason."""
    existing = connection.execute(
        select(reviews).where(
            reviews.c.object_id == object_id, reviews.c.reason == reason, reviews.c.status == "open"
        )
    ).one_or_none()
    if existing is not None:
        return existing
    opened = insert(reviews).values(
        id=review_id,
        payment_id=payment_id,
        object_id=object_id,
        merchant_id=merchant_id,
        reason=reason,
        evidence=evidence,
        status="open",
        created_at=now,
    )
    return connection.execute(opened.returning(reviews)).one()


def get(connection: Connection, review_id: str) -> ReviewRow:
    """Raises `Refused(NOT_FOUND)`."""
    row = connection.execute(select(reviews).where(reviews.c.id == review_id)).one_or_none()
    if row is None:
        raise Refused(Refusal.NOT_FOUND, "no such review")
    return row


def open_for(connection: Connection, object_id: str) -> list[ReviewRow]:
    """Open reviews of one payment or refund."""
    return list(connection.execute(_OPEN, {"of_object": object_id}).all())


def approved_for(connection: Connection, object_id: str, reason: str) -> str | None:
    """The review of the object, opened for this reason, that a person approved."""
    query = (
        select(reviews.c.id)
        .where(reviews.c.object_id == object_id, reviews.c.reason == reason)
        .where(reviews.c.status == "decided", reviews.c.decision == "approve")
        .order_by(reviews.c.created_at.desc())
        .limit(1)
    )
    found: str | None = connection.execute(query).scalar_one_or_none()
    return found


def page_of_open(connection: Connection, limit: int, after: tuple[datetime, str] | None = None) -> Page:
    """Open reviews of all merchants, oldest first; `after` is the last (created_at, id) of the page before."""
    query = select(reviews).where(reviews.c.status == "open")
    if after is not None:
        query = query.where(tuple_(reviews.c.created_at, reviews.c.id) > after)
    rows = connection.execute(query.order_by(reviews.c.created_at, reviews.c.id).limit(limit + 1)).all()
    return Page(rows[:limit], has_more=len(rows) > limit)


def reference_found(connection: Connection, row: ReviewRow) -> str | None:
    """The provider's own id of what a decision `found`, as its effect has it; None for every other review."""
    key = row.evidence.get("effect") if row.decision == "found" else None
    effect = effects.find(connection, key) if key is not None else None
    return None if effect is None else effect.provider_reference


def decide(
    connection: Connection, review_id: str, decision: str, decided_by: str, note: str, now: datetime
) -> ReviewRow:
    """Record the decision, and whose act it was. Raises `Refused(REVIEW_ALREADY_DECIDED)` if another one stands."""
    changed = connection.execute(
        update(reviews)
        .where(reviews.c.id == review_id, reviews.c.status == "open")
        .values(status="decided", decision=decision, decided_by=decided_by, note=note, decided_at=now)
    ).rowcount
    if changed and decided_by not in BY_NOBODY:
        operator_acts.record_decision(connection, review_id, decision, decided_by, now)
    row = get(connection, review_id)
    if changed == 0 and (row.decision, row.decided_by) != (decision, decided_by):
        raise Refused(
            Refusal.REVIEW_ALREADY_DECIDED,
            f"this review was decided ({row.decision}) by {row.decided_by}; nothing was changed",
            {"decision": row.decision},
        )
    return row


def view(row: ReviewRow, reference: str | None = None) -> Json:
    """The review as operators see it; `reference` is what `reference_found` says of it."""
    return {
        "id": row.id,
        "object": "review",
        "payment": row.payment_id,
        "subject": row.object_id,
        "merchant": row.merchant_id,
        "reason": row.reason,
        "evidence": row.evidence,
        "status": row.status,
        "decision": row.decision,
        "decided_by": row.decided_by,
        "note": row.note,
        "provider_reference": reference,
        "created_at": time_view(row.created_at),
        "decided_at": time_view(row.decided_at),
    }
