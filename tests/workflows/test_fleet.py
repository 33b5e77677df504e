"""The workers of one process end together: each one's grace runs beside the others', not after them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from corridor.runtime.keys import KeyRing
from tests.workflows.conftest import installation
from tests.workflows.world import GRACE, World, world
from workers import fleet

pytestmark = pytest.mark.asyncio(loop_scope="session")

WORKERS = 4
LIMIT_SECONDS = 60


@pytest_asyncio.fixture
async def idle(
    temporal_env: WorkflowEnvironment,
    key_ring: KeyRing,
    sqlite_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """An installation whose workers are the test's."""
    with installation(sqlite_database, key_ring, tmp_path, monkeypatch) as (settings, sandbox):
        async with world(temporal_env.client, settings, sandbox, with_workers=False) as opened:
            yield opened


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when every worker was told to end; none of them ends before."""
    everybody, count = asyncio.Event(), 0

    class Waiting(Worker):
        """A real worker, which lets the others be told first."""

        is_told = False

        async def shutdown(self) -> None:
            nonlocal count
            count += not self.is_told
            self.is_told = True
            if count == WORKERS:
                everybody.set()
            await everybody.wait()
            await super().shutdown()

    monkeypatch.setattr(fleet, "Worker", Waiting)
    return everybody


async def test_workers_are_told_together_when_the_block_is_left(idle: World, told: asyncio.Event) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        async with fleet.running(idle.wired, idle.client, GRACE):
            pass
    assert told.is_set()


async def test_workers_end_when_told_to_although_the_block_goes_on(idle: World, told: asyncio.Event) -> None:
    stop = asyncio.Event()
    async with asyncio.timeout(LIMIT_SECONDS):
        async with fleet.running(idle.wired, idle.client, GRACE, stop=stop):
            stop.set()
            await told.wait()
