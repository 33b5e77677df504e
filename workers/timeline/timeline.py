"""The timeline of one payment: read the database, join the workflow's history, and stop at any event."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from temporalio.client import Client
from temporalio.service import RPCError

from corridor.domain.failure import Refusal, Refused
from corridor.runtime.refused import SettingsRefused
from corridor.storage.database import Database
from workers.timeline import history as timeline_history
from workers.timeline import rows as timeline_rows
from workers.timeline.moment import moment
from workers.timeline.rows import Rows
from workers.timeline.story import Happening, Timeline, find_event, in_order

Connect = Callable[[], Awaitable[Client]]


async def tell(database: Database, connect: Connect, payment_id: str, at: str | None = None) -> Timeline:
    """The payment's story; with `at` (an event's number or id) also how it stood then, and no later happening.

    Without Temporal the database's part is told and the gap is named. Raises `Refused(NOT_FOUND)` for an unknown
    payment, `NoSuchEvent` for an unknown event and `DatabaseUnavailable`.
    """
    rows = await database.read(timeline_rows.read, payment_id)
    if rows is None:
        raise Refused(Refusal.NOT_FOUND, f"no payment {payment_id}")
    woven, problem = await _history(connect, rows)
    story = in_order(timeline_rows.happenings(rows), woven)
    told = Timeline(timeline_rows.shown(_latest(rows)), story, problem)
    if at is None:
        return told
    event = find_event(story, payment_id, at)
    stood = await database.read(moment, rows, story, event)
    return replace(told, happenings=_until(story, event), moment=stood)


def _latest(rows: Rows) -> dict[str, object]:
    own = [row for row in rows.events if row.object_id == rows.payment.id]
    return dict(max(own, key=lambda row: int(row.sequence)).data)


async def _history(connect: Connect, rows: Rows) -> tuple[list[Happening], str | None]:
    """Temporal's part, or why there is none: out of reach, or its history is gone (retention, a lost store)."""
    try:
        client = await connect()
        woven = await timeline_history.of_payment(client, rows.payment.id, rows.refund_ids)
    except (RuntimeError, RPCError, SettingsRefused) as error:
        return [], f"Temporal cannot be reached: {in_short(error)}"
    return woven, None if woven else "Temporal has no history of this payment any more"


def in_short(error: Exception) -> str:
    """The SDK's own words, without the transport's."""
    return str(error).splitlines()[0].partition(": tonic")[0]


def _until(story: tuple[Happening, ...], event: Happening) -> tuple[Happening, ...]:
    return story[: story.index(event) + 1]
