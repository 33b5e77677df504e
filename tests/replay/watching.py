"""Watches a workflow while it is replayed: every command it gives the server, and every line of ours it runs.

An interceptor sees activities only. The runner sees what the SDK itself sends: timers, search attributes, answers to
updates, cancellations and patch markers too, in their order.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from google.protobuf.json_format import MessageToDict
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import WorkflowHistory
from temporalio.converter import SerializationContext
from temporalio.worker import (
    UnsandboxedWorkflowRunner,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowRunner,
)
from temporalio.workflow import Info

from corridor.runtime.build import SOURCE
from corridor.runtime.replay import Replayed, replay
from tests.replay.golden import converter
from workers import wiring

ROOT = f"{SOURCE}/"
WATCHED = f"{ROOT}workflows/"
Lines = set[tuple[str, int]]
"""(file below the source directory, line number)"""

_BESIDES = frozenset(
    # Numbers the SDK gives, and values: inputs and results are compared where they can be read (test_golden.py).
    {
        "seq",
        "activityId",
        "headers",
        "arguments",
        "result",
        "output",
        "protocolInstanceId",
        "doNotEagerlyExecute",
    }
)


@dataclass
class Sheet:
    """What was seen of one replay."""

    commands: list[str] = field(default_factory=list)
    lines: Lines = field(default_factory=set)
    verdict: Replayed | None = None


async def watch(history: WorkflowHistory) -> Sheet:
    """Replay one history on the workflow code at hand and tell what was seen, up to where it stopped to fit."""
    sheet = Sheet()

    async def this_one() -> Any:
        yield history

    (sheet.verdict,) = await replay(this_one(), wiring.WORKFLOWS, converter(), runner=Watching(sheet))
    return sheet


class Watching(WorkflowRunner):
    """The unsandboxed runner, with a sheet that its instances write on."""

    def __init__(self, sheet: Sheet) -> None:
        self._inner = UnsandboxedWorkflowRunner()
        self._sheet = sheet

    def prepare_workflow(self, defn: Any) -> None:
        self._inner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _WatchedInstance(self._inner.create_instance(det), self._sheet)


class _WatchedInstance(WorkflowInstance):
    def __init__(self, inner: WorkflowInstance, sheet: Sheet) -> None:
        self._inner = inner
        self._sheet = sheet

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        before = sys.gettrace()
        sys.settrace(_tracer(self._sheet.lines))
        try:
            completion = self._inner.activate(act)
        finally:
            sys.settrace(before)
        self._sheet.commands += map(told, completion.successful.commands)
        return completion

    def get_serialization_context(self, command_info: Any) -> SerializationContext | None:
        return self._inner.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> Any:
        return self._inner.get_external_store_context(command_info)

    def get_info(self) -> Info:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()


def _tracer(lines: Lines) -> Callable[[FrameType, str, Any], Any]:
    def on_line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            lines.add((frame.f_code.co_filename.removeprefix(ROOT), frame.f_lineno))
        return on_line

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return on_line if frame.f_code.co_filename.startswith(WATCHED) else None

    return on_call


def told(command: WorkflowCommand) -> str:
    """A command as one line of text: what it is, then what it asks for; its summary is for people and left out."""
    kind = command.WhichOneof("variant") or "nothing"
    values = MessageToDict(getattr(command, kind))
    asked = {name: value for name, value in values.items() if name not in _BESIDES}
    name = asked.pop("activityType", "")
    if kind == "upsert_workflow_search_attributes":
        asked = {"attributes": sorted(asked["searchAttributes"]["indexedFields"])}
    if kind == "update_response":
        asked = {"answer": sorted(asked)}
    return " ".join(filter(None, [kind, name, *(f"{key}={_plain(asked[key])}" for key in sorted(asked))]))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + " ".join(f"{key}={_plain(value[key])}" for key in sorted(value)) + ")"
    if isinstance(value, list):
        return ",".join(map(_plain, value))
    return str(value)
