"""`corridor timeline`: one payment's story for a person at a terminal, or as one JSON document."""

import asyncio
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from io import StringIO

from rich.console import Console
from rich.table import Table
from temporalio.client import Client

from api.cli import output
from api.cli.exit_codes import ExitCode
from api.cli.installation import NotInstalled, database_of
from corridor.domain.failure import Refused
from corridor.domain.money import Money
from corridor.runtime import client as temporal_client
from corridor.runtime import settings
from corridor.runtime.settings import Settings
from corridor.storage.database import DatabaseUnavailable
from corridor.storage.records import Json
from workers.timeline.story import Happening, Kind, Moment, NoSuchEvent, Timeline
from workers.timeline.timeline import tell

WIDTH = 140
"""Where the output is no terminal."""
_MERCHANT = re.compile(r"merchant/mer_[0-9a-z]+/")
_WHO = {
    Kind.WORKFLOW: "workflow",
    Kind.SETTLEMENT: "provider",
    Kind.PROVIDER_WEBHOOK: "provider",
    Kind.RISK: "risk",
    Kind.LOOK: "provider",
    Kind.ANSWER: "provider",
    Kind.REVIEW_DECIDED: "review",
    Kind.QUOTE: "fx",
    Kind.POSTING: "ledger",
    Kind.EVENT: "EVENT",
    Kind.REVIEW_OPENED: "review",
    Kind.EFFECT: "effect",
    Kind.MERCHANT_WEBHOOK: "merchant",
}


def run(given: Mapping[str, object], payment_id: str, at: str | None, *, as_json: bool) -> ExitCode:
    """Tell the story; unknown payments and events are NOT_FOUND, a missing Temporal only shortens it."""
    try:
        told = asyncio.run(_tell(settings.load(**given), payment_id, at))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}")
        return ExitCode.UNAVAILABLE
    except (Refused, NoSuchEvent, NotInstalled) as error:
        output.talk(f"corridor: {error}")
        return ExitCode.NOT_FOUND
    if told.without_history is not None:
        output.talk(f"corridor: {told.without_history}; this is the database's part")
    if as_json:
        output.document(told.document())
    else:
        _print(told)
    return ExitCode.OK


async def _tell(loaded: Settings, payment_id: str, at: str | None) -> Timeline:
    async def connect() -> Client:
        return await temporal_client.connect(loaded)

    database = database_of(loaded)
    try:
        return await tell(database, connect, payment_id, at)
    finally:
        await database.close()


def _print(told: Timeline) -> None:
    on_screen = sys.stdout.isatty()
    width = shutil.get_terminal_size((WIDTH, 24)).columns if on_screen else WIDTH
    page = StringIO()
    out = Console(
        file=page, width=width, force_terminal=on_screen, highlight=False, markup=False, emoji=False
    )
    short = _Short(told)
    _heading(out, told)
    _story(out, told.happenings, short)
    if told.moment is not None:
        _moment(out, told.moment, short)
    for line in page.getvalue().splitlines():
        output.line(line.rstrip())


class _Short:
    """Names without the ids that every line of one payment shares."""

    def __init__(self, told: Timeline) -> None:
        self._payment = f"{told.payment['id']}:"

    def __call__(self, text: str) -> str:
        return _MERCHANT.sub("merchant/", text.replace(self._payment, ""))


def _heading(out: Console, told: Timeline) -> None:
    payment = told.payment
    reason = f" ({payment['status_reason']})" if payment["status_reason"] else ""
    out.print(f"{payment['id']}  {_money(payment['amount'])}  {payment['corridor']}")
    out.print(f"now {payment['status']}{reason}, {payment['last_sequence']} events\n")


def _story(out: Console, happenings: tuple[Happening, ...], short: _Short) -> None:
    """One line each; times count from the first."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True, style="dim")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    begin = happenings[0].at
    out.print(f"from {begin.isoformat(timespec='milliseconds')}")
    for it in happenings:
        style = "bold" if it.kind is Kind.EVENT else "dim" if it.kind is Kind.WORKFLOW else None
        table.add_row(_since(begin, it.at), _WHO[it.kind], short(it.text), style=style)
    out.print(table)


def _since(begin: datetime, at: datetime) -> str:
    """`+12.345s`, `+3m02.5s`, `+2d 04h`: shorter where it matters less. From integers, as all we print."""
    milliseconds = (at - begin) // (datetime.resolution * 1000)
    seconds, rest = divmod(milliseconds, 1000)
    if seconds < 60:
        return f"+{seconds}.{rest:03}s"
    if seconds < 3600:
        return f"+{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86_400:
        return f"+{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"+{seconds // 86_400}d{seconds % 86_400 // 3600:02}h"


def _moment(out: Console, stood: Moment, short: _Short) -> None:
    payment = stood.payment
    out.print(f"\nafter {stood.event.text}", style="bold")
    rows = {
        "event": str(stood.event.facts["event"]),
        "caused by": short(f"{stood.cause.actor}: {stood.cause.text}"),
        "together with": "\n".join(short(it.text) for it in stood.cause.evidence) or "nothing else",
        "status": payment["status"] + (f" ({payment['status_reason']})" if payment["status_reason"] else ""),
        "captured": _money(payment["amount_captured"]),
        "refunded": _money(payment["amount_refunded"]),
        "refundable": _money(payment["refundable"]),
        "settled": _money(payment["settlement"]["amount"]) if payment["settlement"]["amount"] else "–",
        "deadlines": ", ".join(f"{name} {at}" for name, at in stood.deadlines.items() if at) or "–",
        "open effects": _list(
            f"{it['effect']} ({it['operation']} {it['amount']})" for it in stood.open_effects
        ),
        "open reviews": _list(f"{it['review']} ({it['reason']})" for it in stood.open_reviews),
    }
    rows |= {it["id"]: f"{it['status']} refund of {_money(it['amount'])}" for it in stood.refunds}
    _pairs(out, rows)
    out.print("\nbalances then (debits positive: what a merchant may claim is negative)")
    _balances(out, stood)


def _list(texts: Iterable[str]) -> str:
    return ", ".join(texts) or "none"


def _pairs(out: Console, rows: Mapping[str, str]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    out.print(table)


def _balances(out: Console, stood: Moment) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("account", no_wrap=True)
    table.add_column("by this payment", justify="right", no_wrap=True)
    table.add_column("whole account", justify="right", no_wrap=True)
    for it in stood.balances:
        moved, held = Money(it.moved_minor, it.currency), Money(it.balance_minor, it.currency)
        table.add_row(it.account, f"{moved.major():+}", f"{held.major():+}")
    out.print(table if stood.balances else "none: nothing was posted yet")


def _money(view: Json) -> str:
    return str(Money(view["minor"], view["currency"]))
