"""The schedules of an installation outlive Temporal's store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.client import Client, ScheduleActionStartWorkflow
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from corridor.runtime.settings import Settings
from workers import fleet, schedules
from workers.builds import deployment
from workers.schedules import Schedules
from workflows import names
from workflows.settlement import SettlementWorkflow

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROVIDER = "a-provider-of-this-test"
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


async def test_a_schedule_that_was_lost_is_put_back_and_one_that_stands_is_left_alone(
    temporal_env: WorkflowEnvironment,
) -> None:
    client, settings = temporal_env.client, Settings(settlement_interval_seconds=86_400)
    await schedules.ensure(client, [PROVIDER], settings)
    assert await schedules.put_back(client, [PROVIDER], settings) == 0
    handle = client.get_schedule_handle(names.settlement_workflow_id(PROVIDER))
    await handle.delete()
    async with asyncio.timeout(10):
        while (
            await schedules.put_back(client, [PROVIDER], settings) == 0
        ):  # a deletion takes the server a moment
            await asyncio.sleep(0.1)
    assert (await handle.describe()).schedule.spec.intervals[0].every.total_seconds() == 86_400
    await handle.delete()


async def test_an_outage_across_the_hour_of_the_import_skips_none_in_a_schedule_that_stands_either(
    temporal_env: WorkflowEnvironment,
) -> None:
    client, day = temporal_env.client, timedelta(days=1)
    handle = client.get_schedule_handle(names.settlement_workflow_id(PROVIDER))
    old = schedules.settlement(PROVIDER, day)
    old.policy.catchup_window = timedelta(minutes=10)
    await client.create_schedule(handle.id, old)
    try:
        await schedules.ensure(client, [PROVIDER], Settings(settlement_interval_seconds=86_400))
        assert (await handle.describe()).schedule.policy.catchup_window == day
    finally:
        await handle.delete()
    assert schedules.settlement(PROVIDER, timedelta(seconds=1)).policy.catchup_window >= timedelta(seconds=10)


async def test_a_schedule_that_names_the_payments_queue_is_moved_to_the_imports_own(
    temporal_env: WorkflowEnvironment,
) -> None:
    client = temporal_env.client
    handle = client.get_schedule_handle(names.settlement_workflow_id(PROVIDER))
    old = schedules.settlement(PROVIDER, DAY)
    assert isinstance(old.action, ScheduleActionStartWorkflow)
    old.action.task_queue = names.CORE_QUEUE
    await client.create_schedule(handle.id, old)
    try:
        await schedules.ensure(client, [PROVIDER], Settings(settlement_interval_seconds=86_400))
        action = (await handle.describe()).schedule.action
        assert isinstance(action, ScheduleActionStartWorkflow)
        assert action.task_queue == names.SETTLEMENT_QUEUE
    finally:
        await handle.delete()


@contextlib.asynccontextmanager
async def worker_of(client: Client, build_id: str) -> AsyncIterator[None]:
    async with Worker(
        client,
        task_queue=names.CORE_QUEUE,
        workflows=[SettlementWorkflow],
        workflow_runner=fleet.runner(versioned=True),
        deployment_config=fleet.of_build(build_id),
    ):
        await deployment.registered(client, build_id, [names.CORE_QUEUE])
        yield


async def test_a_build_that_waits_leaves_the_schedules_to_the_current_one(
    own_temporal_env: WorkflowEnvironment,
) -> None:
    """They may name a queue that only the new build serves: imports would wait there until it is promoted."""
    client = own_temporal_env.client
    daily, hourly = (Settings(settlement_interval_seconds=round(it.total_seconds())) for it in (DAY, HOUR))
    async with worker_of(client, "a"), worker_of(client, "b"):
        a, b = Schedules(client, [PROVIDER], daily, "a"), Schedules(client, [PROVIDER], hourly, "b")
        await deployment.make_current(client, "a")
        await a.turn()
        await b.turn()
        assert await _every(client) == DAY
        await deployment.make_current(client, "b")
        await a.turn()
        await b.turn()
        assert await _every(client) == HOUR
        await deployment.make_current(client, "a")
        await b.turn()
        await a.turn()
        assert await _every(client) == DAY, "the promotion was taken back"


async def test_schedules_are_put_back_while_no_build_is_current(
    own_temporal_env: WorkflowEnvironment,
) -> None:
    """A Temporal store that was lost knows neither."""
    client = own_temporal_env.client
    await Schedules(client, [PROVIDER], Settings(settlement_interval_seconds=86_400), "a").turn()
    assert await _every(client) == DAY


async def _every(client: Client) -> timedelta:
    described = await client.get_schedule_handle(names.settlement_workflow_id(PROVIDER)).describe()
    return described.schedule.spec.intervals[0].every
