"""Golden histories: where they lie, the test key they are sealed with, and what can be read out of them.

A file is never edited, and never deleted while a payment of its version may still run; when a change to a workflow
is meant to be seen in its commands, `VERSION` is raised and a new folder recorded beside the old one.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter

from corridor.runtime.converter import make_converter
from corridor.runtime.keys import KeyRing

HISTORIES = Path(__file__).parent.parent / "histories"
VERSION = "v1"
NAMESPACE = "default"
RING = KeyRing("k1", {"k1": b"published-test-key-of-32-bytes!!"})
"""Published with the histories on purpose: they hold nothing but test data."""

Json = dict[str, Any]


def converter(ring: KeyRing = RING) -> DataConverter:
    """The product's own converter, with the test key."""
    return make_converter(ring, NAMESPACE)


@dataclass(frozen=True)
class Golden:
    """One recorded history and what it is expected to mean."""

    workflow: str
    version: str
    scenario: str
    history: WorkflowHistory
    expected: Json

    @property
    def name(self) -> str:
        return f"{self.workflow}/{self.version}/{self.scenario}"


def all_of_them() -> list[Golden]:
    """Every history on file, of every version."""
    return list(_read(HISTORIES))


def _read(directory: Path) -> Iterator[Golden]:
    for path in sorted(directory.glob("*/*/*.json")):
        if path.name.endswith(".expected.json"):
            continue
        expected = json.loads(path.with_suffix(".expected.json").read_text("utf-8"))
        history = WorkflowHistory.from_json(expected["workflow_id"], path.read_text("utf-8"))
        yield Golden(path.parts[-3], path.parts[-2], path.stem, history, expected)


def save(workflow: str, scenario: str, history: WorkflowHistory, expected: Json) -> None:
    """Write a history and its meaning."""
    path = HISTORIES / workflow / VERSION / f"{scenario}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"events": [MessageToDict(event) for event in history.events]}
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")
    text = json.dumps({"workflow_id": history.workflow_id, **expected}, indent=1, sort_keys=True)
    path.with_suffix(".expected.json").write_text(text + "\n", "utf-8")


# --- what a history says --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One activity as the history tells it; `given` is None for a local one, whose input is not recorded."""

    activity: str
    given: Any
    result: Any


async def steps(history: WorkflowHistory, reader: DataConverter) -> list[Step]:
    """Completed activities, local ones included, in the order of their completion."""
    scheduled: dict[int, HistoryEvent] = {}
    found: list[Step] = []
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled[event.event_id] = event
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            done = event.activity_task_completed_event_attributes
            asked = scheduled[done.scheduled_event_id].activity_task_scheduled_event_attributes
            given = await plain(asked.input.payloads[0], reader)
            found.append(Step(asked.activity_type.name, given, await plain(done.result.payloads[0], reader)))
        elif event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED:
            details = event.marker_recorded_event_attributes.details
            if "result" in details:
                kind = json.loads(details["data"].payloads[0].data)["activity_type"]
                found.append(Step(kind, None, await plain(details["result"].payloads[0], reader)))
    return found


async def result_of(history: WorkflowHistory, reader: DataConverter) -> Any:
    """What the workflow returned, or None while it runs."""
    last = history.events[-1]
    if last.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
        return None
    return await plain(last.workflow_execution_completed_event_attributes.result.payloads[0], reader)


async def plain(payload: Payload, reader: DataConverter) -> Any:
    """A payload as plain JSON."""
    codec = reader.payload_codec
    opened = [payload] if codec is None else await codec.decode([payload])
    return json.loads(opened[0].data)


async def postings(history: WorkflowHistory, reader: DataConverter) -> list[Json]:
    """The ledger as the results of the money steps tell it: each posting once, by its key."""
    told: dict[str, Json] = {}
    for step in await steps(history, reader):
        for posting in _postings_in(step.result):
            told.setdefault(posting["key"], comparable(posting))
    return [told[key] for key in sorted(told)]


def _postings_in(result: Any) -> list[Json]:
    if not isinstance(result, Mapping):
        return []
    nested = result.get("executed")
    return [*result.get("postings", []), *(_postings_in(nested) if nested else [])]


def comparable(posting: Json) -> Json:
    entries = [(entry["account"], entry["amount"]["minor"]) for entry in posting["entries"]]
    return {"key": posting["key"], "entries": [list(entry) for entry in sorted(entries)]}
