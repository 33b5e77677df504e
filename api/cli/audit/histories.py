"""The run's workflow histories: replayed against this build, and read for what was retried."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer, WorkflowReplayResult
from temporalio.workflow import NondeterminismError

from activities.contracts import LOOK_UP
from corridor.runtime import client as temporal_client
from corridor.runtime.replay import Replayed, Verdict
from corridor.runtime.settings import Settings
from workers import fleet, wiring

FETCHED_AT_ONCE = 8


@dataclass(frozen=True)
class Retries:
    """What one history shows of trouble."""

    again: int
    """activity attempts beyond the first, of those that ended"""
    looks: int
    """look-ups at the provider"""
    lost: int
    """workflow tasks that no worker brought back"""

    def __str__(self) -> str:
        words = ((self.again, "sent again"), (self.looks, "looked up"), (self.lost, "workflow task lost"))
        return ", ".join(f"{what} {count}×" for count, what in words if count)


@dataclass
class Histories:
    """Verdicts of the replay and retries by workflow id."""

    replayed: list[Replayed] = field(default_factory=list)
    retries: dict[str, Retries] = field(default_factory=dict)


async def replay_all(settings: Settings) -> Histories:
    """Fetch every history of the namespace, running workflows included, and replay each to where it stands.

    One replay worker goes through all of them, sandboxed as the real workers are.
    """
    connected = await temporal_client.connect(settings)
    replayer = Replayer(
        workflows=wiring.WORKFLOWS,
        data_converter=connected.data_converter,
        workflow_runner=fleet.runner(),
    )
    found = Histories()
    async with replayer.workflow_replay_iterator(_reading(_fetched(connected), found)) as results:
        found.replayed = [_judged(result) async for result in results]
    return found


def _judged(result: WorkflowReplayResult) -> Replayed:
    failure, verdict = result.replay_failure, Verdict.FITS
    if failure is not None:
        known = isinstance(failure, NondeterminismError)
        verdict = Verdict.NONDETERMINISTIC if known else Verdict.NOT_REPLAYABLE
    return Replayed(result.history.workflow_id, result.history.run_id, verdict, str(failure or ""))


async def _fetched(client: Client) -> AsyncIterator[WorkflowHistory]:
    """Several at once: fetching waits for the server, replaying for the processor."""
    gate = asyncio.Semaphore(FETCHED_AT_ONCE)

    async def fetch(workflow_id: str, run_id: str) -> WorkflowHistory:
        async with gate:
            return await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()

    executions = [execution async for execution in client.list_workflows()]
    tasks = [asyncio.create_task(fetch(it.id, it.run_id)) for it in executions]
    for task in tasks:
        yield await task


async def _reading(
    histories: AsyncIterator[WorkflowHistory], found: Histories
) -> AsyncIterator[WorkflowHistory]:
    async for history in histories:
        retries = retries_of(history)
        if retries.again or retries.looks or retries.lost:
            found.retries[history.workflow_id] = retries
        yield history


def retries_of(history: WorkflowHistory) -> Retries:
    """Count what did not go well at once."""
    counts: Counter[str] = Counter()
    for event in history.events:
        if event.HasField("activity_task_started_event_attributes"):
            counts["again"] += event.activity_task_started_event_attributes.attempt - 1
        elif event.HasField("activity_task_scheduled_event_attributes"):
            name = event.activity_task_scheduled_event_attributes.activity_type.name
            counts["looks"] += name == LOOK_UP.name
        elif event.HasField("workflow_task_timed_out_event_attributes"):
            counts["lost"] += 1
    return Retries(counts["again"], counts["looks"], counts["lost"])
