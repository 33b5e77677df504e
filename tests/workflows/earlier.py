"""Earlier copies of a running world's database, one before every transaction, and a row-by-row look at two databases."""

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, func, select

from corridor.ledger import proof
from corridor.storage import ledger_tables, tables
from corridor.storage.database import Database
from corridor.storage.migrate import upgrade_async
from tests.workflows.world import World, now
from workers.histories import reading
from workers.histories.reading import Reading
from workers.restore.check import Check
from workers.restore.gaps import Findings

COMPARED: dict[Table, tuple[str, ...]] = {
    tables.payments: (),
    tables.refunds: (),
    tables.effects: ("looks", "declared_by_run"),
    tables.events: (),
    tables.reviews: ("evidence",),
    tables.operator_acts: (),
    tables.idempotency_keys: (),
    tables.quotes: ("body", "created_at"),
    tables.settlement_batches: (),
    tables.settlement_lines: (),
    ledger_tables.postings: ("id",),
}
"""Each table and the columns that may differ: row numbers, and evidence that is in no history (`looks`, offers)."""


class Copies:
    """Copies of a SQLite database in the order they were taken; the last is the world as it ended."""

    def __init__(self, here: World, directory: Path) -> None:
        self._here = here
        self._directory = directory
        self.urls: list[str] = []

    def take(self) -> str:
        """The database as it is now."""
        self.urls.append(copy_of(self._here.database.url, self._directory / f"copy-{len(self.urls)}.db"))
        return self.urls[-1]


def copy_of(url: str, path: Path) -> str:
    """A consistent copy of a SQLite database that others write to."""
    copy = f"sqlite:///{path}"
    put_back(url, copy)
    return copy


def put_back(url: str, onto: str) -> None:
    """Make one SQLite database what the other is; both may be in use."""
    with (
        contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as source,
        contextlib.closing(sqlite3.connect(onto.removeprefix("sqlite:///"))) as target,
    ):
        source.backup(target)


async def empty(path: Path) -> str:
    """A database with the newest schema and nothing in it."""
    url = f"sqlite:///{path}"
    await upgrade_async(url)
    return url


@contextlib.contextmanager
def copying(here: World, directory: Path) -> Iterator[Copies]:
    """While open, the database is copied before every transaction of the workers and of the test."""
    copies = Copies(here, directory)
    original = here.database.write

    async def write(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        copies.take()
        return await original(work, *args, **kwargs)

    here.database.write = write  # type: ignore[method-assign]
    try:
        yield copies
    finally:
        here.database.write = original  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def on(here: World, url: str) -> Any:
    """The world's edge on another database."""
    database = Database(url)
    try:
        yield replace(here.wired.edge, database=database)
    finally:
        await database.close()


async def check(here: World, edge: Any, begun: str, *, is_repair: bool) -> Findings:
    """The command's own run, on the workflows of this test alone."""
    query = f'StartTime >= "{begun}"'
    return await Check(edge, here.client, query=query).run(is_repair=is_repair)


async def from_every_moment(
    here: World, directory: Path, scenario: Callable[[World], Awaitable[None]]
) -> None:
    """The scenario runs to its end; then the database is brought up to it, row for row, from before every transaction."""
    begun = now().isoformat()
    with copying(here, directory) as copies:
        await scenario(here)
    ended = await here.database.read(rows)
    theirs = await _books(here)
    found = 0
    for url in copies.urls:
        async with on(here, url) as edge:
            checked = await check(here, edge, begun, is_repair=False)
            assert checked.left == [], "; ".join(map(str, checked.left))
            repaired = await check(here, edge, begun, is_repair=True)
            assert repaired.left == [], "; ".join(map(str, repaired.left))
            found += len(repaired.provable)
            again = await edge.database.read(rows)
            for table, wanted in ended.items():
                assert again[table] == wanted, (table, url)
            assert (await edge.database.read(proof.verify)).holds
            second = await check(here, edge, begun, is_repair=False)
            assert second.gaps == [], [str(gap) for gap in second.gaps]
    assert found > len(copies.urls)
    assert await _books(here) == theirs


async def _books(here: World) -> Any:
    return (await here.control.get("/control/books", params={"limit": 1000})).json()["data"]


def rows(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the compared tables, in an order of its own; postings with their legs, balances summed up."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for table, free in COMPARED.items():
        columns = [column for column in table.c if column.name not in free]
        found[table.name] = sorted((tuple(row) for row in connection.execute(select(*columns))), key=str)
    legs = select(ledger_tables.postings.c.key, ledger_tables.entries).join(
        ledger_tables.entries, ledger_tables.entries.c.posting_id == ledger_tables.postings.c.id
    )
    found["legs"] = sorted(
        (row.key, row.leg, row.account, row.amount_minor) for row in connection.execute(legs)
    )
    balances = ledger_tables.account_balances.c
    sums = select(balances.account, func.sum(balances.balance_minor)).group_by(balances.account)
    found["balances"] = sorted(tuple(row) for row in connection.execute(sums))
    return found


def read_as(patch: pytest.MonkeyPatch, changed: Callable[[Reading], Reading]) -> None:
    """From now on every history is read so."""
    read = reading.read

    async def read_so(*args: Any) -> Reading:
        return changed(await read(*args))

    patch.setattr(reading, "read", read_so)
