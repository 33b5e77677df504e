"""`corridor ledger rebuild`: the books and read models from histories alone, and where the live ones differ."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url
from temporalio.client import Client
from temporalio.service import RPCError

from api.cli import history, output
from api.cli.acts import on_record
from api.cli.exit_codes import ExitCode
from corridor.runtime import client, keys, settings
from corridor.runtime.converter import make_converter
from corridor.runtime.histories import Run, Unopened, from_directory, from_server, of_workflows
from corridor.runtime.refused import SettingsRefused
from corridor.runtime.settings import Settings
from corridor.storage import address
from corridor.storage.address import AddressRefused
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.deadlines import UNHURRIED
from corridor.storage.migrate import upgrade_async
from workers import wiring
from workers.histories.archive import ArchiveDamaged, is_archive
from workers.rebuild import rebuild
from workers.rebuild.compare import TableReport
from workers.rebuild.fold import Books
from workers.rebuild.rebuild import NotFresh, Rebuilt
from workers.wiring import Wiring

LISTED = 10


@dataclass(frozen=True)
class Wanted:
    """`archive`: None for Temporal itself. `into`: None for a database that is gone afterwards."""

    archive: Path | None
    into: str | None
    compares: bool = True


def run(given: Mapping[str, object], wanted: Wanted, *, as_json: bool) -> ExitCode:
    """Rebuild, prove the ledger, compare; fails if anything is missing or differs."""
    loaded = settings.load(**given)
    try:
        with ExitStack() as stack:
            into = wanted.into or f"{stack.enter_context(tempfile.TemporaryDirectory())}/rebuilt.db"
            url = into if "://" in into else f"sqlite:///{Path(into).absolute()}"
            address.parse(url)
            rebuilt = asyncio.run(_rebuild(loaded, wanted, url))
    except AddressRefused as refused:
        raise SettingsRefused(f"--into: {refused}") from None
    except NotFresh as refused:
        output.talk(f"corridor: nothing was written: the database to rebuild into is not empty: {refused}")
        return ExitCode.CONFLICT
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}")
        return ExitCode.UNAVAILABLE
    except ArchiveDamaged as damaged:
        output.talk(f"corridor: the archive is damaged: {damaged}")
        return ExitCode.FAILURE
    except (RuntimeError, RPCError) as error:
        output.talk(f"corridor: Temporal cannot be reached: {error}")
        return ExitCode.UNAVAILABLE
    if as_json:
        output.document(rebuilt.document())
    else:
        _report(rebuilt)
    return ExitCode.OK if rebuilt.holds else ExitCode.FAILURE


async def _rebuild(loaded: Settings, wanted: Wanted, url: str) -> Rebuilt:
    wired = wiring.build(loaded, deadlines=UNHURRIED)
    target = Database(url, deadlines=UNHURRIED)
    try:
        if wanted.into is None:
            return await _made(loaded, wanted, wired, target)
        # Recorded where it writes: the database that is made here may be the one payments go on from.
        await upgrade_async(url)
        words = {"from": str(wanted.archive or "Temporal"), "into": make_url(url).render_as_string()}
        async with on_record(target, loaded, "ledger rebuild", words) as act:
            rebuilt = await _made(loaded, wanted, wired, target)
            act.result = {"payments": len(rebuilt.books.payments), "postings": len(rebuilt.books.postings)}
            act.ended(ExitCode.OK if rebuilt.holds else ExitCode.FAILURE)
            return rebuilt
    finally:
        await target.close()
        await wired.close()


async def _made(loaded: Settings, wanted: Wanted, wired: Wiring, target: Database) -> Rebuilt:
    rebuilt = Rebuilt(Books())
    if wanted.archive is None:
        await _from_temporal(await client.connect(loaded), rebuilt, wired, wanted)
    else:
        converter = make_converter(keys.load(loaded), client.namespace(loaded))
        await rebuild.fold(_archived(loaded, wanted.archive), converter, rebuilt)
    await rebuild.write(rebuilt, target, wired.edge.providers)
    if wanted.compares:
        await rebuild.beside_live(rebuilt, target, wired.edge.database)
    return rebuilt


async def _from_temporal(connected: Client, rebuilt: Rebuilt, wired: Wiring, wanted: Wanted) -> None:
    def read_again(workflow_ids: Iterable[str]) -> AsyncIterator[Run]:
        return of_workflows(connected, workflow_ids)

    converter = connected.data_converter
    await rebuild.fold(from_server(connected, rebuild.CARRIES_MONEY), converter, rebuilt)
    if wanted.compares:
        await rebuild.catch_up(rebuilt, wired.edge.database, read_again, converter)


def _archived(loaded: Settings, directory: Path) -> AsyncIterator[Run | Unopened]:
    if is_archive(directory):
        return history.open_archive(loaded, directory).runs()
    return from_directory(directory)


def _report(rebuilt: Rebuilt) -> None:
    books = rebuilt.books
    output.line(
        f"{books.histories} histories tell of {len(books.payments)} payments, {len(books.refunds)} refunds, "
        f"{len(books.postings)} postings, {len(books.effects)} effects"
    )
    holds = rebuilt.proof is not None and rebuilt.proof.holds
    output.line(f"the rebuilt ledger {'balances' if holds else 'DOES NOT BALANCE'}")
    _list("not opened", rebuilt.sealed)
    _list("not told", rebuilt.problems)
    if books.silent:
        output.line(f"{len(books.silent)} histories are of builds that told less than this one")
    comparison = rebuilt.comparison
    if comparison is None:
        return
    for table in comparison.tables:
        output.line(_table(table))
        for difference in table.differences[:LISTED]:
            output.line(f"    {difference}")
    if comparison.ahead:
        output.line(
            f"{len(comparison.ahead)} objects went on after these histories: no verdict on their rows"
        )
    output.line("not derivable from histories:")
    for table in comparison.tables:
        for column, why in table.not_derivable.items():
            output.line(f"    {table.table}.{column}: {why}")
    for name, why in comparison.not_rebuilt.items():
        output.line(f"    {name}: {why}")
    same = "equal" if comparison.holds else "DIFFERENT"
    output.line(f"live and rebuilt are {same} in all that histories can tell")


def _table(table: TableReport) -> str:
    counts = {
        "equal": table.equal,
        "different": table.different,
        "only live": table.only_live,
        "only rebuilt": table.only_rebuilt,
        "ahead": table.ahead,
    }
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{table.table:<18}  {told or 'no rows'}"


def _list(what: str, problems: list[str]) -> None:
    for problem in problems[:LISTED]:
        output.line(f"{what}: {problem}")
    if len(problems) > LISTED:
        output.line(f"{what}: … and {len(problems) - LISTED} more; --json names them all")
