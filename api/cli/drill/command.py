"""`corridor drill`: run the disasters one after the other, each on an installation of its own; report and keep."""

import dataclasses
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from api.cli import output
from api.cli.drill import account, page, remote, table
from api.cli.drill.account import Account
from api.cli.drill.backup import BackupFailed
from api.cli.drill.disasters import Scenario
from api.cli.drill.exercise import perform
from api.cli.drill.remote import ClusterUnusable
from api.cli.exit_codes import ExitCode
from api.cli.stopping import all_signals_interrupt
from corridor.runtime.ports import PortTaken
from corridor.runtime.postgres import PostgresFailed
from corridor.runtime.process import ChildFailed
from corridor.runtime.stack import AlreadyRunning
from corridor.runtime.temporal_server import ServerMissing

INTERRUPTED = 130


def chosen(name: str) -> tuple[Scenario, ...]:
    """The scenarios a word names. Raises `ValueError`."""
    return tuple(Scenario) if name == "all" else (Scenario(name),)


def run(
    scenarios: tuple[Scenario, ...], payments: int, seed: int, report: Path | None, *, as_json: bool
) -> int:
    """Returns the exit status: 0 only if nothing was lost, doubled or unproven."""
    all_signals_interrupt()
    begun = datetime.now(UTC)
    if remote.given() and Scenario.TEMPORAL_LOST in scenarios:
        output.talk(
            "corridor: refused: TEMPORAL_ADDRESS or TEMPORAL_PROFILE leads to a Temporal that the drill did not start,"
            f" and it does not destroy that; unset them to practise {Scenario.TEMPORAL_LOST}, or name another --scenario"
        )
        return ExitCode.CONFLICT
    try:
        accounts = [_one(scenario, payments, seed) for scenario in scenarios]
    except KeyboardInterrupt:
        output.talk("corridor: interrupted; nothing of the drill is running any more")
        return INTERRUPTED
    except (AlreadyRunning, PortTaken) as error:
        output.talk(f"corridor: {error}")
        return ExitCode.CONFLICT
    except (ChildFailed, ServerMissing, PostgresFailed, BackupFailed, ClusterUnusable) as error:
        output.talk(f"corridor: {error}")
        return ExitCode.UNAVAILABLE
    if report is not None:
        _keep(report, accounts, begun)
    output.document(document(accounts, begun)) if as_json else output.line(table.text(accounts))
    return ExitCode.OK if accounts and all(it.holds for it in accounts) else ExitCode.FAILURE


def _one(scenario: Scenario, payments: int, seed: int) -> Account:
    directory = Path(tempfile.mkdtemp(prefix=f"corridor-drill-{scenario}-"))
    begun = time.monotonic()

    def say(text: str) -> None:
        output.talk(f"{time.monotonic() - begun:6.1f} s  {scenario}: {text}")

    say(f"seed {seed}, data in {directory}")
    return account.of(perform(scenario, directory, payments, seed, say))


def document(accounts: list[Account], begun: datetime) -> dict[str, object]:
    """Everything that was measured."""
    return {
        "begun": begun.isoformat(timespec="seconds"),
        "holds": all(it.holds for it in accounts),
        "disasters": [{**dataclasses.asdict(it), "holds": it.holds} for it in accounts],
    }


def _keep(directory: Path, accounts: list[Account], begun: datetime) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document(accounts, begun), indent=2, default=str)
    (directory / "drill.json").write_text(text + "\n", "utf-8")
    (directory / "drill.html").write_text(page.html(accounts, begun), "utf-8")
    output.talk(f"kept: {directory / 'drill.html'} and drill.json beside it")
