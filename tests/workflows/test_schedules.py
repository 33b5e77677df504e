"""The schedules of an installation outlive Temporal's store."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from corridor.runtime.settings import Settings
from workers import schedules
from workflows import names

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROVIDER = "a-provider-of-this-test"


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
