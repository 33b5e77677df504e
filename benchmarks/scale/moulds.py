"""Moulds: real payments of every kind, carried by the steps in a small database, taken apart to be cast again.

A filled database is then made of rows the product's own code wrote. Only what must differ between two payments does:
ids, keys, references, accounts that carry the merchant's id, and every time stamp, also those inside JSON texts.
"""

import json
import re
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Table, func, select

from benchmarks.scale.steps import BATCH, Clock, Order, Steps, steps_on
from corridor.domain.effect import Operation, effect_key
from corridor.domain.ids import Prefix, created_at
from corridor.domain.money import Money
from corridor.domain.outcome import Outcome
from corridor.runtime.settings import Settings
from corridor.storage import merchants, webhook_endpoints
from corridor.storage.columns import UtcTime
from corridor.storage.ledger_tables import entries, postings
from corridor.storage.merchants import NewMerchant
from corridor.storage.migrate import upgrade_async
from corridor.storage.tables import (
    effects,
    event_positions,
    events,
    idempotency_keys,
    payments,
    provider_events,
    quotes,
    refunds,
    reviews,
    risk_decisions,
    settlement_lines,
    unpositioned_events,
    webhook_deliveries,
)

CAST: tuple[Table, ...] = (
    payments, idempotency_keys, risk_decisions, quotes, effects, refunds, reviews, provider_events,
    settlement_lines, events, event_positions, unpositioned_events, webhook_deliveries, postings, entries,
)  # fmt: skip
"""What a payment leaves rows in, parents before children."""

AMOUNTS = (
    Money(10_000, "EUR"),
    Money(2_599, "EUR"),
    Money(18_950, "USD"),
    Money(7_450, "GBP"),
    Money(12_500, "JPY"),
)
HIGH = Money(900_000, "EUR")
"""Above what risk lets through without a person."""
SETTLES_AFTER = timedelta(hours=1)
REFUNDED_AFTER = timedelta(minutes=30)
MERCHANT = "mer_00000000000000000000000000"
ENDPOINT = "whe_00000000000000000000000000"
NUMBER = "5757575757"
_MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)"
_ID = r"(?:pay|rfd|qte|rvw|evt|whe|dlv|pev|mer|pi|re)_[0-7][0-9a-hjkmnp-tv-z]{25}"
_MARKS = re.compile(f"({_MOMENT}|{_ID}|{BATCH}|{NUMBER})")


@dataclass(frozen=True)
class Moment:
    """A time inside a text, as its distance from the payment's acceptance, and how it is written."""

    after: timedelta
    zulu: bool
    digits: int

    def text(self, accepted: datetime) -> str:
        moment = (accepted + self.after).replace(tzinfo=None)
        timespec = {0: "seconds", 3: "milliseconds"}.get(self.digits, "microseconds")
        return moment.isoformat(timespec=timespec) + ("Z" if self.zulu else "+00:00")


@dataclass(frozen=True)
class Text:
    """A text that carries marks: pieces of it, every second one a mark."""

    pieces: tuple[str, ...]

    def cast(self, marks: Mapping[str, str]) -> str:
        return "".join(marks[piece] if at & 1 else piece for at, piece in enumerate(self.pieces))


Cell = Any
"""A value that stays, a `Text`, or the `timedelta` of a time column."""


@dataclass(frozen=True)
class CastRow:
    """One row of a table; cells in the order of the table's columns."""

    table: Table
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Mould:
    """One real payment in rows, and all its marks: what differs in each cast."""

    kind: str
    currency: str
    rows: tuple[CastRow, ...]
    moments: dict[str, Moment]
    drawn: dict[str, timedelta]
    """Ids that were drawn by chance, and when after the acceptance."""
    references: tuple[str, ...]
    """The provider's ids, which follow from ours."""
    events: tuple[tuple[str, str, int, timedelta], ...]
    """(event, object, sequence, after): an event's id follows from its object and number."""
    deliveries: tuple[tuple[str, str, timedelta], ...]
    """(delivery, event, after): a delivery's id follows from its endpoint and event."""
    lasts: timedelta


Tale = Callable[[Steps, Order], Awaitable[None]]


async def _captured(steps: Steps, order: Order) -> None:
    """Taken from the buyer, waiting for the provider's payout (or, when manual, for the capture)."""
    await _taken(steps, order)


async def _taken(steps: Steps, order: Order, outcome: Outcome = Outcome.APPROVED) -> Any:
    row = await steps.accept(order)
    await steps.prepare(row)
    steps.clock.forward(milliseconds=240)
    operation = Operation.AUTHORISE if order.manual else Operation.SALE
    await steps.execute(effect_key(row.id, operation, 1), outcome)
    await _told(steps)
    if outcome is Outcome.APPROVED:
        await steps.hear(row, b"")
    return row


async def _told(steps: Steps) -> None:
    steps.clock.forward(milliseconds=300)
    await steps.place()
    steps.clock.forward(milliseconds=150)
    await steps.deliver()


async def _failed(steps: Steps, order: Order) -> None:
    await _taken(steps, order, Outcome.DECLINED)


async def _settled(steps: Steps, order: Order) -> Any:
    row = await _taken(steps, order)
    steps.clock.moment += SETTLES_AFTER
    await steps.report(row)
    steps.clock.forward(seconds=5)
    await steps.settle(row)
    await _told(steps)
    return row


async def _refunded(steps: Steps, order: Order) -> None:
    row = await _settled(steps, order)
    steps.clock.moment += REFUNDED_AFTER
    amount = Money(order.amount.minor // 2, order.amount.currency)
    refund_id = await steps.refund(row, amount)
    await _told(steps)
    steps.clock.moment += SETTLES_AFTER
    await steps.report_refund(row, refund_id, amount)


async def _asked(steps: Steps, order: Order) -> None:
    await steps.prepare(await steps.accept(order))
    await _told(steps)


async def _unknown(steps: Steps, order: Order) -> None:
    row = await _taken(steps, order, Outcome.UNKNOWN)
    steps.clock.forward(seconds=90)
    await steps.ask_person(row)
    await _told(steps)


async def _unstarted(steps: Steps, order: Order) -> None:
    await steps.accept(order)


TALES: dict[str, tuple[Tale, tuple[Money, ...]]] = {
    "captured": (_captured, AMOUNTS),
    "authorized": (_captured, AMOUNTS[:2]),
    "failed": (_failed, AMOUNTS[:3]),
    "settled": (_settled, AMOUNTS),
    "refunded": (_refunded, AMOUNTS[:3]),
    "review": (_asked, (HIGH,)),
    "unknown": (_unknown, AMOUNTS[:1]),
    "unstarted": (_unstarted, AMOUNTS[:1]),
}


async def make(
    settings: Settings, directory: Path, now: datetime, variety: int = 5
) -> dict[str, list[Mould]]:
    """Carry one payment of every kind and of up to `variety` amounts, each in a database of its own."""
    accepted = now.replace(microsecond=now.microsecond // 1000 * 1000)
    empty = directory / "moulds.db"
    await upgrade_async(f"sqlite:///{empty}")
    found: dict[str, list[Mould]] = {}
    for kind, (tale, amounts) in TALES.items():
        wanted = amounts[:variety]
        found[kind] = [await _mould(settings, empty, kind, tale, amount, accepted) for amount in wanted]
    return found


async def _mould(
    settings: Settings, empty: Path, kind: str, tale: Tale, amount: Money, accepted: datetime
) -> Mould:
    path = empty.with_name("mould.db")
    for old in empty.parent.glob("mould.db*"):
        old.unlink()
    shutil.copy(empty, path)
    wired, steps = steps_on(settings, f"sqlite:///{path}", Clock(accepted))
    await steps.database.write(_people, accepted)
    await tale(steps, Order(MERCHANT, amount, NUMBER, manual=kind == "authorized"))
    made = await steps.database.read(_take_apart, kind, amount.currency, accepted)
    await wired.close()
    return made


def _people(connection: Connection, now: datetime) -> None:
    merchants.create_merchant(
        connection, NewMerchant(id=MERCHANT, name="Mould", country="CN", settle_currency="CNY"), now
    )
    webhook_endpoints.create(
        connection, endpoint_id=ENDPOINT, merchant_id=MERCHANT, url="https://shop.example/hook", event_types=[],
        secret_sealed=b"-", now=now,
    )  # fmt: skip


def _take_apart(connection: Connection, kind: str, currency: str, accepted: datetime) -> Mould:
    """Read as the database stores them, so that what JSON's null and SQL's null are stays told apart."""
    rows = tuple(row for table in CAST for row in _rows_of(connection, table, accepted))
    marks = {
        piece for row in rows for cell in row.cells if isinstance(cell, Text) for piece in cell.pieces[1::2]
    }
    moments = {mark: _moment(mark, accepted) for mark in marks if re.fullmatch(_MOMENT, mark)}
    placed = connection.execute(select(events).order_by(events.c.object_id, events.c.sequence)).all()
    sent = connection.execute(select(webhook_deliveries)).all()
    derived = {row.id for row in placed} | {row.id for row in sent} | {MERCHANT, ENDPOINT}
    drawn = [mark for mark in marks if re.fullmatch(_ID, mark) and mark not in derived]
    last = connection.execute(select(func.max(events.c.created_at))).scalar_one()
    booked = connection.execute(select(func.max(postings.c.posted_at))).scalar_one() or last
    return Mould(
        kind=kind,
        currency=currency,
        rows=rows,
        moments=moments,
        drawn={mark: created_at(mark) - accepted for mark in drawn if mark[:3] in set(Prefix)},
        references=tuple(mark for mark in drawn if mark[:3] not in set(Prefix)),
        events=tuple((row.id, row.object_id, row.sequence, row.created_at - accepted) for row in placed),
        deliveries=tuple((row.id, row.event_id, row.created_at - accepted) for row in sent),
        lasts=max(last, booked) - accepted + timedelta(seconds=10),
    )


def _rows_of(connection: Connection, table: Table, accepted: datetime) -> Iterator[CastRow]:
    names = ", ".join(f'"{column.name}"' for column in table.c)
    found = connection.exec_driver_sql(f"SELECT {names} FROM {table.name}")  # noqa: S608 — our own tables
    for row in found:
        yield CastRow(
            table, tuple(_cell(column, value, accepted) for column, value in zip(table.c, row, strict=True))
        )


def _cell(column: Column[Any], value: Any, accepted: datetime) -> Cell:
    if value is None:
        return None
    if isinstance(column.type, UtcTime):
        return datetime.fromisoformat(value).replace(tzinfo=UTC) - accepted
    if isinstance(value, str):
        pieces = tuple(_MARKS.split(value))
        return Text(pieces) if len(pieces) > 1 else value
    return value


def webhook_body(provider_reference: str) -> bytes:
    """What the provider posted, in Stripe's shape and about its size."""
    charge = {"id": provider_reference, "object": "payment_intent", "status": "succeeded"}
    padding = {f"field_{number:02d}": "0" * 24 for number in range(30)}
    return json.dumps({"type": "payment_intent.succeeded", "data": {"object": charge | padding}}).encode()


def _moment(text: str, accepted: datetime) -> Moment:
    whole = text.removesuffix("Z").removesuffix("+00:00")
    after = datetime.fromisoformat(whole).replace(tzinfo=UTC) - accepted
    return Moment(after, text.endswith("Z"), len(whole.partition(".")[2]))
