"""The crash sweep of the API: it dies or freezes at every point, and a merchant who repeats his request is served once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from corridor.runtime.keys import KeyRing
from tests.chaos.sweep.cells import IN_THE_API
from tests.chaos.sweep.processes import Process, Processes
from tests.chaos.sweep.shop import PATIENCE_SECONDS, Shop, open_shop
from tests.chaos.sweep.traffic import accepted, everything_ends
from tests.workflows.conftest import installation
from tests.workflows.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONGEST_SECONDS = 300
"""Some twenty are enough on an idle machine."""
PAUSE_SECONDS = 4
assert PAUSE_SECONDS > 2 * PATIENCE_SECONDS
# No two points of one share are passed by the same request, and each is passed only once.
SHARES = (
    ("payment.before_accept", "refund.accepted", "command.claimed", "webhook.before_store"),
    ("payment.accepted", "command.sent", "webhook.stored", "refund.started"),
    ("payment.started",),
)


@dataclass(frozen=True)
class Sweep:
    """The world, its processes, and the merchant's backend that drives them."""

    world: World
    processes: Processes
    shop: Shop


@pytest_asyncio.fixture
async def here(
    temporal_env: WorkflowEnvironment,
    key_ring: KeyRing,
    sqlite_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Sweep]:
    """A worker and an API that nothing happens to; the test adds those that are armed."""
    with installation(sqlite_database, key_ring, tmp_path, monkeypatch) as (settings, sandbox):
        processes = Processes(settings, temporal_env.client.service_client.config.target_host, tmp_path)
        async with world(temporal_env.client, settings, sandbox, with_workers=False) as opened:
            await opened.subscribe(("payment.captured",))
            processes.worker()
            sure = processes.api()
            try:
                yield Sweep(opened, processes, await open_shop(opened, settings, sure.url))
            finally:
                await processes.leave(temporal_env.client)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST_SECONDS)
async def test_an_api_killed_at_any_point_is_asked_again_and_pays_once(here: Sweep) -> None:
    armed = {point: here.processes.api([point], "kill") for point in IN_THE_API}
    await here.processes.all_ready()
    for point, process in armed.items():
        first = await here.shop.meet(point, process.url)
        await _fired(point, process)
        assert first is None, f"answered although it died at {point}"
    assert {await process.status() for process in armed.values()} == {-SIGKILL}
    await _served_once(here)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST_SECONDS)
async def test_an_api_frozen_past_its_clients_patience_wakes_up_to_a_request_that_is_served(
    here: Sweep,
) -> None:
    assert {point for share in SHARES for point in share} == set(IN_THE_API)
    armed = {share: here.processes.api(share, f"pause:{PAUSE_SECONDS}") for share in SHARES}
    await here.processes.all_ready()
    webhooks = asyncio.Lock()
    async with asyncio.TaskGroup() as group:
        for share, process in armed.items():
            group.create_task(_freeze_at_each(here, share, process, webhooks))
    assert all(process.forked.is_alive() for process in armed.values())
    await _served_once(here)


async def _freeze_at_each(
    here: Sweep, share: Sequence[str], process: Process, webhooks: asyncio.Lock
) -> None:
    for point in share:
        # The provider tells one API at a time.
        async with webhooks if point.startswith("webhook.") else contextlib.nullcontext():
            first = await here.shop.meet(point, process.url)
            await _fired(point, process)
        assert first is None, f"answered although it was frozen at {point}"
        # Awake again, with a request on its hands that another process has served meanwhile.
        await asyncio.sleep(PAUSE_SECONDS - PATIENCE_SECONDS)


async def _fired(point: str, process: Process) -> None:
    async with asyncio.timeout(60):
        while not process.fired(point):
            await asyncio.sleep(0.05)


async def _served_once(here: Sweep) -> None:
    """Every order made one payment, and all of it comes to its good end."""
    await here.shop.listen_at(here.shop.sure)
    await everything_ends(here.world)
    assert await here.world.database.read(accepted) == here.shop.orders
