"""Temporal schedules this installation needs: one settlement import per provider, never two at once."""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from corridor.runtime.settings import Settings
from workflows import names
from workflows.messages import SettlementStart

SHORTEST_CATCHUP = timedelta(minutes=10)
"""Temporal knows none below ten seconds, and demo and tests import every second."""


async def ensure(client: Client, providers: Iterable[str], settings: Settings) -> None:
    """Create each schedule, or bring it to the current settings; any number of workers may do this at once."""
    for schedule_id, schedule in _wanted(providers, settings):
        if not await _create(client, schedule_id, schedule):
            await client.get_schedule_handle(schedule_id).update(_to(schedule))


async def put_back(client: Client, providers: Iterable[str], settings: Settings) -> int:
    """Create what is missing, and return how many were: a Temporal store that was lost took them along."""
    return sum([await _create(client, *wanted) for wanted in _wanted(providers, settings)])


def _wanted(providers: Iterable[str], settings: Settings) -> Iterator[tuple[str, Schedule]]:
    every = timedelta(seconds=settings.settlement_interval_seconds)
    for provider in providers:
        yield names.settlement_workflow_id(provider), settlement(provider, every)


async def _create(client: Client, schedule_id: str, schedule: Schedule) -> bool:
    try:
        await client.create_schedule(schedule_id, schedule)
    except ScheduleAlreadyRunningError:
        return False
    return True


def settlement(provider: str, every: timedelta) -> Schedule:
    """Overlap SKIP keeps an import single; its steps are idempotent all the same.

    What an outage made Temporal miss is caught up with however long it was away, up to the turn that comes by itself:
    a day's import must not fall out because the server was down at midnight.
    """
    return Schedule(
        action=ScheduleActionStartWorkflow(
            names.SETTLEMENT,
            SettlementStart(provider=provider),
            id=names.settlement_workflow_id(provider),
            task_queue=names.CORE_QUEUE,
            static_summary=f"settlement import from {provider}",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(
            overlap=ScheduleOverlapPolicy.SKIP, catchup_window=max(every, SHORTEST_CATCHUP)
        ),
    )


def _to(schedule: Schedule) -> Callable[[ScheduleUpdateInput], ScheduleUpdate]:
    def update(current: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule.state = current.description.schedule.state
        return ScheduleUpdate(schedule=schedule)

    return update
