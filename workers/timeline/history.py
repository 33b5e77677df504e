"""What Temporal knows of one payment: its workflows' steps with their tries, and what woke them, as happenings.

Inputs are never shown: they carry the payment token. Of results only the closed words of our own contracts are taken
(outcome, status, verdict), and of commands and signals the ids and decisions an operator sees anyway.
"""

import json
from collections.abc import AsyncIterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidTag
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from activities.contracts import RECORD
from corridor.domain.ids import Prefix, is_id
from corridor.runtime.histories import fetch
from corridor.storage.records import Json
from workers.histories.reading import requested
from workers.timeline.story import Happening, Kind, Place
from workflows import names

_TELLING = (
    "outcome", "status", "refund_status", "verdict", "review_id", "quote_expired", "amount_mismatch", "accepted",
    "reason", "slippage_bps", "refused", "decision", "decided_by", "requested_by", "provider_event_id", "line_id",
    "effect_key", "absence_is_proof",
)  # fmt: skip
"""The fields of payloads that are shown."""
_CLOSED = {
    "workflow_execution_completed_event_attributes": "the workflow ended",
    "workflow_execution_failed_event_attributes": "the workflow FAILED",
    "workflow_execution_canceled_event_attributes": "the workflow was canceled",
    "workflow_execution_terminated_event_attributes": "the workflow was TERMINATED",
    "workflow_execution_timed_out_event_attributes": "the workflow timed out",
    "workflow_execution_continued_as_new_event_attributes": "the workflow continued as a new run",
    "workflow_task_failed_event_attributes": "a workflow task failed: the build at work could not go on",
    "workflow_task_timed_out_event_attributes": "a workflow task was lost with its worker and given to another",
}
_TROUBLE = {
    "activity_task_failed_event_attributes": ": failed",
    "activity_task_timed_out_event_attributes": ": no answer in time, which proves nothing",
}
_Event = tuple[int, int]
RUN_STRIDE = 1_000_000
"""Event numbers of a later run come after those of an earlier one."""


async def of_payment(client: Client, payment_id: str, refund_ids: Sequence[str]) -> list[Happening]:
    """Every run of the payment's workflow and of its refunds'. Raises `RPCError`; no workflow at all is no story."""
    told: list[Happening] = []
    for object_id in (payment_id, *refund_ids):
        number, copied = 0, set[_Event]()
        async for history in _runs(client, workflow_id_of(object_id)):
            reader = _Reader(object_id, client.data_converter, number)
            told += [it async for it in reader.read(history, copied)]
            copied |= {_event(event) for event in history.events}
            number += RUN_STRIDE
    return told


def workflow_id_of(object_id: str) -> str:
    """The workflow that carries a payment or refund."""
    if is_id(object_id, Prefix.REFUND):
        return names.refund_workflow_id(object_id)
    return names.payment_workflow_id(object_id)


async def _runs(client: Client, workflow_id: str) -> AsyncIterator[WorkflowHistory]:
    """Oldest first. The run in force is asked for by id too, for the list of runs lags behind a little.

    It lags behind retention as well: a run that is listed and gone is left out, as one that is not listed any more.
    """
    listed = [(it.start_time, it.run_id) async for it in client.list_workflows(f'WorkflowId="{workflow_id}"')]
    try:
        newest = await client.get_workflow_handle(workflow_id).describe()
        listed.append((newest.start_time, newest.run_id))
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
    for _, run_id in sorted(set(listed)):
        if (run := await fetch(client, workflow_id, run_id)) is not None:
            yield run.history


@dataclass
class _Reader:
    """Reads one run's history from its first event to its last."""

    object_id: str
    converter: DataConverter
    offset: int
    scheduled: dict[int, HistoryEvent] = field(default_factory=dict)
    started: dict[int, HistoryEvent] = field(default_factory=dict)
    updates: dict[int, str] = field(default_factory=dict)
    admitted: Json = field(default_factory=dict)

    async def read(self, history: WorkflowHistory, copied: Set[_Event]) -> AsyncIterator[Happening]:
        """A run made by a reset begins with a copy of the one before; what was told of that is not told again."""
        for event in history.events:
            told = await self._tell(event, history.run_id)
            if told is not None and _event(event) not in copied:
                yield told

    async def _tell(self, event: HistoryEvent, run_id: str) -> Happening | None:
        kind = str(event.WhichOneof("attributes"))
        if kind in _CLOSED:
            return self._noted(event, _CLOSED[kind])
        match kind.removesuffix("_event_attributes"):
            case "activity_task_scheduled" | "timer_started":
                self.scheduled[event.event_id] = event
            case "activity_task_started":
                self.started[event.activity_task_started_event_attributes.scheduled_event_id] = event
            case "activity_task_completed" | "activity_task_failed" | "activity_task_timed_out":
                return await self._step(event)
            case "marker_recorded":
                return await self._marker(event)
            case "workflow_execution_update_admitted":
                request = event.workflow_execution_update_admitted_event_attributes.request
                self.admitted[request.meta.update_id] = request
            case "workflow_execution_update_completed":
                return await self._answered(event)
        return await self._wake(event, kind.removesuffix("_event_attributes"), run_id)

    async def _wake(self, event: HistoryEvent, kind: str, run_id: str) -> Happening | None:
        """What came from outside, or from the clock."""
        attributes = getattr(event, f"{kind}_event_attributes")
        text, facts = "", Json()
        match kind:
            case "workflow_execution_started":
                text, facts = f"start of {attributes.workflow_id or self.object_id}", {"run": run_id}
            case "workflow_execution_signaled":
                facts = await self._facts(attributes.input)
                text = f"signal {attributes.signal_name}{_in_words(facts)}"
            case "workflow_execution_update_accepted":
                request = requested(attributes, self.admitted)
                name = self.updates[event.event_id] = request.input.name
                facts = await self._facts(request.input.args)
                text = f"update {name}{_in_words(facts)}"
            case "workflow_execution_cancel_requested":
                text = "a cancel of the workflow"
            case "timer_fired":
                text = f"timer {await self._summary(self.scheduled[attributes.started_event_id])}".strip()
            case _:
                return None
        return self._happening(event, text, facts, self._place(event, is_wake=True))

    async def _answered(self, event: HistoryEvent) -> Happening:
        attributes = event.workflow_execution_update_completed_event_attributes
        facts = await self._facts(attributes.outcome.success)
        name = self.updates.get(attributes.accepted_event_id, "")
        return self._noted(event, f"update {name} answered{_in_words(facts)}", facts)

    def _place(self, event: HistoryEvent, **place: Any) -> Place:
        return Place(self.offset + event.event_id, **place)

    def _noted(self, event: HistoryEvent, text: str, facts: Json | None = None) -> Happening:
        return self._happening(event, text, facts or {}, self._place(event))

    def _happening(self, event: HistoryEvent, text: str, facts: Json, place: Place) -> Happening:
        facts = {"history_event": event.event_id, **facts}
        return Happening(_at(event), Kind.WORKFLOW, self.object_id, text, facts, place=place)

    async def _step(self, event: HistoryEvent) -> Happening | None:
        """A regular activity, told where it ended; its tries are counted by Temporal."""
        kind = str(event.WhichOneof("attributes"))
        ended = getattr(event, kind)
        facts = await self._facts(ended.result) if kind.startswith("activity_task_completed") else Json()
        trouble = _TROUBLE.get(kind, "")
        scheduled, started = (
            self.scheduled[ended.scheduled_event_id],
            self.started.get(ended.scheduled_event_id),
        )
        asked = scheduled.activity_task_scheduled_event_attributes
        if asked.activity_type.name == RECORD.name:
            return None  # it is the command that counts
        name, about = asked.activity_type.name, await self._facts(asked.input)
        tries = started.activity_task_started_event_attributes.attempt if started is not None else 0
        text = _told(await self._summary(scheduled) or name, tries, facts) + trouble
        place = self._place(event, began=_at(scheduled), scheduled=self.offset + ended.scheduled_event_id)
        return self._happening(event, text, {"activity": name, "tries": tries, **about, **facts}, place)

    async def _marker(self, event: HistoryEvent) -> Happening | None:
        """A local activity: the marker says which and what it returned."""
        attributes = event.marker_recorded_event_attributes
        if attributes.marker_name != "core_local_activity":
            return None
        data = json.loads(attributes.details["data"].payloads[0].data)
        facts = await self._facts(attributes.details["result"]) if "result" in attributes.details else {}
        tries = int(data.get("attempt", 1))
        text = _told(await self._summary(event) or data["activity_type"], tries, facts)
        place = self._place(event, began=_at(event), scheduled=self.offset + event.event_id)
        return self._happening(
            event, text, {"activity": data["activity_type"], "tries": tries, **facts}, place
        )

    async def _summary(self, event: HistoryEvent) -> str:
        """The words our own code gave a step or timer."""
        if not event.user_metadata.HasField("summary"):
            return ""
        found = await self._decoded([event.user_metadata.summary])
        return str(found[0]) if found else ""

    async def _facts(self, payloads: Payloads) -> Json:
        shown: Json = {}
        for value in await self._decoded(payloads.payloads):
            if isinstance(value, dict):
                shown |= {name: value[name] for name in _TELLING if value.get(name) not in (None, False)}
                if stands := value.get("stands"):
                    shown["wrote"] = {it["object_id"]: it["sequence"] for it in stands}
                if isinstance(plan := value.get("plan"), dict):
                    shown["plan"] = {name: plan[name] for name in ("effect_key", "policy")}
        return shown

    async def _decoded(self, payloads: Sequence[Payload]) -> list[Any]:
        """Nothing for what was sealed with a key that is not in this ring."""
        try:
            return await self.converter.decode(payloads)
        except (KeyError, InvalidTag):
            return []


def _told(words: str, tries: int, facts: Json) -> str:
    return f"{words}{f', try {tries}' if tries > 1 else ''}{_in_words(facts)}"


def _in_words(facts: Json) -> str:
    """`: approved, captured`: the words of a result, without the ids beside them."""
    names_only = ("verdict", "outcome", "decision", "refused", "refund_status", "status", "reason")
    ids = ("provider_event_id", "line_id")
    words = [str(facts[name]) for name in (*names_only, *ids) if name in facts]
    return f": {', '.join(words)}" if words else ""


def _event(event: HistoryEvent) -> _Event:
    return event.event_id, event.event_time.ToNanoseconds()


def _at(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(tzinfo=UTC)
