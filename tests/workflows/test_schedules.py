"""The schedules of an installation outlive Temporal's store."""

import asyncio

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
