"""Where a step left its objects, for the history: their rows as they stood at the end of the step's transaction.

With these and with what was accepted, the rows, their events and the frozen answers can be made again from histories
alone, and no rule of today is applied to what happened yesterday.

A step that runs again after its commit may find that others followed it: the next local step of the same workflow
task, of which a killed worker reported none, or a refund of a captured payment. Its own event is then not the last one
any more, and no other step knows that it was never told, so a step that finds its work done tells the events before too.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, and_, bindparam, select

from activities.contracts import Former, Standing
from corridor.domain.posting import Posting
from corridor.ledger import store
from corridor.storage.tables import events, payments, refunds

PAYMENT_COLUMNS = (
    "status", "status_reason", "amount_captured_minor", "amount_refund_reserved_minor", "amount_refunded_minor",
    "settled_minor", "settled_charged_minor", "settled_converted_minor", "quote_id", "provider",
    "provider_reference", "next_action", "decline", "authorization_expires_at", "settle_by", "workflow_started_at",
)  # fmt: skip
REFUND_COLUMNS = (
    "status", "status_reason", "reserved_from", "reserved_currency", "reserved_minor", "provider_reference",
    "workflow_started_at", "updated_at",
)  # fmt: skip
"""Every column that changes after the row was accepted, but for `sequence`; a payment's `updated_at` is its event's."""


def _with_event(table: Table, columns: Iterable[str]) -> Select[Any]:
    """A row's own columns with its last event; built once, for every step ends with it."""
    last = and_(events.c.object_id == table.c.id, events.c.sequence == table.c.sequence)
    told = (events.c.type.label("event_type"), events.c.created_at.label("event_at"))
    own = (table.c[name] for name in ("id", "sequence", *columns))
    return select(*own, *told).join(events, last).where(table.c.id == bindparam("wanted"))


_PAYMENT = _with_event(payments, PAYMENT_COLUMNS)
_REFUND = _with_event(refunds, REFUND_COLUMNS)


FORMER_TOLD = 12
"""Events that are told again: what can have happened to one object between a step and its repeat, with room."""

_FORMER = (
    select(events.c.sequence, events.c.type, events.c.created_at, events.c.data)
    .where(events.c.object_id == bindparam("wanted"), events.c.sequence <= bindparam("up_to"))
    .where(events.c.sequence > 1)  # the first is told by what was accepted
    .order_by(events.c.sequence.desc())
    .limit(FORMER_TOLD)
)


def payment_row(connection: Connection, payment_id: str) -> Row[Any]:
    """`PAYMENT_COLUMNS` of the payment as they are now, and its last event, for `told`."""
    return connection.execute(_PAYMENT, {"wanted": payment_id}).one()


def refund_row(connection: Connection, refund_id: str) -> Row[Any]:
    """The same of a refund."""
    return connection.execute(_REFUND, {"wanted": refund_id}).one()


def of_payment(connection: Connection, payment_id: str, *, again: bool = False) -> tuple[Standing, ...]:
    """The payment as it stands now; with its former events where the step found `again` what it had done before."""
    stands = told(payment_row(connection, payment_id), PAYMENT_COLUMNS)
    return (with_former(connection, stands) if again else stands,)


def of_refund(
    connection: Connection, payment_id: str, refund_id: str, *, again: bool = False
) -> tuple[Standing, ...]:
    """The payment and its refund as they stand now, `again` as of a payment."""
    stands = told(refund_row(connection, refund_id), REFUND_COLUMNS)
    refund = with_former(connection, stands) if again else stands
    return (*of_payment(connection, payment_id, again=again), refund)


def with_former(connection: Connection, stands: Standing) -> Standing:
    """The same with the object's last events as they are recorded, oldest first; its own may be one of the lost."""
    rows = connection.execute(_FORMER, {"wanted": stands.object_id, "up_to": stands.sequence}).all()
    former = tuple(
        Former(sequence=row.sequence, event=row.type, at=row.created_at, shown=row.data)
        for row in reversed(rows)
    )
    return stands.model_copy(update={"former": former})


def posted_at(connection: Connection, made: Sequence[Posting]) -> tuple[datetime, ...]:
    """When each of these postings was written, in their order."""
    times = {it.posting.key: it.posted_at for it in store.written(connection, [it.key for it in made])}
    return tuple(times[posting.key] for posting in made)


def told(row: Row[Any], columns: Iterable[str]) -> Standing:
    """The row and its event as histories keep them."""
    held = {name: getattr(row, name) for name in columns}
    return Standing(
        object_id=row.id,
        sequence=row.sequence,
        event=row.event_type,
        at=row.event_at,
        # Null and zero are what a new row begins with, and every byte here is in every history.
        row={name: value for name, value in held.items() if value not in (None, 0)},
    )
