"""The crash sweep: real worker processes die, freeze or fail at every named point, and each effect happens once.

Every worker is armed at a point of its own and works beside the others, so what one leaves behind another picks up:
after a kill the server notices by the activity's timeout, and a frozen worker wakes up to find its work done.
"""

import ast
import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, select
from temporalio.testing import WorkflowEnvironment

from corridor.runtime import crash
from corridor.runtime.keys import KeyRing
from corridor.runtime.process import die_with_parent
from corridor.runtime.settings import Settings
from corridor.storage import payments, refunds
from corridor.storage.tables import payments as payment_table
from corridor.storage.tables import refunds as refund_table
from corridor.storage.tables import webhook_deliveries
from tests.workflows.books import prove
from tests.workflows.conftest import installation
from tests.workflows.world import World, world
from workers.relay.starting import start_once
from workflows import names
from workflows.starts import payment_start, refund_start

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
IN_A_WORKER = (
    "intent.committed",
    "provider.before_send",
    "provider.answer_read",
    "outcome.committed",
    "webhook.routed",
    "settlement.posted",
    "delivery.sent",
)
IN_THE_API = ("payment.accepted", "workflow.started", "webhook.stored")
PROVIDER_TIMEOUT_SECONDS = 1.0
PAUSE_SECONDS = 12
"""Longer than every timeout it may hit: activity (1 + 7 s), local activity and workflow task (10 s)."""


@dataclass
class Process:
    """One worker process and its log."""

    points: tuple[str, ...]
    log: Path
    ready: Path
    popen: subprocess.Popen[bytes] = field(repr=False)

    @property
    def has_fired(self) -> bool:
        text = self.log.read_text("utf-8", errors="replace")
        return all(f"crash point {point}:" in text for point in self.points)


class Stand:
    """Worker processes on one installation."""

    def __init__(self, settings: Settings, temporal: str, directory: Path) -> None:
        self._settings = settings
        self._temporal = temporal
        self._directory = directory
        self.processes: list[Process] = []

    def start(self, points: Sequence[str] = (), action: str = "") -> Process:
        """`python -m workers`, armed at the points."""
        name = f"worker-{len(self.processes)}"
        log, ready = self._directory / f"{name}.log", self._directory / f"{name}.ready"
        environment = {
            **os.environ,
            **self._settings.environment(),
            "TEMPORAL_ADDRESS": self._temporal,
            "CORRIDOR_READY_FILE": str(ready),
            "CORRIDOR_METRICS_PORT": "0",
            "PYTHONPATH": str(ROOT),
        }
        if points:
            environment |= {crash.VARIABLE: ",".join(points), "CORRIDOR_CRASH_DO": action}
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", "workers"],
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 — one prepared system call, no locks
            )
        process = Process(tuple(points), log, ready, popen)
        self.processes.append(process)
        return process

    async def all_ready(self) -> None:
        """Every process that lives does its work."""
        async with asyncio.timeout(60):
            while not all(one.ready.exists() or one.popen.poll() is not None for one in self.processes):
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        for one in self.processes:
            if one.popen.poll() is None:
                one.popen.kill()
        for one in self.processes:
            await asyncio.to_thread(one.popen.wait, 10)


@pytest_asyncio.fixture
async def here(
    temporal_env: WorkflowEnvironment,
    key_ring: KeyRing,
    sqlite_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[World, Stand]]:
    """Database, sandbox and Temporal here; the workers are processes of their own."""
    with installation(sqlite_database, key_ring, tmp_path, monkeypatch) as (given, sandbox):
        settings = given.model_copy(update={"provider_timeout_seconds": PROVIDER_TIMEOUT_SECONDS})
        stand = Stand(settings, temporal_env.client.service_client.config.target_host, tmp_path)
        async with world(temporal_env.client, settings, sandbox, with_workers=False) as opened:
            await opened.subscribe(("payment.captured",))
            try:
                yield opened, stand
            finally:
                await stand.stop()
                await temporal_env.client.get_schedule_handle("settlement-stripe").delete()


async def test_no_point_is_missing_from_the_sweep() -> None:
    in_the_code = set(_named_in("activities", "workers", "workflows", "corridor"))
    assert in_the_code == set(IN_A_WORKER)
    assert set(_named_in("api")) <= set(IN_THE_API)
    assert set(crash.POINTS) == {*IN_A_WORKER, *IN_THE_API}


@pytest.mark.slow
async def test_a_worker_killed_at_any_point_leaves_every_effect_made_once(here: tuple[World, Stand]) -> None:
    opened, stand = here
    armed = [stand.start([point], "kill") for point in IN_A_WORKER]
    await stand.all_ready()
    await _work_until_fired(opened, armed)
    assert {process.popen.wait(5) for process in armed} == {-9}
    stand.start()
    await stand.all_ready()
    await _everything_ends(opened)


@pytest.mark.slow
async def test_a_worker_frozen_past_every_timeout_wakes_up_to_work_that_is_done(
    here: tuple[World, Stand],
) -> None:
    opened, stand = here
    armed = [stand.start([point], f"pause:{PAUSE_SECONDS}") for point in IN_A_WORKER]
    stand.start()
    await stand.all_ready()
    await _work_until_fired(opened, armed)
    await asyncio.sleep(PAUSE_SECONDS)  # the last to freeze is awake again, and has said what it had to say
    await _everything_ends(opened)


@pytest.mark.slow
async def test_a_step_that_fails_at_any_point_is_taken_again(here: tuple[World, Stand]) -> None:
    opened, stand = here
    armed = [stand.start(IN_A_WORKER, "raise")]
    await stand.all_ready()
    await _work_until_fired(opened, armed)
    await _everything_ends(opened)


# --- traffic ----------------------------------------------------------------------------------------------------


async def _work_until_fired(here: World, armed: Iterable[Process]) -> None:
    """Sales, challenges, refunds, payouts, webhooks and deliveries, round after round, until every point was met."""
    waiting = list(armed)
    async with asyncio.timeout(60):
        while waiting:
            await _round(here)
            await asyncio.sleep(1)
            waiting = [process for process in waiting if not process.has_fired]


async def _round(here: World) -> None:
    for token in ("pm_card_visa", "pm_card_visa", "pm_card_threeDSecure2Required"):
        # Not converted: a quote that comes late on a crowded machine is another test's matter.
        payment_id = await here.accept(token, settle_currency="EUR", destination_country="DE")
        await _start_payment(here, payment_id)
    for payment in await here.database.read(_payments_in, "requires_action"):
        await here.control.post(f"/stripe/3ds/{payment.provider_reference}/complete")
    for payment in await here.database.read(_payments_in, "captured"):
        if not await here.database.read(_refunds_of, payment.id):
            await _start_refund(here, await here.accept_refund(payment.id, 1_000))
    await here.store_webhooks()
    await _start_import(here)


async def _start_payment(here: World, payment_id: str) -> None:
    row = await here.database.read(payments.load, payment_id)
    await start_once(
        here.client,
        names.PAYMENT,
        payment_start(row, here.windows),
        workflow_id=names.payment_workflow_id(row.id),
        summary="chaos",
    )


async def _start_refund(here: World, refund_id: str) -> None:
    row = await here.database.read(refunds.load, refund_id)
    await start_once(
        here.client,
        names.REFUND,
        refund_start(row),
        workflow_id=names.refund_workflow_id(row.id),
        summary="chaos",
    )


async def _start_import(here: World) -> None:
    (await here.control.post("/control/settle")).raise_for_status()
    await start_once(
        here.client,
        names.SETTLEMENT,
        {"provider": "stripe"},
        workflow_id=f"settlement-{await here.database.read(_count)}-{here.merchant_id}",
        summary="chaos",
    )


async def _everything_ends(here: World) -> None:
    """Every payment is settled, every refund succeeded, every merchant told, and the books agree."""
    async with asyncio.timeout(60):
        while left := await here.database.read(_unfinished):
            for payment in await here.database.read(_payments_in, "requires_action"):
                await here.control.post(f"/stripe/3ds/{payment.provider_reference}/complete")
            await here.store_webhooks()
            await _start_import(here)
            await asyncio.sleep(1)
            assert "failed" not in left, left
    await prove(here)


def _payments_in(connection: Connection, status: str) -> Sequence[Any]:
    return connection.execute(select(payment_table).where(payment_table.c.status == status)).all()


def _refunds_of(connection: Connection, payment_id: str) -> Sequence[Any]:
    return connection.execute(select(refund_table.c.id).where(refund_table.c.payment_id == payment_id)).all()


def _count(connection: Connection) -> int:
    """A number that grows with everything that happens: imports get workflow ids of their own."""
    return sum(row.sequence for row in connection.execute(select(payment_table.c.sequence)))


def _unfinished(connection: Connection) -> list[str]:
    """Statuses that are not yet the good end."""
    tables = ((payment_table, "settled"), (refund_table, "succeeded"), (webhook_deliveries, "delivered"))
    return [
        row.status
        for table, end in tables
        for row in connection.execute(select(table.c.status).where(table.c.status != end))
    ]


def _named_in(*packages: str) -> list[str]:
    """The points that the source of these packages calls by name."""
    paths = (path for package in packages for path in (ROOT / package).rglob("*.py"))
    calls = (node for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    return [
        str(call.args[0].value)
        for call in calls
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "crash_point"
        and isinstance(call.args[0], ast.Constant)
    ]
