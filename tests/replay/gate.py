"""The replay gate: the product's own workflows, sandbox and converter over recorded histories, and what they ask for.

A replay alone passes changed arguments and changed results, so an interceptor keeps both for comparison with the
history (inputs of remote activities, the result) and with the file (inputs of local ones, which histories lack).
"""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic import BaseModel
from temporalio.client import WorkflowHistory
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    StartActivityInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.workflow import ActivityHandle

from corridor.runtime.keys import KeyRing
from corridor.runtime.replay import Replayed, replay
from tests.replay.golden import RING, Json, converter
from workers import fleet, wiring


class Recorder(Interceptor):
    """Keeps what the workflow asks of activities, in order, and what it returns."""

    def __init__(self) -> None:
        self.commands: list[Json] = []
        self.result: Any = None

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002 — the SDK's name for it
    ) -> type[WorkflowInboundInterceptor]:
        recorder = self

        class Outbound(WorkflowOutboundInterceptor):
            def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:  # noqa: A002
                recorder.commands.append(
                    _command("remote", input.activity, input.args, input.start_to_close_timeout)
                )
                return self.next.start_activity(input)

            def start_local_activity(self, input: StartLocalActivityInput) -> ActivityHandle[Any]:  # noqa: A002
                recorder.commands.append(
                    _command("local", input.activity, input.args, input.start_to_close_timeout)
                )
                return self.next.start_local_activity(input)

        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(Outbound(outbound))

            async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002
                recorder.result = await super().execute_workflow(input)
                return recorder.result

        return Inbound


def _command(kind: str, activity: str, arguments: Sequence[Any], timeout: Any) -> Json:
    return {
        "kind": kind,
        "activity": activity,
        "input": [plain(argument) for argument in arguments],
        "start_to_close_seconds": timeout.total_seconds(),
    }


def plain(value: Any) -> Any:
    """A value as the converter would write it, as plain JSON."""
    return json.loads(value.model_dump_json()) if isinstance(value, BaseModel) else value


def said(value: Any) -> Any:
    """Plain JSON without what is absent: a field added with None as its default asks for nothing new."""
    if isinstance(value, dict):
        return {name: said(inner) for name, inner in value.items() if inner is not None}
    return [said(inner) for inner in value] if isinstance(value, list) else value


async def replayed(
    history: WorkflowHistory,
    ring: KeyRing = RING,
    recorder: Recorder | None = None,
    workflows: Sequence[type] = wiring.WORKFLOWS,
) -> Replayed:
    """Replay one history to its end and judge it."""
    interceptors = [] if recorder is None else [recorder]
    (verdict,) = await replay(_one(history), workflows, converter(ring), interceptors, fleet.runner())
    return verdict


async def _one(history: WorkflowHistory) -> AsyncIterator[WorkflowHistory]:
    yield history


async def commands_of(history: WorkflowHistory) -> list[Json]:
    """What this build asks of activities along the history, with every argument."""
    recorder = Recorder()
    await replayed(history, recorder=recorder)
    return recorder.commands
