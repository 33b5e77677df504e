"""The platform database comes back older (F13): left behind at one moment, in force later, recovered as an operator does.

SQLite is copied and the copy put back. On PostgreSQL an asynchronous standby falls behind and is promoted. The order is
the one of docs/recovery.md: everything is fenced, the older database is put in place, Temporal and the provider start
alone, `restore-check --repair` runs, then workers and API are released. Shops wait meanwhile and repeat.

What the API has acknowledged and not yet given to Temporal is in the database alone; no second copy of it exists
anywhere, and no recovery can find it. So the API is closed first, and the rest is struck when nothing of that kind is
left.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select
from temporalio.client import Client
from temporalio.service import RPCError

from api.cli.drill import backup
from api.cli.drill.disasters import Recovered
from api.cli.exit_codes import ExitCode
from corridor.domain.failure import broken
from corridor.runtime import client as temporal_client
from corridor.runtime.process import ChildFailed
from corridor.storage.database import Database
from corridor.storage.deadlines import UNHURRIED
from corridor.storage.tables import payments, refunds
from tests.chaos.desk import RESTORE_CHECK
from tests.chaos.stand import WORKERS, Stand
from tests.chaos.watch import Watch, WentBack
from workers.restore.gaps import Gap
from workflows import names

Json = dict[str, Any]

STARTS_WITHIN_SECONDS = 40.0
HANDED_OVER_WITHIN_SECONDS = 90.0
LOOK_SECONDS = 0.1
TAKEN_MARGIN = timedelta(minutes=1)
"""Between the moment an operator notes and the one at which Temporal closed what the copy still has."""
BACKUP_TRIES, BACKUP_AGAIN_SECONDS = 30, 1.0
_NOT_OURS = ("temporal", "sandbox")
"""They are killed with the rest, and are all that runs while the operator repairs."""


@dataclass(frozen=True)
class Older:
    """The database as it was once, while everybody went on writing. `copy`: SQLite's; a standby keeps itself."""

    at: datetime
    copy: Path | None


async def leave_behind(stand: Stand, number: int) -> Older:
    """From here on something is older than the database.

    A backup that fails, because the disk is full at that moment, is taken again, as it would be by who is told of it.
    """
    if stand.postgres is not None:
        at = datetime.now(UTC)
        await asyncio.to_thread(stand.postgres.fall_behind)
        return Older(at, None)
    copy = stand.settings.data_dir / f"backup-{number}"
    for tries_left in reversed(range(BACKUP_TRIES)):
        at = datetime.now(UTC)
        try:
            await asyncio.to_thread(backup.take, stand.settings, copy)
        except backup.BackupFailed:
            if not tries_left:
                raise
            await asyncio.sleep(BACKUP_AGAIN_SECONDS)
        else:
            break
    return Older(at, copy)


async def go_back(stand: Stand, watch: Watch, older: Older) -> WentBack:
    """Strike, restore, recover, release. Nothing else may happen to the stack meanwhile; that is the caller's care."""
    stand.network.clear()
    async with watch.looking_away():
        async with stand.fenced(
            ("api", "codec", *WORKERS), once_closed=partial(_nothing_is_only_here, stand)
        ):
            struck_at, begun = datetime.now(UTC), time.monotonic()
            for name in _NOT_OURS:
                await asyncio.to_thread(stand.stack.kill, name)
            await stand.database.close()
            await _put_in_place(stand, older)
            await asyncio.to_thread(stand.stack.wait_ready, *_NOT_OURS, timeout_seconds=STARTS_WITHIN_SECONDS)
            with stand.desk.gives(RESTORE_CHECK) as given:
                recovered = await _repaired(stand, older)
                given.is_done = True
            stand.database = watch.database = Database(stand.settings.database, deadlines=UNHURRIED)
        # Faults of the network may keep one of them waiting; that is no longer the restoration's matter.
        with contextlib.suppress(ChildFailed):
            await asyncio.to_thread(stand.stack.wait_ready, "api", timeout_seconds=STARTS_WITHIN_SECONDS)
        gone = WentBack(older.at, struck_at, datetime.now(UTC), time.monotonic() - begun, recovered)
        watch.went_back(gone)
        return gone


async def _put_in_place(stand: Stand, older: Older) -> None:
    if stand.postgres is not None:
        await asyncio.to_thread(stand.postgres.lose_what_is_ahead)
        return
    copy = older.copy or broken("what is left behind of a file is a copy")
    await backup.put_back(stand.settings, copy)
    lost = stand.settings.data_dir / backup.LOST
    lost.rename(lost.with_name(f"{backup.LOST}-{copy.name}"))


async def _repaired(stand: Stand, older: Older) -> Recovered:
    """The command of the runbook, and once more without a repair: then nothing may be left to find.

    Who restores a backup knows when it was taken, and need not have ten more minutes of histories read.
    """
    since = f"--since={(older.at - TAKEN_MARGIN).isoformat()}"
    # A Temporal that outlives the workers still lists them; nobody else has any.
    found = await _restore_check(stand, since, "--repair", "--force")
    gaps = [_gap(it) for it in found["gaps"]]
    second = await _restore_check(stand, since)
    counts = Counter(str(gap.kind) for gap in gaps)
    left = tuple(gap for gap in gaps if not gap.is_provable)
    return Recovered(dict(sorted(counts.items())), left, tuple(map(_gap, second["gaps"])))


async def _restore_check(stand: Stand, *words: str) -> Json:
    """A process of its own with a way of its own to the database, as an operator's is.

    In ours, or behind an address of ours, each of its statements would wait for its turn among all shops that wait.
    """
    settings, server = stand.settings, stand.postgres
    direct = {} if server is None else {"DATABASE_URL": server.primary.url()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "api.cli.main",
        "restore-check", *words, "--json", "--data-dir", str(settings.data_dir),
        env={**os.environ, **settings.environment(), **direct, "PYTHONPATH": str(stand.source)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, problems = await process.communicate()
    if process.returncode not in (ExitCode.OK, ExitCode.FAILURE) or not said:
        raise RuntimeError(f"restore-check ended with {process.returncode}: {problems.decode()[-2_000:]}")
    document: Json = json.loads(said)
    return document


def _gap(told: Json) -> Gap:
    return Gap(**{name: value for name, value in told.items() if name != "provable"})


async def _nothing_is_only_here(stand: Stand) -> None:
    """Wait until the workers have made a workflow of everything that was accepted."""
    await asyncio.to_thread(
        stand.stack.wait_ready, "temporal", *WORKERS, timeout_seconds=HANDED_OVER_WITHIN_SECONDS
    )
    client = await temporal_client.connect(stand.settings)
    # What was not handed over by then is lost, and the audit says so.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HANDED_OVER_WITHIN_SECONDS):
            for workflow_id in await stand.database.read(_not_begun):
                while not await _exists(client, workflow_id):
                    await asyncio.sleep(LOOK_SECONDS)


def _not_begun(connection: Connection) -> list[str]:
    """Whose first step has noted nothing yet: in a backlog it comes minutes after the workflow was made."""
    found: list[str] = []
    for table, workflow_id in ((payments, names.payment_workflow_id), (refunds, names.refund_workflow_id)):
        rows = connection.execute(select(table.c.id).where(table.c.workflow_started_at.is_(None)))
        found += map(workflow_id, rows.scalars())
    return found


async def _exists(client: Client, workflow_id: str) -> bool:
    try:
        await client.get_workflow_handle(workflow_id).describe()
    except RPCError:  # there is none yet, or the server is busy
        return False
    return True
