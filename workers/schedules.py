"""Temporal schedules this installation needs: one settlement import per provider, never two at once."""

from collections.abc import Callable, Iterable
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


async def ensure(client: Client, providers: Iterable[str], settings: Settings) -> None:
    """Create each schedule, or bring it to the current settings; any number of workers may do this at once."""
    for provider in providers:
        schedule = settlement(provider, timedelta(seconds=settings.settlement_interval_seconds))
        schedule_id = names.settlement_workflow_id(provider)
        try:
            await client.create_schedule(schedule_id, schedule)
        except ScheduleAlreadyRunningError:
            await client.get_schedule_handle(schedule_id).update(_to(schedule))


def settlement(provider: str, every: timedelta) -> Schedule:
    """Overlap SKIP keeps an import single; its steps are idempotent all the same."""
    return Schedule(
        action=ScheduleActionStartWorkflow(
            names.SETTLEMENT,
            SettlementStart(provider=provider),
            id=names.settlement_workflow_id(provider),
            task_queue=names.CORE_QUEUE,
            static_summary=f"settlement import from {provider}",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(minutes=10)),
    )


def _to(schedule: Schedule) -> Callable[[ScheduleUpdateInput], ScheduleUpdate]:
    def update(current: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule.state = current.description.schedule.state
        return ScheduleUpdate(schedule=schedule)

    return update
