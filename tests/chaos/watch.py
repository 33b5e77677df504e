"""What must hold at every moment, looked at again and again while everything breaks (I1, I2, I4, I10).

Where the database came back older (F13) the world is looked at from its beginning again, and everything that had been
seen before must be seen once more: the same event, by the same id, saying the same.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from api.cli.audit.promises import is_declared
from api.cli.drill.disasters import Recovered
from corridor.ledger.chart import NEVER_IN_DEBIT, kind_of
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.ledger_tables import account_balances, accounts, entries
from corridor.storage.tables import event_positions, events
from workers.restore.gaps import DIFFERING

LOOK_SECONDS = 2.0
BETWEEN_LOOKS = 20.0
"""Times as long as a look takes: it sums up the whole ledger, and must not be what the processors are busy with."""

Seen = tuple[int, str, str, int, str]
"""Place in the feed, id of the event, object, number of the event, status."""


@dataclass(frozen=True)
class WentBack:
    """One return to an older database, as the record tells it."""

    copied_at: datetime
    struck_at: datetime
    released_at: datetime
    seconds_down: float
    recovered: Recovered

    def __str__(self) -> str:
        gaps = ", ".join(f"{count} {name}" for name, count in self.recovered.counts.items()) or "no gap"
        gaps += f"; with a person: {', '.join(sorted(self.with_a_person)) or 'none'}"
        age = (self.struck_at - self.copied_at).total_seconds()
        return f"the database came back {age:.0f} s older, {self.seconds_down:.0f} s out of service; repaired: {gaps}"

    def troubles(self) -> list[str]:
        """What the recovery left over, but for what it told a person of; in the drill even that must be nothing."""
        second = self.recovered.second_run or ()
        told = [f"after the restore a person is needed: {gap}" for gap in self.recovered.left]
        told += [f"after the repair a second restore-check still finds: {gap}" for gap in second]
        gaps = (*self.recovered.left, *second)
        return [it for it, gap in zip(told, gaps, strict=True) if gap.object_id not in self.with_a_person]

    @property
    def with_a_person(self) -> frozenset[str]:
        """Objects a step of which was committed and never told to any history, before the copy's time was over.

        The command lists them and stops their workflows; `corridor resume` goes on from the database, unless they ended.
        """
        return frozenset(gap.object_id for gap in self.recovered.left if gap.kind in DIFFERING)


@dataclass
class Watch:
    """Reads one snapshot at a time, beside the processes under test, never through the proxy."""

    database: Database
    violation: Callable[[str], None]
    looks: int = 0
    steps_seen: int = 0
    misses: int = 0
    returns: list[WentBack] = field(default_factory=list)
    _position: int = 0
    _status: dict[str, tuple[int, str]] = field(default_factory=dict)
    _seen: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    _owed: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    _eyes: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def keep_looking(self) -> None:
        """Until canceled. A database that is down just now is not looked at."""
        while True:
            begun = time.monotonic()
            try:
                await self.look()
            except (DatabaseUnavailable, DBAPIError, OSError):
                self.misses += 1
            took = time.monotonic() - begun
            await asyncio.sleep(max(LOOK_SECONDS, BETWEEN_LOOKS * took))

    async def look(self) -> None:
        """One look at everything."""
        async with self._eyes:
            for problem in await self.database.read(_wrong_sums):
                self.violation(problem)
            while rows := await self.database.read(_events_after, self._position):
                for row in rows:
                    self._follow(row)
            self.looks += 1

    async def last_look(self) -> None:
        """When everything is quiet: what was seen before a restoration has been seen since."""
        await self.look()
        for (object_id, sequence), (event_id, status) in self._owed.items():
            self.violation(f"{event_id}, number {sequence} of {object_id} ({status}), was not made again")

    @contextlib.asynccontextmanager
    async def looking_away(self) -> AsyncIterator[None]:
        """Nothing is looked at inside: the database is being exchanged."""
        async with self._eyes:
            yield

    def went_back(self, gone: WentBack) -> None:
        """Begin anew in the restored world; everything seen so far is owed."""
        self.returns.append(gone)
        for trouble in gone.troubles():
            self.violation(trouble)
        self._owed |= {it: told for it, told in self._seen.items() if it[0] not in gone.with_a_person}
        self._position, self._status = 0, {}

    def _follow(self, row: Seen) -> None:
        position, event_id, object_id, sequence, status = row
        self._position = position
        self.steps_seen += 1
        told = self._owed.pop((object_id, sequence), (event_id, status))
        if told != (event_id, status):
            self.violation(
                f"number {sequence} of {object_id} was {told}, and is {(event_id, status)} since the restore"
            )
        self._seen[object_id, sequence] = (event_id, status)
        before_sequence, before = self._status.get(object_id, (0, None))
        if sequence != before_sequence + 1:
            self.violation(f"{object_id}: event {sequence} came after event {before_sequence}")
        if not is_declared(object_id, before, status):
            self.violation(f"{object_id} went from {before} to {status}")
        self._status[object_id] = (sequence, status)


def _wrong_sums(connection: Connection) -> list[str]:
    """Per currency over all accounts; and merchants' money that became a debt of theirs."""
    by_currency = select(accounts.c.currency, func.sum(entries.c.amount_minor)).join(
        accounts, accounts.c.account == entries.c.account
    )
    sums: Mapping[str, int] = {
        currency: int(total)
        for currency, total in connection.execute(by_currency.group_by(accounts.c.currency))
    }
    per_account = select(account_balances.c.account, func.sum(account_balances.c.balance_minor))
    balances = connection.execute(per_account.group_by(account_balances.c.account))
    wrong = [f"all entries in {currency} sum to {total}" for currency, total in sums.items() if total]
    return wrong + [
        f"{account} is overdrawn by {balance}"
        for account, balance in balances
        if balance > 0 and kind_of(account) in NEVER_IN_DEBIT
    ]


def _events_after(connection: Connection, position: int) -> list[Seen]:
    """In feed order: positions are given after commit, by one sequencer, so none appears behind one already read."""
    query = (
        select(event_positions.c.position, events.c.id, events.c.object_id, events.c.sequence, events.c.data)
        .join(events, events.c.id == event_positions.c.event_id)
        .where(event_positions.c.position > position)
        .order_by(event_positions.c.position)
        .limit(2_000)
    )
    return [
        (at, event_id, name, number, data["status"])
        for at, event_id, name, number, data in connection.execute(query)
    ]
