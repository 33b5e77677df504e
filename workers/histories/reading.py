"""What one workflow history says, decoded and typed: the start, each step with its input and result, what came in.

A history is read as it stands and judged by nobody here: values have the types of `activities.contracts` and
`workflows.messages`. What this build cannot read (a step it does not know, a field a newer build added) stays as plain
JSON and is listed in `unread`; a history whose key is missing raises `Sealed`, because nothing was learnt of it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidTag
from pydantic import ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter

from activities import contracts
from activities.contracts import Step
from corridor.domain.outcome import Frozen
from workers.histories.labels import builds, key_ids
from workflows import messages, names

STEPS: Mapping[str, Step[Any, Any]] = {
    step.name: step for step in vars(contracts).values() if isinstance(step, Step)
}
STARTS: Mapping[str, type[Frozen]] = {
    names.PAYMENT: messages.PaymentStart,
    names.REFUND: messages.RefundStart,
    names.SETTLEMENT: messages.SettlementStart,
    names.WEBHOOK_DELIVERY: messages.DeliveryStart,
}
ANSWERS: Mapping[str, type[Frozen]] = {
    names.PAYMENT: messages.PaymentAnswer,
    names.REFUND: messages.RefundAnswer,
}
COMMANDS: Mapping[str, type[Frozen]] = {
    names.CAPTURE: messages.CaptureCommand,
    names.CANCEL: messages.CancelCommand,
    names.DECIDE_REVIEW: messages.ReviewCommand,
}
SIGNALS: Mapping[str, type[Frozen]] = {
    names.PROVIDER_HINT: messages.ProviderHint,
    names.SETTLEMENT_FACT: messages.SettlementFact,
}
LOCAL_ACTIVITY = "core_local_activity"
"""The SDK's name for the marker that stands for a local activity; it holds the result and not the input."""

_CLOSED = {
    "workflow_execution_completed": "completed",
    "workflow_execution_failed": "failed",
    "workflow_execution_canceled": "canceled",
    "workflow_execution_terminated": "terminated",
    "workflow_execution_timed_out": "timed_out",
    "workflow_execution_continued_as_new": "continued_as_new",
}
_RESET = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW
_ENDINGS = ("completed", "failed", "timed_out", "canceled")

Value = Any
"""A `Frozen` model where this build knows the type, else plain JSON; None where there is no payload."""


class Sealed(Exception):
    """The history cannot be opened with this key ring: a key is missing, or it is sealed for another namespace."""


@dataclass(frozen=True)
class StepTaken:
    """One activity, where it ended; `ending` is completed, failed, timed_out or canceled, or `open` while it runs.

    `given` is None for a local step: its input is in no history. `at` is when the workflow was told of the end; of a
    local step, when it ended. Only the last attempt of a step is in a history.
    """

    event_id: int
    name: str
    is_local: bool
    ending: str
    at: datetime
    scheduled_at: datetime
    attempt: int
    given: Value = None
    result: Value = None
    failure: str | None = None
    """Type of the failure, of those that did not complete: a refusal's code, `TimeoutError`, …"""


@dataclass(frozen=True)
class SignalSeen:
    event_id: int
    name: str
    at: datetime
    argument: Value


@dataclass(frozen=True)
class UpdateSeen:
    """An update the workflow accepted; `answered_at` is None while it is carried out."""

    event_id: int
    name: str
    update_id: str
    at: datetime
    argument: Value = None
    answered_at: datetime | None = None
    answer: Value = None
    failure: str | None = None


@dataclass(frozen=True)
class Reading:
    """One run. `first_run_id` and `workflow_id` chain resets, resumes and continued runs of one business object."""

    workflow_type: str
    workflow_id: str
    run_id: str
    first_run_id: str
    started_at: datetime
    """When this run began: a reset's first event is a copy, of the moment at which the run before it began."""
    last_event_at: datetime
    event_count: int
    ending: str
    """`running`, completed, failed, canceled, terminated, timed_out, continued_as_new."""
    start: Value
    answer: Value
    steps: tuple[StepTaken, ...]
    signals: tuple[SignalSeen, ...]
    updates: tuple[UpdateSeen, ...]
    builds: tuple[str, ...]
    """Build ids of the workers that carried it, in order of first appearance."""
    key_ids: tuple[str, ...]
    unread: tuple[str, ...]
    """`event 9: …`, one for each step or value this build could not read; the value is there as plain JSON."""

    @property
    def is_closed(self) -> bool:
        return self.ending != "running"

    @property
    def object_id(self) -> str:
        """The payment, refund, delivery or (of a settlement) provider the run is about."""
        return self.workflow_id.partition("-")[2]

    @property
    def decisions(self) -> list[messages.ReviewCommand]:
        """What persons decided, in order: each led to one step. One that came too late is answered, and led to none."""
        return [
            update.argument
            for update in self.updates
            if isinstance(update.argument, messages.ReviewCommand) and not _was_refused(update)
        ]

    def of(self, step: Step[Any, Any]) -> list[StepTaken]:
        """Completed steps of this kind, in order."""
        return [taken for taken in self.steps if taken.name == step.name and taken.ending == "completed"]


def _was_refused(update: UpdateSeen) -> bool:
    return update.failure is not None or getattr(update.answer, "refused", None) is not None


async def read(history: WorkflowHistory, converter: DataConverter, run_id: str | None = None) -> Reading:
    """Read one run's history. `run_id`: of a reset run, whose copied first event names the run it came from.

    Raises `Sealed` when it cannot be opened.
    """
    try:
        return await _Reader(history, converter).read(run_id or history.run_id)
    except (KeyError, InvalidTag) as error:
        raise Sealed(f"{history.workflow_id} is sealed with a key that is not at hand: {error}") from error


def requested(accepted: Any, admitted: Mapping[str, Any]) -> Any:
    """The request of an update that was accepted. One that a reset brought along was admitted, and is there alone."""
    return admitted.get(accepted.protocol_instance_id, accepted.accepted_request)


@dataclass
class _Reader:
    """Goes through the events once; what was asked and what came of it are paired by event id."""

    history: WorkflowHistory
    converter: DataConverter
    asked: dict[int, HistoryEvent] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)
    steps: dict[int, StepTaken] = field(default_factory=dict)
    signals: list[SignalSeen] = field(default_factory=list)
    updates: dict[int, UpdateSeen] = field(default_factory=dict)
    admitted: dict[str, Any] = field(default_factory=dict)
    ending: str = "running"
    answer: Value = None
    unread: list[str] = field(default_factory=list)
    reset_at: datetime | None = None

    async def read(self, run_id: str) -> Reading:
        first, last = self.history.events[0], self.history.events[-1]
        started = first.workflow_execution_started_event_attributes
        kind = started.workflow_type.name
        start = await self._value(first, started.input.payloads, STARTS.get(kind))
        for event in self.history.events:
            await self._take(
                event, str(event.WhichOneof("attributes")).removesuffix("_event_attributes"), kind
            )
        return Reading(
            workflow_type=kind,
            workflow_id=self.history.workflow_id,
            run_id=run_id,
            first_run_id=started.first_execution_run_id or run_id,
            started_at=self.reset_at or _at(first),
            last_event_at=_at(last),
            event_count=len(self.history.events),
            ending=self.ending,
            start=start,
            answer=self.answer,
            steps=tuple(self.steps[number] for number in sorted(self.steps)),
            signals=tuple(self.signals),
            updates=tuple(self.updates.values()),
            builds=tuple(builds(self.history)),
            key_ids=tuple(sorted(key_ids(self.history))),
            unread=tuple(self.unread),
        )

    async def _take(self, event: HistoryEvent, kind: str, workflow_type: str) -> None:
        attributes: Any = getattr(event, f"{kind}_event_attributes")
        if kind == "workflow_task_failed" and attributes.cause == _RESET:
            self.reset_at = _at(event)  # of several the last: the others were copied with the rest
        elif kind in _CLOSED:
            self.ending = _CLOSED[kind]
            if kind == "workflow_execution_completed":
                told = ANSWERS.get(workflow_type)
                self.answer = await self._value(event, attributes.result.payloads, told)
        elif kind == "activity_task_scheduled":
            await self._scheduled(event, attributes)
        elif kind == "activity_task_started":
            self.tries[attributes.scheduled_event_id] = attributes.attempt
        elif kind.startswith("activity_task_") and kind.removeprefix("activity_task_") in _ENDINGS:
            await self._ended(event, attributes, kind.removeprefix("activity_task_"))
        elif kind == "marker_recorded" and attributes.marker_name == LOCAL_ACTIVITY:
            await self._local(event, attributes)
        elif kind == "workflow_execution_signaled":
            told = SIGNALS.get(attributes.signal_name)
            argument = await self._value(event, attributes.input.payloads, told)
            self.signals.append(SignalSeen(event.event_id, attributes.signal_name, _at(event), argument))
        elif kind == "workflow_execution_update_admitted":
            self.admitted[attributes.request.meta.update_id] = attributes.request
        elif kind == "workflow_execution_update_accepted":
            await self._accepted(event, requested(attributes, self.admitted))
        elif kind == "workflow_execution_update_completed":
            await self._answered(event, attributes, workflow_type)

    async def _scheduled(self, event: HistoryEvent, asked: Any) -> None:
        self.asked[event.event_id] = event
        name = asked.activity_type.name
        self._know(event, name)
        given = await self._value(event, asked.input.payloads, STEPS[name].takes if name in STEPS else None)
        at = _at(event)
        self.steps[event.event_id] = StepTaken(event.event_id, name, False, "open", at, at, 0, given)

    def _know(self, event: HistoryEvent, step: str) -> None:
        if step not in STEPS:
            self.unread.append(f"event {event.event_id}: this build has no step {step}")

    async def _ended(self, event: HistoryEvent, ended: Any, ending: str) -> None:
        step = self.steps[ended.scheduled_event_id]
        result = None
        if ending == "completed":
            gives = STEPS[step.name].gives if step.name in STEPS else None
            result = await self._value(event, ended.result.payloads, gives)
        self.steps[ended.scheduled_event_id] = StepTaken(
            event.event_id,
            step.name,
            False,
            ending,
            _at(event),
            step.scheduled_at,
            self.tries.get(ended.scheduled_event_id, 0),
            step.given,
            result,
            None if ending == "completed" else _failure(ended, ending),
        )

    async def _local(self, event: HistoryEvent, marker: Any) -> None:
        data = json.loads(marker.details["data"].payloads[0].data)
        name, result = str(data["activity_type"]), None
        self._know(event, name)
        if "result" in marker.details:
            gives = STEPS[name].gives if name in STEPS else None
            result = await self._value(event, marker.details["result"].payloads, gives)
        failed = marker.HasField("failure")
        self.steps[event.event_id] = StepTaken(
            event.event_id,
            name,
            True,
            "failed" if failed else "completed",
            _moment(data.get("complete_time")) or _at(event),
            _moment(data.get("original_schedule_time")) or _at(event),
            int(data.get("attempt", 1)),
            None,
            result,
            _failure(marker, "failed") if failed else None,
        )

    async def _accepted(self, event: HistoryEvent, request: Any) -> None:
        name = request.input.name
        argument = await self._value(event, request.input.args.payloads, COMMANDS.get(name))
        self.updates[event.event_id] = UpdateSeen(
            event.event_id, name, request.meta.update_id, _at(event), argument
        )

    async def _answered(self, event: HistoryEvent, attributes: Any, workflow_type: str) -> None:
        asked = self.updates[attributes.accepted_event_id]
        is_accept = asked.name == names.ACCEPT
        told = ANSWERS.get(workflow_type) if is_accept else messages.CommandDone
        answer = await self._value(event, attributes.outcome.success.payloads, told)
        failure = attributes.outcome.failure
        self.updates[attributes.accepted_event_id] = UpdateSeen(
            asked.event_id,
            asked.name,
            asked.update_id,
            asked.at,
            asked.argument,
            _at(event),
            answer,
            failure.application_failure_info.type if attributes.outcome.HasField("failure") else None,
        )

    async def _value(
        self, event: HistoryEvent, payloads: Sequence[Payload], told: type[Frozen] | None
    ) -> Value:
        """The first payload: every workflow, step, update and signal of ours takes and gives one value."""
        if not payloads:
            return None
        codec = self.converter.payload_codec
        (opened, *_) = payloads if codec is None else await codec.decode(payloads[:1])
        if not opened.data:
            return None
        if told is None:
            return json.loads(opened.data)
        try:
            return told.model_validate_json(opened.data)
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            self.unread.append(f"event {event.event_id}: {told.__name__}.{where}: {problem['msg']}")
            return json.loads(opened.data)


def _failure(ended: Any, ending: str) -> str:
    """The type of what went wrong; the application's own word (a refusal's code) where there is one."""
    if ending != "failed":
        return ending
    failure = ended.failure
    while failure.HasField("cause") and not failure.application_failure_info.type:
        failure = failure.cause
    return str(failure.application_failure_info.type or failure.WhichOneof("failure_info") or "failed")


def _moment(told: Any) -> datetime | None:
    """A time as the SDK writes it into a marker."""
    if not isinstance(told, Mapping):
        return None
    return datetime.fromtimestamp(int(told["seconds"]), UTC).replace(microsecond=int(told["nanos"]) // 1000)


def _at(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(tzinfo=UTC)
