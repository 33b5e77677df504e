"""The disasters of a drill: what is destroyed, and what an operator runs before anything moves again."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from api.cli.drill import backup
from api.cli.restore_check import Wanted, check
from api.cli.resume import resume
from corridor.runtime.settings import Settings
from workers.restore.gaps import Gap


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


async def destroy(scenario: Scenario, settings: Settings, backup_file: Path) -> Settings:
    """Do the damage on the fenced installation; returns the settings of what is left of it."""
    if scenario is Scenario.TEMPORAL_LOST:
        lost = settings.data_dir / backup.LOST
        lost.mkdir()
        backup.take_away(settings.temporal_store, lost)
    if scenario.takes_database:
        return await backup.put_back(settings, backup_file)
    return settings


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
    done = await resume(settings)
    say(f"resume: {len(done.started)} workflows started from the database")
    return Recovered({"workflows started from the database": len(done.started)})


async def _repair(settings: Settings, say: Callable[[str], None]) -> Recovered:
    # A Temporal that outlives them still lists the workers as they were before they were killed; nobody else has any.
    findings = await check(settings, Wanted(is_repair=True, is_forced=True))
    say(f"restore-check: {len(findings.provable)} gaps repaired, {len(findings.left)} need a person")
    second = await check(settings, Wanted(is_repair=False))
    counts = Counter(str(gap.kind) for gap in findings.gaps)
    return Recovered(dict(sorted(counts.items())), tuple(findings.left), tuple(second.gaps))
