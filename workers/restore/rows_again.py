"""The rows of what was accepted, made again from the start of its workflow: payment, refunds, and their requests' keys."""

from datetime import datetime

from sqlalchemy import Connection, select

from corridor.domain.accepted import NewPayment, NewRefund
from corridor.storage import idempotency, payments, refunds
from corridor.storage.tables import idempotency_keys, merchants
from corridor.storage.tables import refunds as refund_table
from workers.histories.reading import Reading
from workers.restore.gaps import Gap, GapKind

NO_MERCHANT = "make the merchant again under this id from a later copy of the database, then run this again"
NOT_ACCEPTED = "its history is gone or tells too little; look it up in the provider's dashboard by this id"
KEY_TAKEN = (
    "after the restore the same request was accepted a second time: two payments stand for one order; refund or"
    " cancel one of them with the merchant"
)


def make_rows(
    connection: Connection, payment_id: str, runs: list[Reading], refund_runs: dict[str, list[Reading]]
) -> list[Gap]:
    """Accept again what is missing, as it was accepted then; returns the gaps, those that no row can be made for too."""
    gaps: list[Gap] = []
    if payments.find(connection, payment_id) is None:
        gaps += _payment(connection, payment_id, runs)
        if payments.find(connection, payment_id) is None:
            return gaps
    known = set(
        connection.execute(select(refund_table.c.id).where(refund_table.c.payment_id == payment_id)).scalars()
    )
    for refund_id, readings in refund_runs.items():
        if refund_id not in known:
            gaps += _refund(connection, refund_id, readings)
    return gaps


def _payment(connection: Connection, payment_id: str, runs: list[Reading]) -> list[Gap]:
    start = runs[0].start if runs else None
    if start is None or start.accepted is None or start.accepted_at is None:
        return [Gap(GapKind.NO_HISTORY, payment_id, "its row cannot be made from what is left", NOT_ACCEPTED)]
    new: NewPayment = start.accepted
    is_known = select(merchants.c.id).where(merchants.c.id == new.merchant_id)
    if connection.execute(is_known).one_or_none() is None:
        return [Gap(GapKind.MERCHANT, payment_id, f"its merchant {new.merchant_id} is missing", NO_MERCHANT)]
    payments.accept(connection, new, start.accepted_at)
    found = f"{new.amount} accepted at {start.accepted_at.isoformat()}"
    return [Gap(GapKind.PAYMENT, payment_id, found), *_claim(connection, new, start.accepted_at)]


def _refund(connection: Connection, refund_id: str, runs: list[Reading]) -> list[Gap]:
    start = runs[0].start
    if start.accepted is None or start.accepted_at is None:
        return [Gap(GapKind.NO_HISTORY, refund_id, "its row cannot be made from what is left", NOT_ACCEPTED)]
    new: NewRefund = start.accepted
    refunds.accept(connection, new, start.accepted_at)
    found = f"{new.amount} accepted at {start.accepted_at.isoformat()}"
    return [Gap(GapKind.REFUND, refund_id, found), *_claim(connection, new, start.accepted_at)]


def _claim(connection: Connection, new: NewPayment | NewRefund, accepted_at: datetime) -> list[Gap]:
    """The request's key stands for what it made; a merchant who repeats the request finds that."""
    if new.asked is None:
        return []
    key = new.asked.idempotency_key
    taken = connection.execute(
        select(idempotency_keys.c.resource_id).where(
            idempotency_keys.c.merchant_id == new.merchant_id, idempotency_keys.c.key == key
        )
    ).scalar_one_or_none()
    if taken is not None and taken != new.id:
        return [Gap(GapKind.KEY_TAKEN, new.id, f"its key {key!r} has made {taken} meanwhile", KEY_TAKEN)]
    idempotency.claim(connection, new.merchant_id, key, new.asked.fingerprint, new.id, accepted_at)
    return [Gap(GapKind.REQUEST, new.id, "the key of the request that made it")]
