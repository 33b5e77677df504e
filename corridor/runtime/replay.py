"""Replays recorded histories against the workflow code at hand and says, one by one, whether they still fit.

Two kinds of failure are kept apart: a *nondeterministic* history means this build must not be deployed as it
is; one that is *not replayable* (a missing key, a damaged file) means nothing was learnt about it.
"""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from temporalio.client import Client, WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import Interceptor, Replayer, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError


class Verdict(StrEnum):
    """What replaying one history showed."""

    FITS = "fits"
    NONDETERMINISTIC = "nondeterministic"
    NOT_REPLAYABLE = "not_replayable"


@dataclass(frozen=True)
class Replayed:
    """One history and its verdict; `reason` is empty when it fits."""

    workflow_id: str
    run_id: str
    verdict: Verdict
    reason: str = ""


async def replay(
    histories: AsyncIterable[WorkflowHistory],
    workflows: Sequence[type],
    converter: DataConverter,
    interceptors: Sequence[Interceptor] = (),
    runner: WorkflowRunner | None = None,
) -> list[Replayed]:
    """Replay each history to its end, the failing ones included. `runner`: the workers' own, or the SDK's default."""
    replayer = Replayer(
        workflows=workflows,
        data_converter=converter,
        interceptors=interceptors,
        workflow_runner=runner or SandboxedWorkflowRunner(),
    )
    results = []
    async for history in histories:
        outcome = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        results.append(_judge(history, outcome.replay_failure))
    return results


async def from_directory(directory: Path) -> AsyncIterator[WorkflowHistory]:
    """Histories in files as `temporal workflow show -o json` writes them; the file's name stands for the id."""
    # Blocking file access is fine: nothing else runs on this loop while a gate replays.
    for path in sorted(directory.rglob("*.json")):  # noqa: ASYNC240
        yield WorkflowHistory.from_json(path.stem, path.read_text("utf-8"))


async def from_server(client: Client, query: str) -> AsyncIterator[WorkflowHistory]:
    """Histories of the namespace that the visibility query selects; all of them for an empty query."""
    async for history in client.list_workflows(query).map_histories():
        yield history


def _judge(history: WorkflowHistory, failure: Exception | None) -> Replayed:
    verdict = Verdict.FITS
    if failure is not None:
        known = isinstance(failure, NondeterminismError)
        verdict = Verdict.NONDETERMINISTIC if known else Verdict.NOT_REPLAYABLE
    return Replayed(history.workflow_id, history.run_id, verdict, "" if failure is None else str(failure))
