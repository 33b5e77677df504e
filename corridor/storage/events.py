"""Events: a gap-free sequence per object, and later a position in the merchant's feed.

The sequence is written by the one writer of the object, in the transaction of the change it tells of, with the
object's state frozen as it was then. Positions are given after commit by a single sequencer, because database
sequences become visible out of order and a reader paging by them would skip rows.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Integer, Row, Select, bindparam, delete, func, insert, select, update

from corridor.domain.ids import Prefix, created_at, new_id
from corridor.storage.records import Json, time_view
from corridor.storage.tables import event_positions, events, unpositioned_events

_INSERT = insert(events)
_NOTE_UNPOSITIONED = insert(unpositioned_events)
"""Built once: every payment runs these, and building a statement anew takes longer than running it."""


def append(
    connection: Connection,
    *,
    object_type: str,
    object_id: str,
    merchant_id: str,
    sequence: int,
    event_type: str,
    data: Json,
    previous: Json,
    now: datetime,
) -> str:
    """Write event number `sequence` of the object; the UNIQUE key refuses a second one. Returns the event id.

    The id is derived from what the event says, never from when it is said: a transaction that runs again writes the
    same id, and so does a step that is taken again after the database came back older. Whoever was told of the event
    before then knows it by its id.
    """
    said = hashlib.sha256(f"{object_id}:{sequence}:{event_type}".encode()).digest()[:10]
    event_id = new_id(Prefix.EVENT, created_at(object_id), said)
    connection.execute(
        _INSERT,
        {
            "id": event_id, "merchant_id": merchant_id, "object_type": object_type, "object_id": object_id,
            "sequence": sequence, "type": event_type, "data": data, "previous": previous, "created_at": now,
        },
    )  # fmt: skip
    connection.execute(_NOTE_UNPOSITIONED, {"event_id": event_id, "merchant_id": merchant_id})
    return event_id


def of_object(
    connection: Connection, merchant_id: str, object_id: str, after_sequence: int, limit: int
) -> list[Json]:
    """The object's events after `after_sequence`, in order."""
    query = (
        select(events, event_positions.c.position)
        .outerjoin(event_positions, event_positions.c.event_id == events.c.id)
        .where(events.c.object_id == object_id, events.c.merchant_id == merchant_id)
        .where(events.c.sequence > after_sequence)
        .order_by(events.c.sequence)
        .limit(limit)
    )
    return [event_view(row) for row in connection.execute(query)]


def feed(connection: Connection, merchant_id: str, after_position: int, limit: int) -> list[Json]:
    """The merchant's events after `after_position`, in feed order; never skips one that commits later."""
    query = (
        select(events, event_positions.c.position)
        .join(event_positions, event_positions.c.event_id == events.c.id)
        .where(event_positions.c.merchant_id == merchant_id, event_positions.c.position > after_position)
        .order_by(event_positions.c.position)
        .limit(limit)
    )
    return [event_view(row) for row in connection.execute(query)]


def by_id(connection: Connection, event_id: str) -> Json | None:
    """One event as merchants see it, whoever owns it; callers check the owner."""
    query = (
        select(events, event_positions.c.position)
        .outerjoin(event_positions, event_positions.c.event_id == events.c.id)
        .where(events.c.id == event_id)
    )
    row = connection.execute(query).one_or_none()
    return event_view(row) if row is not None else None


def first_of_type(connection: Connection, object_id: str, event_type: str) -> Row[Any] | None:
    """The object's first event of this type, if there was one."""
    query = (
        select(events)
        .where(events.c.object_id == object_id, events.c.type == event_type)
        .order_by(events.c.sequence)
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def assign_positions(connection: Connection, limit: int, beyond: int = 0) -> int:
    """Give feed positions to committed events. One caller at a time (see the relay's lock). Returns how many.

    Every place is after `beyond`: places up to there may have been given before, by a database that was lost.
    By time, but never against an object's own sequence: two processes that wrote it may have clocks apart.
    """
    waiting = connection.execute(_WAITING, {"most": limit}).all()
    if not waiting:
        return 0
    last = max(beyond, last_position(connection))
    connection.execute(
        insert(event_positions),
        [
            {"position": last + number, "event_id": row.event_id, "merchant_id": row.merchant_id}
            for number, row in enumerate(waiting, start=1)
        ],
    )
    connection.execute(
        delete(unpositioned_events).where(
            unpositioned_events.c.event_id.in_([row.event_id for row in waiting])
        )
    )
    return len(waiting)


def _waiting() -> Select[Any]:
    """The outbox is read first, as a table of its own: a window over the join would walk every event there is."""
    outbox = (
        select(unpositioned_events, events.c.object_id, events.c.sequence, events.c.created_at)
        .join(events, events.c.id == unpositioned_events.c.event_id)
        .cte("outbox")
        .prefix_with("MATERIALIZED")
    )
    reached = func.max(outbox.c.created_at).over(partition_by=outbox.c.object_id, order_by=outbox.c.sequence)
    ordered = select(outbox.c.event_id, outbox.c.merchant_id).order_by(
        reached, outbox.c.object_id, outbox.c.sequence
    )
    return ordered.limit(bindparam("most", type_=Integer))


_WAITING = _waiting()


def last_position(connection: Connection) -> int:
    """The newest place in the feed; 0 when none was given."""
    newest = select(func.coalesce(func.max(event_positions.c.position), 0))
    return int(connection.execute(newest).scalar_one())


def undispatched(connection: Connection, limit: int) -> list[Row[Any]]:
    """(position, id, merchant_id, type, data) of events whose webhook deliveries were not started yet."""
    query = (
        select(event_positions.c.position, events.c.id, events.c.merchant_id, events.c.type, events.c.data)
        .join(events, events.c.id == event_positions.c.event_id)
        .where(event_positions.c.dispatched_at.is_(None))
        .order_by(event_positions.c.position)
        .limit(limit)
    )
    return [*connection.execute(query)]


def mark_dispatched(connection: Connection, positions: Iterable[int], now: datetime) -> None:
    connection.execute(
        update(event_positions)
        .where(event_positions.c.position.in_(list(positions)))
        .values(dispatched_at=now)
    )


def event_view(row: Row[Any]) -> Json:
    """The event as every channel sends it (GET, stream and webhook bodies are the same)."""
    return {
        "id": row.id,
        "object": "event",
        "type": row.type,
        "timestamp": time_view(row.created_at),
        "merchant": row.merchant_id,
        "subject": {"type": row.object_type, "id": row.object_id},
        "sequence": row.sequence,
        "position": row.position,
        "data": row.data,
        "previous": row.previous,
    }
