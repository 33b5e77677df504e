"""What a history tells without a key: which keys open it, and which builds carried it."""

from collections.abc import Iterator

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowHistory

from corridor.runtime.converter import KEY_ID


def key_ids(history: WorkflowHistory) -> set[str]:
    """Ids of the keys that opening this history takes."""
    return {
        payload.metadata[KEY_ID].decode()
        for event in history.events
        for payload in _payloads(event)
        if KEY_ID in payload.metadata
    }


def builds(history: WorkflowHistory) -> list[str]:
    """Build ids of the workers that completed its tasks, in order of first appearance."""
    found: dict[str, None] = {}
    for event in history.events:
        done = event.workflow_task_completed_event_attributes
        build = done.deployment_version.build_id or done.worker_version.build_id
        if build:
            found[build] = None
    return list(found)


def _payloads(message: Message) -> Iterator[Payload]:
    """Every payload anywhere inside."""
    if isinstance(message, Payload):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            parts = list(value.values())
        else:
            parts = list(value) if field.is_repeated else [value]
        for part in parts:
            if isinstance(part, Message):
                yield from _payloads(part)
