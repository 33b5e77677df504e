"""`corridor whatif`: what a changed policy would have made of recorded payments, as a report or one JSON document."""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from temporalio.client import Client

from api.cli import output
from api.cli.exit_codes import ExitCode
from api.cli.installation import NotInstalled, database_of
from corridor.domain.money import Money
from corridor.risk.policy import PolicyBroken
from corridor.runtime import client as temporal_client
from corridor.runtime import settings
from corridor.runtime.settings import Settings
from corridor.storage.database import DatabaseUnavailable
from workers.whatif import policy as whatif_policy
from workers.whatif.finding import Judged, Result
from workers.whatif.policy import Change
from workers.whatif.whatif import Report, replay

WIDTH = 140
LISTED = 20
"""Payments shown; `--json` has them all."""
_AGE = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_FIGURES = ("collected", "merchant", "fee_income", "fx_spread_income")


def run(
    given: Mapping[str, object], policy: Path, since: str, until: str | None, *, as_json: bool
) -> ExitCode:
    """Replay and report; fails when the records do not reproduce themselves."""
    now = datetime.now(UTC)
    try:
        change = whatif_policy.read(policy)
        begin, end = moment(since, now), moment(until, now) if until is not None else now
    except OSError as error:
        output.talk(f"corridor: {policy} cannot be read: {error.strerror}")
        return ExitCode.NOT_FOUND
    except (PolicyBroken, ValueError) as error:
        output.talk(f"corridor: {error}")
        return ExitCode.USAGE
    try:
        report = asyncio.run(_replay(settings.load(**given), change, begin, end))
    except NotInstalled as error:
        output.talk(f"corridor: {error}")
        return ExitCode.NOT_FOUND
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}")
        return ExitCode.UNAVAILABLE
    if as_json:
        output.document(report.document())
    else:
        _print(report)
    return ExitCode.FAILURE if report.faith.unfaithful else ExitCode.OK


def moment(text: str, now: datetime) -> datetime:
    """A day or time (UTC where no zone is named), or an age before `now`: 90m, 24h, 7d. Raises `ValueError`."""
    if (age := _AGE.fullmatch(text)) is not None:
        return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        named = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a time like 2026-11-01T08:00Z nor an age like 24h") from None
    return named if named.tzinfo is not None else named.replace(tzinfo=UTC)


async def _replay(loaded: Settings, change: Change, since: datetime, until: datetime) -> Report:
    async def connect() -> Client:
        return await temporal_client.connect(loaded)

    database = database_of(loaded)
    try:
        return await replay(database, connect, change, since, until)
    finally:
        await database.close()


def _print(report: Report) -> None:
    out = Console(width=WIDTH, highlight=False, markup=False, emoji=False)
    span = f"{report.since.isoformat(timespec='seconds')} to {report.until.isoformat(timespec='seconds')}"
    out.print(f"{len(report.judged)} payments, {span}\nunder {report.policy}\n")
    out.print(_counted(report))
    _because(out, "would have changed", report.reasons(Result.CHANGED))
    _because(out, "not observable", report.reasons(Result.NOT_OBSERVABLE))
    _money(out, report)
    _listed(out, report)
    if report.without_history is not None:
        out.print(f"{report.without_history}: tries and look-ups could not be read\n")
    if report.undecided:
        out.print(f"{len(report.undecided)} payments of this time were never judged and are left out\n")
    out.print(_faith(report), soft_wrap=True)


def _counted(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("section")
    for result in Result:
        table.add_column(result.replace("_", " "), justify="right")
    for section in report.sections:
        table.add_row(section, *map(str, report.counts(section).values()))
    if len(report.sections) > 1:
        table.add_row("payment as a whole", *map(str, report.counts().values()), style="bold")
    return table


def _because(out: Console, title: str, reasons: Mapping[str, int]) -> None:
    if reasons:
        out.print(f"{title}:")
    for why, count in reasons.items():
        out.print(f"  {count:>6}  {why}", soft_wrap=True)
    if reasons:
        out.print()


def _money(out: Console, report: Report) -> None:
    """Per currency: amounts of different currencies are never added."""
    totals = report.totals()
    if not totals:
        out.print("no difference in money that the past can tell\n")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("would be minus was")
    for name in ("collected from buyers", "to merchants", "our fees", "FX spread"):
        table.add_column(name, justify="right", no_wrap=True)
    for currency, figures in totals.items():
        amounts = (Money(figures[it], currency) if it in figures else None for it in _FIGURES)
        table.add_row(currency, *("–" if it is None else f"{it.major():+}" for it in amounts))
    out.print(table)


def _listed(out: Console, report: Report) -> None:
    told = [it for it in report.judged if it.result is not Result.UNCHANGED]
    told.sort(key=_weight, reverse=True)
    for judged in told[:LISTED]:
        _one(out, judged)
    if len(told) > LISTED:
        out.print(f"… and {len(told) - LISTED} more; --json has them all")
    if told:
        out.print()


def _weight(judged: Judged) -> int:
    """Payments that would not have been made come first, then what nobody can tell, then other prices."""
    if judged.result is Result.NOT_OBSERVABLE:
        return 1
    return 2 * any(
        it.ends_payment or it.section != "fx" for it in judged.findings if it.result is Result.CHANGED
    )


def _one(out: Console, judged: Judged) -> None:
    told = f"{judged.payment_id}  {judged.amount}, {judged.status}: {judged.result.replace('_', ' ')}"
    out.print(told, soft_wrap=True)
    for it in judged.findings:
        if it.result is not Result.UNCHANGED:
            detail = f" ({it.detail})" if it.detail else ""
            out.print(f"    {it.section}: {it.was} → {it.would_be}: {it.why}{detail}", soft_wrap=True)
    if judged.money:
        figures = (
            f"{it.figure.replace('_', ' ')} {it.amount.major():+} {it.amount.currency}" for it in judged.money
        )
        out.print(f"    {', '.join(figures)}", soft_wrap=True)


def _faith(report: Report) -> str:
    faith = report.faith
    checked = f"{faith.decisions} decisions and {faith.quotes} quotes decided again under their own policy"
    missing = f"; {faith.not_checkable} could not be checked" if faith.not_checkable else ""
    if not faith.unfaithful:
        return f"faithful: {checked}: every one came out bit for bit, 0 unfaithful{missing}"
    return (
        f"NOT FAITHFUL: {checked}: {len(faith.unfaithful)} came out otherwise{missing}; nothing above may be "
        f"relied on: {', '.join(faith.unfaithful[:LISTED])}"
    )
