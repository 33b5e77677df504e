"""The run's workflow histories: replayed against this build, and read for what was retried."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from temporalio.client import WorkflowHistory

from activities.contracts import LOOK_UP
from corridor.runtime import client as temporal_client
from corridor.runtime.histories import Run, from_server
from corridor.runtime.replay import Replayed
from corridor.runtime.replay_pool import replay_in_parallel
from corridor.runtime.settings import Settings


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
    """Fetch every history of the namespace, running workflows included, and replay each to where it stands."""
    connected = await temporal_client.connect(settings)
    found = Histories()
    outcome = await replay_in_parallel(_reading(from_server(connected), found), settings)
    found.replayed = outcome.replayed
    return found


async def _reading(runs: AsyncIterator[Run], found: Histories) -> AsyncIterator[Run]:
    async for run in runs:
        retries = retries_of(run.history)
        if retries.again or retries.looks or retries.lost:
            found.retries[run.workflow_id] = retries
        yield run


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
