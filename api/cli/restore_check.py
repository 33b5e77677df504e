"""`corridor restore-check`: the database came back older than the world; list what it lacks, repair what is proven."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from temporalio.service import RPCError

from api.cli import output
from api.cli.acts import on_record
from api.cli.exit_codes import ExitCode
from api.cli.history import open_archive
from api.cli.temporal_says import trouble
from corridor.runtime import client as temporal_client
from corridor.runtime import settings
from corridor.runtime.settings import Settings
from corridor.storage.database import DatabaseUnavailable
from corridor.storage.deadlines import UNHURRIED
from workers import wiring
from workers.histories.archive import ArchiveDamaged
from workers.rebuild.compare import NOT_DERIVABLE
from workers.restore.check import Check
from workers.restore.fence import POLLS_WITHIN, StillWorking, require_nobody
from workers.restore.gaps import Findings
from workers.wiring import Wiring

SHOWN = 40
LIST_SETTLES_WITHIN = timedelta(seconds=20)


@dataclass(frozen=True)
class Wanted:
    """What the operator asked for. `archive`: also histories exported there, which the server has not any more.

    `is_forced`: repair although workers or the API seem to be at work; one killed a moment ago seems so too.
    """

    is_repair: bool
    since: datetime | None = None
    query: str = ""
    archive: Path | None = None
    is_forced: bool = False

    def words(self) -> dict[str, object]:
        """For the record of operators' acts."""
        return {
            "repair": self.is_repair,
            "force": self.is_forced,
            "since": None if self.since is None else self.since.isoformat(),
            "query": self.query,
            "archive": None if self.archive is None else str(self.archive),
        }


def run(given: Mapping[str, object], wanted: Wanted, *, as_json: bool) -> ExitCode:
    """Success when nothing is missing any more; what a person must look at is a failure."""
    findings = Findings(repaired=wanted.is_repair)
    try:
        asyncio.run(check(settings.load(**given), wanted, findings))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}; {so_far(findings)}")
        return ExitCode.UNAVAILABLE
    except StillWorking as working:
        output.talk(
            f"corridor: still at work: {working}; nothing was changed. Stop them first (one that was stopped is"
            f" forgotten after {POLLS_WITHIN.seconds} s), or give --force if you know that they are gone"
        )
        return ExitCode.CONFLICT
    except ArchiveDamaged as damaged:
        output.talk(f"corridor: the archive is damaged: {damaged}; {so_far(findings)}")
        return ExitCode.FAILURE
    except (RPCError, RuntimeError) as error:
        output.talk(f"corridor: {trouble(error)}; {so_far(findings)}")
        return ExitCode.UNAVAILABLE
    output.document(document(findings)) if as_json else _tell(findings)
    is_open = findings.left or (findings.provable and not findings.repaired)
    return ExitCode.FAILURE if is_open else ExitCode.OK


def so_far(findings: Findings) -> str:
    """What a run did before it was cut off; a repair cut off goes on where it was."""
    if not findings.repaired:
        return f"{findings.histories} histories were read; nothing was changed: run it again when it is back"
    if not findings.made_again and not findings.stopped:
        return "no payment was repaired: run it again when it is back"
    stopped = f" and {len(findings.stopped)} workflows were stopped" if findings.stopped else ""
    return (
        f"{len(findings.made_again)} payments were repaired and stay so{stopped}; the rest was not: "
        "keep workers and API stopped and run it again when it is back"
    )


async def check(loaded: Settings, wanted: Wanted, findings: Findings | None = None) -> Findings:
    """One run against the installation that these settings describe; a repair is on the record of operators' acts.

    `findings` is filled on the way. Raises `StillWorking`, before anything is done.
    """
    findings = Findings(repaired=wanted.is_repair) if findings is None else findings
    wired = wiring.build(loaded, deadlines=UNHURRIED)
    try:
        if not wanted.is_repair:
            await _check(loaded, wanted, wired, findings)
            return findings
        async with on_record(wired.edge.database, loaded, "restore-check", wanted.words()) as act:
            try:
                await _check(loaded, wanted, wired, findings)
                act.result = {"provable": len(findings.provable), "left": len(findings.left)}
                act.result["repaired"] = findings.repaired
            finally:
                act.result["payments"] = len(findings.made_again)
            return findings
    finally:
        await wired.close()


async def _check(loaded: Settings, wanted: Wanted, wired: Wiring, findings: Findings) -> None:
    client = await temporal_client.connect(loaded)
    if wanted.is_repair and not wanted.is_forced:
        providers, now = wired.edge.providers.names, datetime.now(UTC)
        await require_nobody(client, providers, loaded.api_address, now)
    archive = None if wanted.archive is None else open_archive(loaded, wanted.archive)
    asked = Check(wired.edge, client, wanted.since, wanted.query, archive, LIST_SETTLES_WITHIN)
    await asked.run(is_repair=wanted.is_repair, findings=findings)


def document(findings: Findings) -> dict[str, object]:
    """The findings as one JSON document."""
    return {
        "histories": findings.histories,
        "repaired": findings.repaired,
        "counts": Counter(gap.kind for gap in findings.gaps),
        "gaps": [dataclasses.asdict(gap) | {"provable": gap.is_provable} for gap in findings.gaps],
        "stopped": findings.stopped,
        "in_no_history": dict(NOT_DERIVABLE),
    }


def _tell(findings: Findings) -> None:
    for gap in findings.left:
        output.line(f"NEEDS YOU  {gap}")
    for gap in findings.provable[:SHOWN]:
        output.line(f"{'repaired' if findings.repaired else 'missing '}   {gap}")
    if len(findings.provable) > SHOWN:
        output.line(f"… and {len(findings.provable) - SHOWN} more; --json lists all")
    for workflow_id in findings.stopped:
        output.line(f"stopped    {workflow_id}")
    counts = Counter(str(gap.kind) for gap in findings.gaps)
    output.pairs(
        {"histories read": str(findings.histories), **{kind: str(n) for kind, n in sorted(counts.items())}}
    )
    if findings.gaps:
        output.talk(f"in no history, and as old as the backup: {', '.join(NOT_DERIVABLE)}")
    if not findings.gaps:
        output.talk("the database knows all that the histories and the providers tell")
    elif findings.provable and not findings.repaired:
        output.talk("nothing was changed; --repair makes again what is proven (stop the workers first)")
