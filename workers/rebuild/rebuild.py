"""Rebuild: the ledger and the read models from histories alone, into a fresh database, and beside the live ones.

Histories are read first and the live database after them, so the database may be ahead of the histories at hand.
Objects that are ahead are read again a few times where Temporal can be asked; what is still ahead then, or ahead of an
archive, is counted apart and not taken for a difference.
"""

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select
from temporalio.converter import DataConverter

from corridor.ledger import proof
from corridor.ledger.report import Report
from corridor.providers.registry import Registry
from corridor.runtime.histories import Run, Unopened
from corridor.runtime.side_by_side import side_by_side
from corridor.storage.database import Database
from corridor.storage.ledger_tables import postings
from corridor.storage.migrate import upgrade_async
from corridor.storage.tables import payments
from workers.histories import reading
from workers.histories.reading import Sealed
from workers.rebuild import compare as rebuild_compare
from workers.rebuild.compare import Compared, Comparison, Rows
from workers.rebuild.fold import Books
from workers.rebuild.rows import Rebuild
from workflows import names

CARRIES_MONEY = f'WorkflowType IN ("{names.PAYMENT}", "{names.REFUND}", "{names.SETTLEMENT}")'
"""The workflows whose histories the books are made of."""
LOOKS_AGAIN = 5
IDLE_LOOKS = 2
"""In a row, with a pause between them: a step may be committed a moment before its history tells of it."""
PAUSE_SECONDS = 1.0
AT_ONCE = 8

ReadAgain = Callable[[Iterable[str]], AsyncIterable[Run]]
"""Fetches the newest histories of these workflows."""


class NotFresh(Exception):
    """The database to rebuild into holds payments or postings already."""


@dataclass
class Rebuilt:
    """What was made of how many histories. `problems`: what they do not suffice for; `sealed`: no key at hand.

    `unread`: by run, what this build cannot read of it. Such a run is left out whole: in part it would pass for all.
    """

    books: Books
    sealed: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    proof: Report | None = None
    comparison: Comparison | None = None

    @property
    def holds(self) -> bool:
        proven = self.proof is not None and self.proof.holds
        same = self.comparison is None or self.comparison.holds
        return proven and same and not self.problems and not self.sealed

    def document(self) -> dict[str, Any]:
        books = self.books
        return {
            "holds": self.holds,
            "histories": books.histories,
            "told": {
                "payments": len(books.payments),
                "refunds": len(books.refunds),
                "effects": len(books.effects),
                "postings": len(books.postings),
                "settlement_lines": len(books.lines),
            },
            "sealed": self.sealed,
            "older_builds": sorted(books.silent),
            "problems": self.problems,
            "ledger_holds": self.proof is not None and self.proof.holds,
            "comparison": None if self.comparison is None else self.comparison.document(),
        }


async def fold(runs: AsyncIterable[Run | Unopened], converter: DataConverter, into: Rebuilt) -> None:
    """Read every history into the books."""
    async for run in runs:
        await _take(run, converter, into)


async def _take(run: Run | Unopened, converter: DataConverter, into: Rebuilt) -> bool:
    """Whether it could be read; one that could not is named."""
    if isinstance(run, Unopened):
        into.sealed.append(str(run))
        return False
    try:
        told = await reading.read(run.history, converter, run.run_id)
    except Sealed as sealed:
        into.sealed.append(str(sealed))
        return False
    if told.unread:
        into.unread[run.run_id] = (
            f"{told.workflow_id}: left out, read it with a newer build: {told.unread[0]}"
        )
        return False
    into.books.add(told)
    return True


async def catch_up(into: Rebuilt, live: Database, read_again: ReadAgain, converter: DataConverter) -> None:
    """Read the workflows again whose objects the live database tells more of; payments go on while they are read.

    Most of these may be objects whose history has expired: one that has none, or none that can be read, is asked for
    once, and where looking again brings nothing new it ends.
    """
    given_up: set[str] = set()

    async def again(object_id: str) -> None:
        is_told = False
        async for run in read_again(_workflows_of(object_id)):
            is_told = await _take(run, converter, into)
        if not is_told:
            given_up.add(object_id)

    before, idle = dict[str, int](), 0
    for _ in range(LOOKS_AGAIN):
        told = await live.read(_behind, into.books)
        behind = {object_id: number for object_id, number in told.items() if object_id not in given_up}
        idle = idle + 1 if behind == before else 0
        if not behind or idle == IDLE_LOOKS:
            break
        await side_by_side(behind, again, AT_ONCE)
        await asyncio.sleep(PAUSE_SECONDS)
        before = behind
    into.sealed = list(dict.fromkeys(into.sealed))  # one that was sealed before was asked for once more


async def write(into: Rebuilt, target: Database, providers: Registry) -> None:
    """Make the schema and everything in it, and prove the ledger. Raises `NotFresh`."""
    await upgrade_async(target.url)
    into.problems = [*into.unread.values(), *await target.write(_write, into.books, providers)]
    into.proof = await target.read(proof.verify)


async def beside_live(into: Rebuilt, target: Database, live: Database) -> None:
    """Compare what was written with the live database, each on one consistent snapshot."""
    ahead, ours = await live.read(_snapshot, into.books)
    theirs = await target.read(_all_rows)
    into.comparison = rebuild_compare.compare(_taken(ours), _taken(theirs), ahead)


def _taken(tables: dict[str, Rows]) -> Callable[[Compared], Rows]:
    return lambda table: tables.pop(table.name)


def _write(connection: Connection, books: Books, providers: Registry) -> list[str]:
    for table in (payments, postings):
        if connection.execute(select(table).limit(1)).one_or_none() is not None:
            raise NotFresh(f"{table.name} has rows already")
    rebuild = Rebuild(books, providers)
    rebuild.write(connection)
    return rebuild.problems


def _behind(connection: Connection, books: Books) -> dict[str, int]:
    """Objects the database tells more of, each with the number of the last event that histories tell."""
    told = rebuild_compare.sequences(connection)
    return {it: known for it, number in told if number > (known := _known(books, it))}


def _known(books: Books, object_id: str) -> int:
    """Number of the last event that histories tell of the object; 0: none tells that it was accepted."""
    books.spill()
    carried = books.payments.get(object_id) or books.refunds.get(object_id)
    return 0 if carried is None or carried.accepted is None else carried.sequence


def _workflows_of(object_id: str) -> list[str]:
    is_refund = object_id.startswith("rfd_")
    return [names.refund_workflow_id(object_id) if is_refund else names.payment_workflow_id(object_id)]


def _snapshot(connection: Connection, books: Books) -> tuple[list[str], dict[str, Rows]]:
    return list(_behind(connection, books)), _all_rows(connection)


def _all_rows(connection: Connection) -> dict[str, Rows]:
    return {table.name: rebuild_compare.rows_of(connection, table) for table in rebuild_compare.TABLES}
