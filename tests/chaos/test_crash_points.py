"""The crash sweep: real worker processes die, freeze or fail at every named point, and each effect happens once.

Every worker is armed at a point of its own and works beside the others, so what one leaves behind another picks up:
after a kill the server notices by the activity's timeout, and a frozen worker wakes up to find its work done.
"""

import ast
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGKILL

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from corridor.runtime import crash
from corridor.runtime.keys import KeyRing
from tests.chaos.sweep.cells import AT_A_COMMAND, AT_A_SALE, IN_A_WORKER, IN_THE_API, LOST
from tests.chaos.sweep.processes import Processes
from tests.chaos.sweep.traffic import SALES, TO_COMMAND, everything_ends, until_met
from tests.workflows.conftest import installation
from tests.workflows.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
LONGEST_SECONDS = 400
"""Some thirty are enough on an idle machine."""
PROVIDER_TIMEOUT_SECONDS = 1.0
PAUSE_SECONDS = 12
"""Longer than every timeout it may hit: activity (1 + 7 s), local activity and workflow task (10 s)."""

SHARES = 8


@pytest_asyncio.fixture
async def here(
    temporal_env: WorkflowEnvironment,
    key_ring: KeyRing,
    sqlite_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[World, Processes]]:
    """Database, sandbox and Temporal here; the workers are processes of their own."""
    with installation(sqlite_database, key_ring, tmp_path, monkeypatch) as (given, sandbox):
        settings = given.model_copy(update={"provider_timeout_seconds": PROVIDER_TIMEOUT_SECONDS})
        processes = Processes(settings, temporal_env.client.service_client.config.target_host, tmp_path)
        async with world(temporal_env.client, settings, sandbox, with_workers=False) as opened:
            await opened.subscribe(("payment.captured",))
            try:
                yield opened, processes
            finally:
                await processes.leave(temporal_env.client)


async def test_no_point_is_missing_from_the_sweep() -> None:
    """Place by place: of a name that stands twice only the first that is met would ever fire."""
    assert _named_in("activities", "workers", "workflows", "corridor") == sorted(IN_A_WORKER)
    assert _named_in("api") == sorted(IN_THE_API)
    assert sorted(crash.POINTS) == sorted([*IN_A_WORKER, *IN_THE_API])
    assert set(LOST) == set(crash.POINTS), "each point has an acknowledgement to lose"
    assert all(LOST.values())


@pytest.mark.slow
@pytest.mark.timeout(LONGEST_SECONDS)
async def test_a_worker_killed_at_any_point_leaves_every_effect_made_once(
    here: tuple[World, Processes],
) -> None:
    opened, processes = here
    armed = [processes.worker([point], "kill") for point in IN_A_WORKER]
    await processes.all_ready()
    orders = (*SALES, *TO_COMMAND)
    await until_met(opened, lambda: [point for process in armed for point in process.left()], orders)
    assert {await process.status() for process in armed} == {-SIGKILL}
    processes.worker()
    await processes.all_ready()
    await everything_ends(opened)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST_SECONDS)
async def test_a_worker_frozen_past_every_timeout_wakes_up_to_work_that_is_done(
    here: tuple[World, Processes],
) -> None:
    opened, processes = here
    # Two points each: more workers would share so few payments that a point is met late.
    shares = [AT_A_SALE[share::SHARES] for share in range(SHARES)]
    armed = [processes.worker(points, f"pause:{PAUSE_SECONDS}") for points in shares]
    processes.worker()
    await processes.all_ready()
    await until_met(opened, lambda: [point for process in armed for point in process.left()])
    await asyncio.sleep(PAUSE_SECONDS)  # the last to freeze is awake again, and has said what it had to say
    await everything_ends(opened)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST_SECONDS)
async def test_a_step_that_fails_at_any_point_is_taken_again(here: tuple[World, Processes]) -> None:
    opened, processes = here
    armed = processes.worker(IN_A_WORKER, "raise")
    await processes.all_ready()
    await until_met(opened, armed.left, (*SALES, *TO_COMMAND))
    await everything_ends(opened)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST_SECONDS)
async def test_a_worker_frozen_at_a_command_wakes_up_to_one_that_is_carried_out(
    here: tuple[World, Processes],
) -> None:
    """Commands are few, and among many workers that live on the armed one would seldom get one."""
    opened, processes = here
    orders = (*TO_COMMAND, *TO_COMMAND, *TO_COMMAND)
    armed = [processes.worker([point], f"pause:{PAUSE_SECONDS}") for point in AT_A_COMMAND]
    processes.worker()
    await processes.all_ready()
    await until_met(opened, lambda: [point for process in armed for point in process.left()], orders)
    await asyncio.sleep(PAUSE_SECONDS)  # as above: the last one is awake again
    await everything_ends(opened)


def _named_in(*packages: str) -> list[str]:
    """The points that the source of these packages calls by name, one for each place."""
    paths = (path for package in packages for path in (ROOT / package).rglob("*.py"))
    calls = (node for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    return sorted(
        str(call.args[0].value)
        for call in calls
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "crash_point"
        and isinstance(call.args[0], ast.Constant)
    )
