"""What kept the late ones: the histories of payments that took too long after the faults, event by event."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.service import RPCError

from corridor.runtime import client as temporal_client
from corridor.runtime.settings import Settings
from workflows import names

MOST = 6
_ATTRIBUTES: Mapping[str, Callable[[Any], str]] = {
    "activity_task_scheduled_event_attributes": lambda it: it.activity_type.name,
    "activity_task_started_event_attributes": lambda it: (
        f"attempt {it.attempt} {it.last_failure.message[:90]}"
    ),
    "activity_task_failed_event_attributes": lambda it: it.failure.message[:120],
    "activity_task_timed_out_event_attributes": lambda it: it.failure.message[:120],
    "timer_started_event_attributes": lambda it: f"{it.start_to_fire_timeout.seconds} s",
    "workflow_task_timed_out_event_attributes": lambda it: str(it.timeout_type),
    "workflow_task_failed_event_attributes": lambda it: it.failure.message[:160],
}


async def of(settings: Settings, payment_ids: Iterable[str]) -> list[str]:
    """The timelines of the first few, as text."""
    connected = await temporal_client.connect(settings)
    lines: list[str] = []
    for payment_id in list(payment_ids)[:MOST]:
        handle = connected.get_workflow_handle(names.payment_workflow_id(payment_id))
        try:
            history = await handle.fetch_history()
        except RPCError as error:
            lines.append(f"{payment_id}: no history ({error.message})")
            continue
        lines += [payment_id, *_timeline(history.events)]
    return lines


def _timeline(events: Iterable[HistoryEvent]) -> Iterator[str]:
    for event in events:
        at = event.event_time.ToDatetime(tzinfo=UTC)
        yield f"  {_seconds(at)}  {EventType.Name(event.event_type).removeprefix('EVENT_TYPE_').lower()} {_about(event)}"


def _about(event: HistoryEvent) -> str:
    which = event.WhichOneof("attributes")
    tell = _ATTRIBUTES.get(which or "")
    return "" if tell is None or which is None else tell(getattr(event, which))


def _seconds(at: datetime) -> str:
    return at.strftime("%H:%M:%S.%f")[:-4]
