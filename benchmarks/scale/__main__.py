"""`python -m benchmarks.scale`: payments, lists, workers and memory in databases of 10³, 10⁵ and 10⁶ payments.

Each part can be run by itself. The databases are filled first and then measured in turns, so that every ratio comes
from one run. Everything is written into a temporary directory and removed.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.scale import costs, crew, fill, memory, moulds, plans, reads, report, sinks, weighing
from benchmarks.scale.fill import Filled
from benchmarks.scale.weighing import Weighed
from corridor.fx.ecb import EcbRates
from corridor.ledger import proof
from corridor.runtime import keys, logging, postgres
from corridor.runtime.ports import on_free_ports
from corridor.runtime.settings import Settings, load
from corridor.storage.database import Database
from corridor.storage.deadlines import UNHURRIED
from corridor.storage.sealing import Sealer

SIZES = (1_000, 100_000, 1_000_000)
QUICK_SIZES = (1_000, 10_000)
PARTS = ("costs", "lists", "workers", "memory", "settings")
COUNTS = {False: (300, 100, 200), True: (60, 25, 60)}
"""Payments carried in each database, repetitions of each read, payments of each round of the crew."""

STANDARD_OUTPUT = Path("-")

talk = Console(stderr=True)


@dataclass(frozen=True)
class Options:
    sizes: tuple[int, ...]
    database: str
    parts: tuple[str, ...]
    quick: bool
    payments: int
    cached: int
    json: Path | None


def main() -> None:
    """Run, print, and write the JSON; exits with 0 whatever the figures are."""
    options = _options()
    os.environ.pop("DATABASE_URL", None)  # what is filled and driven here is ours alone, never the user's
    result: dict[str, Any] = {
        "database": options.database,
        "processors": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with tempfile.TemporaryDirectory(prefix="corridor-scale-") as name:
        settings = load(data_dir=Path(name) / "own", log_level="warning", market_day=EcbRates().newest_day())
        logging.configure(settings, "benchmark")
        keys.load_or_generate(settings)
        if {"costs", "lists"} & set(options.parts):
            with _databases(options, Path(name)) as urls:
                result |= asyncio.run(_books(options, settings, Path(name), urls))
        if "workers" in options.parts:
            result["workers"] = crew.measure(
                _stack(name, "crew"), options.database, COUNTS[options.quick][2], talk.print
            )
        if "memory" in options.parts:
            result["memory"] = memory.measure(
                _stack(name, "memory"), options.payments, options.cached, talk.print
            )
        if "settings" in options.parts:
            result["settings"] = report.tuned(settings)
    report.show(Console(width=None if sys.stdout.isatty() else 170), result)
    text = json.dumps(result, indent=2)
    if options.json == STANDARD_OUTPUT:
        print(text)
    elif options.json is not None:
        options.json.write_text(text + "\n", "utf-8")


def _options() -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--sizes", help="payments in each database, by commas")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--only", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="10³ and 10⁴, fewer repetitions")
    parser.add_argument(
        "--payments", type=int, default=600, help="carried by one worker while its memory is watched"
    )
    parser.add_argument("--cached", type=int, default=200, help="workflows that worker keeps in its cache")
    parser.add_argument(
        "--json", type=Path, nargs="?", const=STANDARD_OUTPUT, metavar="FILE",
        help="write every figure there, or after the tables",
    )  # fmt: skip
    given = parser.parse_args()
    sizes = tuple(map(int, given.sizes.split(","))) if given.sizes else QUICK_SIZES if given.quick else SIZES
    parts = tuple(given.only.split(",")) if given.only else PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return Options(sizes, given.database, parts, given.quick, given.payments, given.cached, given.json)


def _stack(directory: str, name: str) -> Settings:
    """An installation of its own, on free ports."""
    return on_free_ports(
        load(data_dir=Path(directory) / name, log_level="warning", market_day=EcbRates().newest_day())
    )


@contextlib.contextmanager
def _databases(options: Options, directory: Path) -> Iterator[list[str]]:
    """An address for each size; PostgreSQL's are databases of one throw-away server."""
    if options.database == "sqlite":
        yield [f"sqlite:///{directory / f'{size}.db'}" for size in options.sizes]
        return
    with postgres.temporary_server(survives_crashes=True) as server:
        names = [f"scale_{size}" for size in options.sizes]
        asyncio.run(_create(server.url(), names))
        yield [server.url(name) for name in names]


async def _create(url: str, names: Sequence[str]) -> None:
    async with sinks.postgres_driver(url) as driver:
        for name in names:
            await driver.execute(f'CREATE DATABASE "{name}"')


async def _books(
    options: Options, settings: Settings, directory: Path, urls: Sequence[str]
) -> dict[str, Any]:
    made = await moulds.make(settings, directory, datetime.now(UTC))
    ring = keys.load(settings)
    sealer = Sealer(ring.current, ring.keys)
    filled = []
    result: dict[str, Any] = {"fills": []}
    for url, size in zip(urls, options.sizes, strict=True):
        begun = time.perf_counter()
        filled.append(await fill.fill(url, size, made, settings, sealer, datetime.now(UTC)))
        seconds = time.perf_counter() - begun
        result["fills"].append(await _checked(filled[-1], seconds))
        talk.print(
            f"{size:,} payments: {filled[-1].rows:,} rows in {seconds:.0f} s; {result['fills'][-1]['proof']}"
        )
    carried, repeated, _ = COUNTS[options.quick]
    if "lists" in options.parts:
        result |= await _lists(filled, settings, repeated)
    if "costs" in options.parts:
        result["costs"] = weighing.as_data(await costs.measure(filled, settings, carried, talk.print))
    return result


async def _checked(filled: Filled, seconds: float) -> dict[str, Any]:
    """The ledger's own proof over what was filled: figures of a broken book would mean nothing."""
    database = Database(filled.url, deadlines=UNHURRIED)
    found = await database.read(proof.verify)
    await database.close()
    if not found.holds:
        raise RuntimeError(str(found))
    told = f"ledger holds: {found.postings} postings, {found.entries} entries, {found.seals} sealed"
    return {"payments": filled.payments, "rows": filled.rows, "seconds": round(seconds, 1), "proof": told}


async def _lists(filled: Sequence[Filled], settings: Settings, count: int) -> dict[str, Any]:
    async with reads.desks(filled, settings) as found:
        weighed = await reads.measure(found, count, talk.print)
        if found[0].database.is_sqlite:
            for one in weighed:
                one.work = {
                    desk.filled.payments: await plans.steps(desk, reads.READS[one.name]) for desk in found
                }
        steep = [one for one in weighed if not one.is_flat]
        return {
            "lists": weighing.as_data(weighed),
            "plans": {one.name: await _plan(one, found) for one in steep},
        }


async def _plan(one: Weighed, found: Sequence[reads.Desk]) -> list[str]:
    return await plans.of(found[-1], reads.READS[one.name])


if __name__ == "__main__":
    main()
