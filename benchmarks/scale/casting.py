"""Casting moulds into rows, with everything that follows from all payments together: order, balances, totals, seals."""

import hashlib
import heapq
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Table

from benchmarks.scale import moulds
from benchmarks.scale.moulds import CastRow, Mould, Text
from benchmarks.scale.sinks import Sink
from benchmarks.scale.steps import BATCH, PROVIDER, reference_of
from corridor.domain.ids import Prefix, new_id
from corridor.domain.settlement import SettlementLine
from corridor.ledger import seal, store
from corridor.ledger.chart import currency_of, never_in_debit
from corridor.storage import inbox
from corridor.storage.ledger_tables import account_balances, accounts, entries, ledger_seals, postings
from corridor.storage.sealing import Sealer
from corridor.storage.tables import (
    event_positions,
    events,
    provider_events,
    risk_decisions,
    settlement_batches,
    settlement_lines,
)

FLUSH_AT = 40_000
SEED = 20_261_123
SINGLE_SHARD = 1
"""What unlimited accounts are folded into; `post` would have spread the same sum over several."""
WRITTEN: tuple[Table, ...] = (accounts, *moulds.CAST, account_balances, ledger_seals, settlement_batches)

Row = list[Any]


@dataclass(frozen=True)
class Merchant:
    id: str
    endpoint: str


@dataclass
class Batch:
    """A payout of the provider: what its rows add up to."""

    id: str
    currency: str
    total: int = 0
    lines: int = 0


@dataclass
class Casting:
    """Casts moulds into rows, keeps what follows from all of them (order, balances, seals), and writes in batches."""

    sink: Sink
    sealer: Sealer
    now: datetime
    written: int = 0
    _count: int = 0
    _rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(list))
    _later: list[tuple[datetime, int, Table, Row, list[Row]]] = field(default_factory=list)
    """Rows that are numbered in order of time over all payments, postings with their legs: a heap."""
    _later_count: int = 0
    _balances: Counter[str] = field(default_factory=Counter)
    _batches: dict[str, Batch] = field(default_factory=dict)
    _posting_id: int = 0
    _position: int = 0
    _sealed: str = seal.GENESIS
    _chance: random.Random = field(default_factory=lambda: random.Random(SEED))  # noqa: S311 — the same every time

    async def cast(self, mould: Mould, merchant: Merchant, accepted: datetime) -> None:
        """One payment more. `accepted` never goes back."""
        self._number_until(accepted)
        self._count += 1
        marks = self._marks(mould, merchant, accepted)
        legs: dict[int, list[Row]] = defaultdict(list)
        for row in mould.rows:
            values = [self._value(cell, marks, accepted) for cell in row.cells]
            self._keep(row, values, legs, accepted)
        if len(self._rows[events.name]) >= FLUSH_AT:
            await self._flush()

    async def finish(self) -> None:
        """Number what is left, and write what the whole book adds up to."""
        self._number_until(self.now + timedelta(days=1))
        for name, minor in sorted(self._balances.items()):
            shard = store.LIMIT_SHARD if never_in_debit(name) else SINGLE_SHARD
            self._add(account_balances, account=name, shard=shard, balance_minor=minor)
        then = self.sink.moment(self.now)
        for batch in self._batches.values():
            self._add(
                settlement_batches, provider=PROVIDER, batch_id=batch.id, state="imported", currency=batch.currency,
                total_minor=batch.total, lines_minor=batch.total, line_count=batch.lines, bad_row_count=0,
                arrives_at=then, created_at=then, imported_at=then,
            )  # fmt: skip
        await self._flush()
        await self.sink.count_on((postings, risk_decisions))

    def _marks(self, mould: Mould, merchant: Merchant, accepted: datetime) -> dict[str, str]:
        marks = {
            moulds.MERCHANT: merchant.id,
            moulds.ENDPOINT: merchant.endpoint,
            moulds.NUMBER: f"{self._count:010d}",
            BATCH: f"po_{accepted:%Y%m%d}_{mould.currency}",
        }
        for mark, after in mould.drawn.items():
            marks[mark] = new_id(Prefix(mark[:3]), accepted + after, self._chance.randbytes(10))
        for mark in mould.references:
            body = mark.partition("_")[2]
            marks[mark] = reference_of(next(ours for old, ours in marks.items() if old.endswith(f"_{body}")))
        for mark, moment in mould.moments.items():
            marks[mark] = moment.text(accepted)
        for mark, subject, sequence, after in mould.events:
            marks[mark] = _derived(Prefix.EVENT, f"{marks[subject]}:{sequence}", accepted + after)
        for mark, event, after in mould.deliveries:
            marks[mark] = _derived(Prefix.DELIVERY, f"{merchant.endpoint}:{marks[event]}", accepted + after)
        return marks

    def _value(self, cell: Any, marks: dict[str, str], accepted: datetime) -> Any:
        if isinstance(cell, Text):
            return cell.cast(marks)
        return self.sink.moment(accepted + cell) if isinstance(cell, timedelta) else cell

    def _keep(self, row: CastRow, values: Row, legs: dict[int, list[Row]], accepted: datetime) -> None:
        """Most rows are done; those that are numbered over all payments wait for their turn."""
        table = row.table
        if table is postings:
            self._wait(accepted + row.cells[_POSTED_AT], table, values, legs[values[_POSTING]])
        elif table is event_positions:
            self._wait(accepted + row.cells[_DISPATCHED_AT], table, values, [])
        elif table is entries:
            legs[values[_OF_POSTING]].append(values)
            self._move_balance(values[_ACCOUNT], values[_AMOUNT])
        else:
            if table is risk_decisions:
                values[_DECISION] = self._count
            elif table is provider_events:
                values[_BODY] = self.sealer.seal(
                    moulds.webhook_body(values[_REFERENCE]), inbox.place(values[_PROVIDER_EVENT])
                )
            elif table is settlement_lines:
                self._note_line(values)
            self._rows[table.name].append(tuple(values))

    def _move_balance(self, account: str, minor: int) -> None:
        if account not in self._balances:
            self._add(accounts, account=account, currency=currency_of(account))
        self._balances[account] += minor

    def _note_line(self, values: Row) -> None:
        """The batch's control total is the sum of its rows."""
        line = SettlementLine.model_validate_json(values[_LINE])
        batch = self._batches.setdefault(values[_BATCH], Batch(values[_BATCH], line.net.currency))
        batch.total += line.net.minor
        batch.lines += 1

    def _wait(self, moment: datetime, table: Table, values: Row, legs: list[Row]) -> None:
        self._later_count += 1
        heapq.heappush(self._later, (moment, self._later_count, table, values, legs))

    def _number_until(self, moment: datetime) -> None:
        while self._later and self._later[0][0] <= moment:
            at, _, table, values, legs = heapq.heappop(self._later)
            if table is postings:
                self._post(at, values, legs)
            else:
                self._position += 1
                values[_POSITION] = self._position
                self._rows[table.name].append(tuple(values))

    def _post(self, at: datetime, head: Row, legs: list[Row]) -> None:
        self._posting_id += 1
        pairs = [(leg[_ACCOUNT], leg[_AMOUNT]) for leg in legs]
        digest = store.digest_of(head[_KEY], head[_KIND], head[_OBJECT], pairs)
        head[_POSTING], head[_DIGEST] = self._posting_id, digest
        self._rows[postings.name].append(tuple(head))
        for leg in legs:
            leg[_OF_POSTING] = self._posting_id
            self._rows[entries.name].append(tuple(leg))
        self._sealed = seal.link(self._sealed, self._posting_id, self._posting_id, digest, at)
        self._add(
            ledger_seals, seal_number=self._posting_id, posting_id=self._posting_id, hash=self._sealed,
            sealed_at=self.sink.moment(at + seal.SETTLING),
        )  # fmt: skip

    def _add(self, table: Table, **values: Any) -> None:
        self._rows[table.name].append(tuple(values.get(column.name) for column in table.c))

    async def _flush(self) -> None:
        for table in WRITTEN:
            if rows := self._rows.pop(table.name, []):
                await self.sink.write(table, rows)
                self.written += len(rows)


def _derived(prefix: Prefix, name: str, moment: datetime) -> str:
    """As `events.append` and `webhook_deliveries` make their ids."""
    return new_id(prefix, moment, hashlib.sha256(name.encode()).digest()[:10])


def _at(table: Table, column: str) -> int:
    return table.c.keys().index(column)


_POSTING, _KEY, _KIND, _OBJECT, _DIGEST, _POSTED_AT = (
    _at(postings, name) for name in ("id", "key", "kind", "object_id", "digest", "posted_at")
)
_OF_POSTING, _ACCOUNT, _AMOUNT = (_at(entries, name) for name in ("posting_id", "account", "amount_minor"))
_POSITION, _DISPATCHED_AT = (_at(event_positions, name) for name in ("position", "dispatched_at"))
_PROVIDER_EVENT, _REFERENCE, _BODY = (
    _at(provider_events, name) for name in ("id", "provider_reference", "body")
)
_BATCH, _LINE = (_at(settlement_lines, name) for name in ("batch_id", "body"))
_DECISION = _at(risk_decisions, "id")
