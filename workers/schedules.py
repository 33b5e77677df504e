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
from workers.builds import deployment
from workflows import names
from workflows.messages import SettlementStart

SHORTEST_CATCHUP = timedelta(minutes=10)
"""Temporal knows none below ten seconds, and demo and tests import every second."""


class Schedules:
    """One worker process's part in the schedules, which are the installation's and not its own.

    A build that waits to be promoted leaves them alone: they may name what the current build does not serve, as the
    queue of the imports once was, and an import there would wait for the promotion.
    """

    def __init__(
        self, client: Client, providers: Iterable[str], settings: Settings, build_id: str | None
    ) -> None:
        self._client = client
        self._providers = tuple(providers)
        self._settings = settings
        self._build_id = build_id
        self._are_ours = False

    async def turn(self) -> int:
        """Bring all up to date once this build is the current one, later put back what is missing; returns how many."""
        if not await self._is_our_turn():
            self._are_ours = False
            return 0
        if self._are_ours:
            return await put_back(self._client, self._providers, self._settings)
        await ensure(self._client, self._providers, self._settings)
        self._are_ours = True
        return len(self._providers)

    async def _is_our_turn(self) -> bool:
        """Also while no build is current: a Temporal store that was lost took the choice and the schedules along."""
        return self._build_id is None or await deployment.current(self._client) in (None, self._build_id)


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
            task_queue=names.SETTLEMENT_QUEUE,
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
