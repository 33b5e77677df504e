"""What must hold at every moment, looked at again and again while everything breaks (I1, I2, I4, I10)."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from api.cli.audit.promises import is_declared
from corridor.ledger.chart import NEVER_IN_DEBIT, kind_of
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.ledger_tables import account_balances, accounts, entries
from corridor.storage.tables import event_positions, events

LOOK_SECONDS = 2.0


@dataclass
class Watch:
    """Reads one snapshot at a time, beside the processes under test, never through the proxy."""

    database: Database
    violation: Callable[[str], None]
    looks: int = 0
    steps_seen: int = 0
    misses: int = 0
    _position: int = 0
    _status: dict[str, tuple[int, str]] = field(default_factory=dict)

    async def keep_looking(self) -> None:
        """Until canceled. A database that is down just now is not looked at."""
        while True:
            try:
                await self.look()
            except (DatabaseUnavailable, DBAPIError, OSError):
                self.misses += 1
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """One look at everything."""
        for problem in await self.database.read(_wrong_sums):
            self.violation(problem)
        for row in await self.database.read(_events_after, self._position):
            self._follow(row)
        self.looks += 1

    def _follow(self, row: tuple[int, str, int, str]) -> None:
        position, object_id, sequence, status = row
        self._position = position
        self.steps_seen += 1
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
        for currency, total in connection.execute(by_currency.group_by(accounts.c.currency)).tuples()
    }
    per_account = select(account_balances.c.account, func.sum(account_balances.c.balance_minor))
    balances = connection.execute(per_account.group_by(account_balances.c.account)).tuples()
    wrong = [f"all entries in {currency} sum to {total}" for currency, total in sums.items() if total]
    return wrong + [
        f"{account} is overdrawn by {balance}"
        for account, balance in balances
        if balance > 0 and kind_of(account) in NEVER_IN_DEBIT
    ]


def _events_after(connection: Connection, position: int) -> list[tuple[int, str, int, str]]:
    """In feed order: positions are given after commit, by one sequencer, so none appears behind one already read."""
    query = (
        select(event_positions.c.position, events.c.object_id, events.c.sequence, events.c.data)
        .join(events, events.c.id == event_positions.c.event_id)
        .where(event_positions.c.position > position)
        .order_by(event_positions.c.position)
        .limit(2_000)
    )
    return [(at, name, number, data["status"]) for at, name, number, data in connection.execute(query)]
