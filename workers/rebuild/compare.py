"""A rebuilt database beside the live one, row by row and column by column; what no history can tell is named."""

import hashlib
import heapq
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, cast, func, select

from corridor.domain.quote import QuoteStatus
from corridor.storage.ledger_tables import account_balances, entries, postings
from corridor.storage.tables import (
    effects,
    events,
    idempotency_keys,
    payments,
    quotes,
    refunds,
    reviews,
    settlement_batches,
    settlement_lines,
)
from workers.rebuild.shelf import Shelf

LISTED = 200
"""Differences shown of each table; all are counted."""

_STREAMED = {"yield_per": 500}
"""As many rows are fetched at once; a whole table is never held."""

Key = tuple[Any, ...]
Values = dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """A table: its rows, their key, whose they are, and the columns no history tells, each with the reason."""

    name: str
    query: Select[Any]
    key: tuple[str, ...]
    object_columns: tuple[str, ...]
    """Columns that name the payment or refund a row belongs to."""
    not_derivable: Mapping[str, str] = field(default_factory=dict)
    """By column, or `column.field` where a part of a JSON value is left out."""
    amount: str | None = None
    """The column that counts minor units of the row's `account`, where there is one."""


def _of(table: Any, *leave_out: str) -> Select[Any]:
    return select(*(column for column in table.c if column.name not in leave_out))


_ENTRIES = select(
    postings.c.key, entries.c.leg, entries.c.account, entries.c.amount_minor, postings.c.object_id
).join(entries, entries.c.posting_id == postings.c.id)
_BALANCES = select(
    account_balances.c.account,
    cast(func.sum(account_balances.c.balance_minor), BigInteger).label("balance_minor"),
).group_by(account_balances.c.account)
_NUMBER = "given by the database in the order of commits; a posting is known by its key"
_SHARDS = "only how the sum is spread over rows; the sum is compared"

TABLES: tuple[Compared, ...] = (
    Compared("postings", _of(postings, "id"), ("key",), ("object_id",), {"id": _NUMBER}),
    Compared("entries", _ENTRIES, ("key", "leg"), ("object_id",), {"posting_id": _NUMBER}, "amount_minor"),
    Compared("account_balances", _BALANCES, ("account",), (), {"shard": _SHARDS}, "balance_minor"),
    Compared("payments", _of(payments), ("id",), ("id",)),
    Compared("refunds", _of(refunds), ("id",), ("id", "payment_id")),
    Compared("events", _of(events), ("object_id", "sequence"), ("object_id",)),
    Compared(
        "effects",
        _of(effects, "looks", "declared_by_run"),
        ("key",),
        ("payment_id", "object_id"),
        {
            "looks": "evidence of attempts and look-ups that decided nothing is kept in the database alone",
            "declared_by_run": "it is for the run that declared it, which may send first",
        },
    ),
    Compared(
        "idempotency_keys",
        _of(idempotency_keys, "lease_until").where(
            idempotency_keys.c.resource_id.startswith("pay_")
            | idempotency_keys.c.resource_id.startswith("rfd_")
        ),
        ("merchant_id", "key"),
        ("resource_id",),
        {"lease_until": "whose turn it is while a request runs; means nothing once it is answered"},
    ),
    Compared(
        "quotes",
        _of(quotes).where(quotes.c.status.in_((QuoteStatus.LOCKED, QuoteStatus.USED))),
        ("id",),
        ("payment_id",),
        {"body.considered": "the offers that lost: evidence of best execution, kept in the database alone"},
    ),
    Compared(
        "reviews",
        _of(reviews, "evidence"),
        ("id",),
        ("payment_id", "object_id"),
        {"evidence": "what had been seen at the provider until then is kept in the database alone"},
    ),
    Compared("settlement_lines", _of(settlement_lines), ("provider", "line_id"), ("payment_id",)),
    Compared(
        "settlement_batches",
        _of(settlement_batches, "cursor"),
        ("provider", "batch_id"),
        (),
        {"cursor": "where an import under way had got to"},
    ),
)

NOT_DERIVABLE: Mapping[str, str] = {
    "merchants": "configuration; rows here only stand for the ids",
    "api_keys": "configuration and secrets",
    "idempotency_keys (of captures, cancels, quotes, endpoints)": "a command's key is in no history",
    "quotes (not taken, or given back)": "never told to a workflow, or without meaning any more",
    "risk_decisions": "what risk looked at stays in the database; histories tell the verdict and its reasons",
    "event_positions": "the order of the merchants' feed, given after commit; the sequencer gives a new one",
    "unpositioned_events": "the sequencer's outbox",
    "ledger_seals": "hashes over the live ledger's own numbering; a rebuilt ledger is sealed anew",
    "provider_events": "raw webhooks, sealed, as the provider sent them",
    "operator_acts (but for decisions of reviews)": "who gave a command is on record in the database alone",
    "provider_outages": "what the API saw of providers at that hour",
    "webhook_endpoints": "configuration and secrets",
    "webhook_deliveries": "their attempts are in histories of their own; payments do not depend on them",
    "reference_rates": "published; loaded again from their source",
    "reference_rate_sources": "when their source was asked last",
}
"""Tables that are not rebuilt, and why: they are restored from a backup of the database, or begin anew."""


@dataclass(frozen=True)
class Difference:
    """One row that is not the same. `column` is None where a whole row stands on one side only."""

    table: str
    key: str
    column: str | None
    live: str
    rebuilt: str
    owners: tuple[str, ...] = ()
    """The payments and refunds that the row belongs to."""
    money: tuple[str, int] | None = None
    """The account, and how many minor units more of it the live row holds: those of its entries make its balance's."""

    def __str__(self) -> str:
        where = f"{self.table} {self.key}" + (f" {self.column}" if self.column else "")
        return f"{where}: live {self.live}, rebuilt {self.rebuilt}"


@dataclass
class TableReport:
    """`ahead` counts rows of objects the database tells more of than the histories at hand: no verdict on those."""

    table: str
    equal: int = 0
    different: int = 0
    only_live: int = 0
    only_rebuilt: int = 0
    ahead: int = 0
    not_derivable: Mapping[str, str] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not (self.different or self.only_live or self.only_rebuilt)

    def note(self, difference: Difference) -> None:
        if len(self.differences) < LISTED:
            self.differences.append(difference)


@dataclass
class Comparison:
    """The whole comparison; `ahead` are the objects the histories at hand say less of than the database."""

    tables: list[TableReport] = field(default_factory=list)
    ahead: list[str] = field(default_factory=list)
    not_rebuilt: Mapping[str, str] = field(default_factory=lambda: dict(NOT_DERIVABLE))

    @property
    def holds(self) -> bool:
        return all(table.holds for table in self.tables)

    def document(self) -> dict[str, Any]:
        return {
            "equal": self.holds,
            "tables": [asdict(table) | {"equal_to_live": table.holds} for table in self.tables],
            "ahead": self.ahead,
            "not_rebuilt": dict(self.not_rebuilt),
        }


Rows = Shelf[str, tuple[Key, Values]]
"""A table's rows under their keys as text, which is their order on both sides."""


def sequences(connection: Connection) -> Iterator[tuple[str, int]]:
    """Number of the last event of every payment and refund."""
    for table in (payments, refunds):
        for row in connection.execute(select(table.c.id, table.c.sequence), execution_options=_STREAMED):
            yield row.id, row.sequence


def rows_of(connection: Connection, table: Compared) -> Rows:
    """A table's rows by their key, without what is not derivable."""
    found: Rows = Shelf()
    for row in connection.execute(table.query, execution_options=_STREAMED).mappings():
        key = tuple(row[name] for name in table.key)
        found[str(key)] = key, _without(dict(row), table.not_derivable)
        found.spill()
    return found


def _without(row: Values, not_derivable: Mapping[str, str]) -> Values:
    for name in not_derivable:
        column, _, part = name.partition(".")
        if part:
            row[column] = {key: value for key, value in row[column].items() if key != part}
    return row


def compare(
    live: Callable[[Compared], Rows], rebuilt: Callable[[Compared], Rows], ahead: Sequence[str] = ()
) -> Comparison:
    """Every table in turn, row beside row."""
    found = Comparison(ahead=sorted(ahead))
    behind = frozenset(ahead)
    for table in TABLES:
        found.tables.append(_compare_table(table, live(table), rebuilt(table), behind))
    return found


def _compare_table(table: Compared, live: Rows, rebuilt: Rows, behind: frozenset[str]) -> TableReport:
    report = TableReport(table.name, not_derivable=table.not_derivable)
    for key, ours, theirs in _pairs(live, rebuilt):
        if ours == theirs:
            report.equal += 1
        elif behind and _is_behind(table, ours or theirs or {}, behind):
            report.ahead += 1
        else:
            _tell(report, table, key, ours, theirs)
    return report


def _pairs(live: Rows, rebuilt: Rows) -> Iterator[tuple[Key, Values | None, Values | None]]:
    """Both sides by key; None where a side has no such row."""
    sides = heapq.merge(_of_side(0, live), _of_side(1, rebuilt), key=_text)
    for _, same in itertools.groupby(sides, key=_text):
        found = {side: (key, row) for _, side, key, row in same}
        (key, _), *_ = found.values()
        yield key, found.get(0, (key, None))[1], found.get(1, (key, None))[1]


def _of_side(side: int, rows: Rows) -> Iterator[tuple[str, int, Key, Values]]:
    return ((text, side, key, row) for text, (key, row) in rows.in_order())


def _text(one: tuple[str, int, Key, Values]) -> str:
    return one[0]


def _is_behind(table: Compared, row: Values, behind: frozenset[str]) -> bool:
    """What belongs to no one object (a sum, a provider's payout) cannot be judged while any is behind."""
    owners = _owners(table, row)
    return not owners or not owners.isdisjoint(behind)


def _owners(table: Compared, row: Values) -> set[str]:
    return {row[name] for name in table.object_columns} - {None}


def _tell(
    report: TableReport, table: Compared, key: Key, live: Values | None, rebuilt: Values | None
) -> None:
    name = " ".join(map(str, key))
    owners = tuple(sorted(_owners(table, live or rebuilt or {})))
    money = _money(table, live, rebuilt)
    if live is None or rebuilt is None:
        only = "only_rebuilt" if live is None else "only_live"
        setattr(report, only, getattr(report, only) + 1)
        row = _row(live or rebuilt or {})
        sides = ("absent", row) if live is None else (row, "absent")
        return report.note(Difference(table.name, name, None, *sides, owners, money))
    report.different += 1
    for column in _differing(live, rebuilt):
        report.note(
            Difference(
                table.name,
                name,
                column,
                _shown(live[column], column),
                _shown(rebuilt[column], column),
                owners,
                money if column == table.amount else None,
            )
        )


def _money(table: Compared, live: Values | None, rebuilt: Values | None) -> tuple[str, int] | None:
    """None where the two sides are of different accounts, too: that is no sum."""
    accounts = {row["account"] for row in (live, rebuilt) if row is not None and table.amount is not None}
    if table.amount is None or len(accounts) != 1:
        return None
    ours, theirs = (0 if row is None else int(row[table.amount]) for row in (live, rebuilt))
    return accounts.pop(), ours - theirs


def _differing(live: Values, rebuilt: Values) -> Iterator[str]:
    return (column for column in live if live[column] != rebuilt[column])


_HIDDEN = frozenset(
    {
        "payment_token", "instrument", "payer_reference", "merchant_reference", "return_url", "extra", "next_action",
        "body", "data", "previous", "request", "idempotency_key",
    }
)  # fmt: skip
"""Personal or long: a report is copied into tickets, so of these it shows a fingerprint that tells equal from other."""


def _row(values: Values) -> str:
    return ", ".join(f"{name} {_shown(value, name)}" for name, value in values.items() if name not in _HIDDEN)


def _shown(value: Any, column: str = "") -> str:
    if column in _HIDDEN and value is not None:
        text = json.dumps(value, sort_keys=True, default=str)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if isinstance(value, datetime):
        return value.isoformat()
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
