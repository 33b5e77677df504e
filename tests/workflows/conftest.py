"""One small installation per test: Temporal is shared, database and sandbox books are its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import ScheduleHandle, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from activities import provider_steps
from corridor.fx.ecb import EcbRates
from corridor.runtime.keys import KeyRing
from corridor.runtime.settings import Settings, load
from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.embedded import EmbeddedSandbox
from tests.workflows.books import prove
from tests.workflows.world import World, world
from workflows import names


@contextlib.contextmanager
def installation(
    database: str, key_ring: KeyRing, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Settings, str]]:
    """Settings and address of a sandbox that pays out only when asked to."""
    config = SandboxConfig(
        port=0,
        data_dir=directory / "sandbox",
        settlement_delay_seconds=0,
        payout_period_seconds=0,
        payout_transit_seconds=0,
        search_lag_seconds=0,
    )
    with EmbeddedSandbox(config) as sandbox:
        monkeypatch.setenv("DATABASE_URL", database)
        # One try a look-up instead of three: the workflow's own schedule is what these tests are about.
        monkeypatch.setattr(provider_steps, "LOOKS_BEFORE_UNKNOWN", 1)
        settings = load(
            data_dir=directory,
            stripe_url=f"{sandbox.url}/stripe",
            liquidity_url=f"{sandbox.url}/lp",
            encryption_keys=key_ring.render(),
            webhook_allow_private=True,
            market_day=EcbRates().newest_day(),
            quote_deadline_seconds=5,  # a slow machine is not a slow liquidity provider
        )
        yield settings, sandbox.url


@pytest_asyncio.fixture
async def here(
    temporal_env: WorkflowEnvironment,
    key_ring: KeyRing,
    sqlite_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """The installation on SQLite; when the test is done, its books must agree."""
    with installation(sqlite_database, key_ring, tmp_path, monkeypatch) as (settings, sandbox):
        async with world(temporal_env.client, settings, sandbox) as opened:
            yield opened
            await prove(opened)


@pytest_asyncio.fixture
async def everywhere(
    temporal_env: WorkflowEnvironment,
    key_ring: KeyRing,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """The installation on SQLite and on PostgreSQL, for what depends on the database; its books must agree."""
    with installation(database_url, key_ring, tmp_path, monkeypatch) as (settings, sandbox):
        async with world(temporal_env.client, settings, sandbox) as opened:
            yield opened
            await prove(opened)


@pytest_asyncio.fixture
async def imports(temporal_env: WorkflowEnvironment) -> AsyncIterator[ScheduleHandle]:
    """The schedule of Stripe's imports, which the Temporal that tests share knows neither before nor after the test."""
    handle = temporal_env.client.get_schedule_handle(names.settlement_workflow_id("stripe"))
    await _gone(temporal_env, handle)
    yield handle
    await _gone(temporal_env, handle)


async def _gone(temporal_env: WorkflowEnvironment, schedule: ScheduleHandle) -> None:
    """Deleted, if there was one, and free to be made again, which takes the server a moment longer."""
    own = temporal_env.client.get_workflow_handle(f"temporal-sys-scheduler:{schedule.id}")
    try:
        await schedule.delete()
        async with asyncio.timeout(10):
            while (await own.describe()).status is WorkflowExecutionStatus.RUNNING:
                await asyncio.sleep(0.1)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
