"""Replays recorded histories against the workflow code at hand and says, one by one, whether they still fit.

Failures are kept apart: a *nondeterministic* history, or one on which the code *fails*, means this build must not be
deployed as it is; one that is *not replayable* (a missing key, a damaged file) means nothing was learnt about it.

Run as a program, this file serves one process of `corridor.runtime.replay_pool`: histories in, verdicts out. It may
then stand before the code of another revision, so it imports nothing of ours until it is told which code that is.
"""

import asyncio
import base64
import importlib
import json
import os
import pkgutil
import re
import sys
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import History
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import Interceptor, Replayer, UnsandboxedWorkflowRunner, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import NondeterminismError

PASSED_THROUGH = (
    "corridor", "activities", "workflows", "pydantic", "pydantic_core", "iso4217", "annotated_types",
)  # fmt: skip
"""Deterministic or import-only modules the sandbox need not load again for every history."""


class Verdict(StrEnum):
    """What replaying one history showed."""

    FITS = "fits"
    NONDETERMINISTIC = "nondeterministic"
    CODE_FAILS = "code_fails"
    """The history can be read and the code raises on it: the payment would be stuck, not lost."""
    NOT_REPLAYABLE = "not_replayable"
    SKIPPED = "skipped"
    """No workflow task was completed yet, so there is nothing any code must fit."""


@dataclass(frozen=True)
class Replayed:
    """One history and its verdict; `reason` is empty when it fits.

    Where the code diverged: `expected` is what the history has, at event `event_id` (None where the SDK does not say
    which of several it was), `produced` is what the code asked for instead.
    """

    workflow_id: str
    run_id: str
    verdict: Verdict
    reason: str = ""
    event_id: int | None = None
    expected: str = ""
    produced: str = ""


class OneRun(Protocol):
    """A history and its run's own id, which the first event of a reset run does not tell."""

    @property
    def history(self) -> WorkflowHistory: ...
    @property
    def run_id(self) -> str: ...


async def replay(
    histories: AsyncIterable[OneRun | WorkflowHistory],
    workflows: Sequence[type],
    converter: DataConverter,
    interceptors: Sequence[Interceptor] = (),
    runner: WorkflowRunner | None = None,
) -> list[Replayed]:
    """Replay each history to its end, the failing ones included, in this process."""
    verdicts = replaying(histories, workflows, converter, interceptors, runner)
    return [replayed async for replayed in verdicts]


async def replaying(
    histories: AsyncIterable[OneRun | WorkflowHistory],
    workflows: Sequence[type],
    converter: DataConverter,
    interceptors: Sequence[Interceptor] = (),
    runner: WorkflowRunner | None = None,
) -> AsyncIterator[Replayed]:
    """`replay`, a verdict at a time. One replay worker goes through all histories.

    `runner`: the SDK's sandbox by default, in which a clock or a file read in workflow code is an error too.
    """
    replayer = Replayer(
        workflows=workflows,
        data_converter=converter,
        interceptors=interceptors,
        workflow_runner=runner or SandboxedWorkflowRunner(),
    )
    runs: list[tuple[str, bool]] = []

    async def told() -> AsyncIterator[WorkflowHistory]:
        async for given in histories:
            history = given if isinstance(given, WorkflowHistory) else given.history
            run_id = history.run_id if isinstance(given, WorkflowHistory) else given.run_id
            runs.append((run_id, await _opens(history, converter)))
            yield history

    async with replayer.workflow_replay_iterator(told()) as results:
        async for result in results:
            run_id, opens = runs.pop(0)
            yield _judge(result.history, run_id, opens, result.replay_failure)


def workflows_of(package: str = "workflows") -> list[type]:
    """Every workflow the package defines, wherever in it: a new one cannot be forgotten."""
    root = importlib.import_module(package)
    names = (f"{package}.{module.name}" for module in pkgutil.iter_modules(root.__path__))
    return [
        thing
        for module in map(importlib.import_module, names)
        for thing in vars(module).values()
        if isinstance(thing, type)
        and thing.__module__ == module.__name__
        # The mark that `@workflow.defn` leaves; the SDK has no public way to ask.
        and "__temporal_workflow_definition" in vars(thing)
    ]


# --- verdicts --------------------------------------------------------------------------------------------------


async def _opens(history: WorkflowHistory, converter: DataConverter) -> bool:
    """Whether the start can be read with the keys at hand; what fails on it later is then the code."""
    if converter.payload_codec is None or not history.events:
        return True
    started = history.events[0].workflow_execution_started_event_attributes
    try:
        await converter.payload_codec.decode(started.input.payloads)
    except Exception:  # noqa: BLE001 (a codec may raise anything; whatever it is, nothing was learnt)
        return False
    return True


def _judge(history: WorkflowHistory, run_id: str, opens: bool, failure: Exception | None) -> Replayed:
    workflow_id = history.workflow_id
    if failure is None:
        done = any(
            event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED for event in history.events
        )
        return Replayed(workflow_id, run_id, Verdict.FITS if done else Verdict.SKIPPED)
    reason = in_plain_words(str(failure))
    if not isinstance(failure, NondeterminismError):
        verdict = Verdict.CODE_FAILS if opens else Verdict.NOT_REPLAYABLE
        return Replayed(workflow_id, run_id, verdict, reason)
    return Replayed(workflow_id, run_id, Verdict.NONDETERMINISTIC, reason, *_where(history, reason))


def in_plain_words(message: str) -> str:
    """The sentence inside the SDK's rendering of a failure, or its type where the text is sealed."""
    sentence = re.search(r'message: "(.*?)", source:', message, re.DOTALL)
    if sentence is None:
        return message
    if sentence[1] == "Encoded failure":
        kind = re.search(r'r#type: "(.+?)"', message)
        return f"the workflow code raised {kind[1]}" if kind else "the workflow code raised an error"
    return sentence[1].replace('\\"', '"')


def _where(history: WorkflowHistory, reason: str) -> tuple[int | None, str, str]:
    """(event, what the history has there, what the code asked for), as far as the SDK's sentence tells."""
    types = re.search(r"type of scheduled event '(.+?)' does not match .*? command '(.+?)'", reason)
    if types is not None:
        return _only_event(history, types[1]), types[1], types[2]
    event = re.search(r"HistoryEvent\(id: (\d+), (\w+)\)", reason)
    if event is None:
        return None, "", ""
    machine = re.search(r"(\w+) machine does not handle", reason)
    produced = f"a command for a {machine[1].lower()}" if machine else "no command"
    return int(event[1]), event[2], produced


def _only_event(history: WorkflowHistory, activity: str) -> int | None:
    """The event that schedules this activity, if there is just one: the SDK tells the type and not the number."""
    found = [
        event.event_id
        for event in history.events
        if event.activity_task_scheduled_event_attributes.activity_type.name == activity
    ]
    return found[0] if len(found) == 1 else None


# --- as a program: one process of a pool -----------------------------------------------------------------------


def told_line(history: WorkflowHistory, run_id: str) -> bytes:
    """A history as a line for a process of the pool."""
    events = base64.b64encode(History(events=history.events).SerializeToString()).decode()
    told = {"workflow_id": history.workflow_id, "run_id": run_id, "events": events}
    return json.dumps(told).encode() + b"\n"


def read_line(line: bytes) -> Replayed:
    """A verdict as a process of the pool tells it."""
    told = json.loads(line)
    return Replayed(**{**told, "verdict": Verdict(told["verdict"])})


@dataclass(frozen=True)
class _Told:
    history: WorkflowHistory
    run_id: str


async def _given() -> AsyncIterator[_Told]:
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        told = json.loads(line)
        events = History.FromString(base64.b64decode(told["events"])).events
        yield _Told(WorkflowHistory(told["workflow_id"], events), told["run_id"])


async def _serve(answers: BinaryIO, *, sandboxed: bool) -> None:
    from corridor.runtime import client, keys, settings
    from corridor.runtime.converter import make_converter

    loaded = settings.load()
    converter = make_converter(keys.load(loaded), client.namespace(loaded))
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH)
    runner = SandboxedWorkflowRunner(restrictions=restrictions) if sandboxed else UnsandboxedWorkflowRunner()
    workflows = workflows_of()
    code = importlib.import_module("workflows").__path__[0]
    _answer(answers, {"code": str(Path(code).parent), "workflows": [it.__name__ for it in workflows]})
    async for replayed in replaying(_given(), workflows, converter, runner=runner):
        _answer(answers, asdict(replayed))


def _answer(answers: BinaryIO, told: object) -> None:
    answers.write(json.dumps(told).encode() + b"\n")
    answers.flush()


def _main() -> None:
    # The SDK's core writes its warnings to standard output; answers keep the pipe, everything else goes to stderr.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        asyncio.run(_serve(answers, sandboxed="--sandboxed" in sys.argv))


if __name__ == "__main__":
    _main()
