"""The disasters of a drill: what is destroyed, and what an operator runs before anything moves again."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from api.cli.restore_check import Wanted, check
from corridor.runtime import client as temporal_client
from corridor.runtime.settings import Settings
from workers import wiring
from workers.restore.gaps import Gap
from workers.resume import resume_all
from workflows.starts import Windows

LOST = "lost"
"""Where the drill puts what the disaster took, as evidence for the report; the recovery never looks there."""
_FILES = ("", "-wal", "-shm")


class Scenario(StrEnum):
    """What happens."""

    KILL_EVERYTHING = "kill-everything"
    TEMPORAL_LOST = "temporal-lost"
    DATABASE_RESTORED = "database-restored"
    DATABASE_LOST = "database-lost"

    @property
    def says(self) -> str:
        return _SAYS[self]

    @property
    def takes_database(self) -> bool:
        return self in (Scenario.DATABASE_RESTORED, Scenario.DATABASE_LOST)

    @property
    def runbook(self) -> tuple[str, ...]:
        """What is done afterwards, in order."""
        return _RUNBOOK[self]


_SAYS = {
    Scenario.KILL_EVERYTHING: "every process is killed with -9 at once",
    Scenario.TEMPORAL_LOST: "every process is killed with -9 and Temporal's store is deleted",
    Scenario.DATABASE_RESTORED: "every process is killed with -9 and the platform database comes back as it was earlier",
    Scenario.DATABASE_LOST: "every process is killed with -9 and all that comes back of the platform database is who"
    " sells here, with keys and webhook endpoints; payments, ledger and events are gone",
}
_FENCED = "the old stack is fenced: nothing of it runs"
_RELEASED = "workers and API start"
_RESTORE = (
    _FENCED,
    "the backup is put in place",
    "corridor up --hold: Temporal, no workers",
    "corridor restore-check --repair",
    "corridor restore-check finds nothing more",
    _RELEASED,
)
_RUNBOOK = {
    Scenario.KILL_EVERYTHING: (_FENCED, "corridor up"),
    Scenario.TEMPORAL_LOST: (
        _FENCED,
        "corridor up --hold: an empty Temporal, no workers",
        "corridor resume",
        _RELEASED,
    ),
    Scenario.DATABASE_RESTORED: _RESTORE,
    Scenario.DATABASE_LOST: _RESTORE,
}


@dataclass
class Recovered:
    """What the recovery command did: counts for the report, and what it could not do."""

    counts: dict[str, int] = field(default_factory=dict)
    left: tuple[Gap, ...] = ()
    second_run: tuple[Gap, ...] | None = None
    """Gaps a second restore-check found; None where there is no such check."""


def back_up(settings: Settings, to: Path) -> None:
    """A consistent copy of the SQLite database while everybody writes to it."""
    with (
        contextlib.closing(sqlite3.connect(database_file(settings))) as source,
        contextlib.closing(sqlite3.connect(to)) as target,
    ):
        source.backup(target)


def database_file(settings: Settings) -> Path:
    return settings.data_dir / "corridor.db"


def destroy(scenario: Scenario, settings: Settings, backup: Path) -> None:
    """Do the damage on the fenced installation."""
    lost = settings.data_dir / LOST
    lost.mkdir()
    if scenario is Scenario.TEMPORAL_LOST:
        _take_away(settings.data_dir / "temporal.db", lost)
    if scenario.takes_database:
        _take_away(database_file(settings), lost)
        shutil.copy(backup, database_file(settings))


def _take_away(file: Path, to: Path) -> None:
    for suffix in _FILES:
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(to / part.name)


def recover(scenario: Scenario, settings: Settings, say: Callable[[str], None]) -> Recovered:
    """The command of the runbook, run while no worker does."""
    match scenario:
        case Scenario.TEMPORAL_LOST:
            return asyncio.run(_resume(settings, say))
        case Scenario.DATABASE_RESTORED | Scenario.DATABASE_LOST:
            return asyncio.run(_repair(settings, say))
        case Scenario.KILL_EVERYTHING:
            return Recovered()


async def _resume(settings: Settings, say: Callable[[str], None]) -> Recovered:
    wired = wiring.build(settings)
    try:
        client = await temporal_client.connect(settings)
        windows = Windows(settings.settle_within_days * 86_400, settings.action_window_seconds)
        done = await resume_all(wired.edge.database, client, wired.edge.providers, windows, wired.edge.now())
    finally:
        await wired.close()
    say(f"resume: {len(done.started)} workflows started from the database")
    return Recovered({"workflows started from the database": len(done.started)})


async def _repair(settings: Settings, say: Callable[[str], None]) -> Recovered:
    findings = await check(settings, Wanted(is_repair=True))
    say(f"restore-check: {len(findings.provable)} gaps repaired, {len(findings.left)} need a person")
    second = await check(settings, Wanted(is_repair=False))
    counts = Counter(str(gap.kind) for gap in findings.gaps)
    return Recovered(dict(sorted(counts.items())), tuple(findings.left), tuple(second.gaps))
