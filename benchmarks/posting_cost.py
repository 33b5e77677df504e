"""What one posting costs in a ledger of a thousand and of a million postings: the ratio must stay near one.

Run `python benchmarks/posting_cost.py [--quick]`; prints JSON with `posting_cost_ratio_1e6_to_1e3` (SQLite).
The books are bulk-loaded to each size, then postings are timed through `store.post`, each in a transaction of its
own. What is compared is the median: one fsync that the disk delays says nothing about the ledger.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select

from corridor.domain.money import Money
from corridor.domain.posting import Posting
from corridor.ledger import rules, store
from corridor.storage.database import sync_engine
from corridor.storage.ledger_tables import account_balances, accounts, entries, postings
from corridor.storage.migrate import upgrade

SMALL, LARGE, QUICK = 1_000, 1_000_000, 100_000
MERCHANTS = 200
FIRST_TIMED = 2 * LARGE
WARM_UP, TIMED = 100, 4_000
BATCH = 20_000
NOW = datetime(2026, 10, 30, tzinfo=UTC)
AMOUNT = Money(12_345, "EUR")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="load 1e5 postings instead of 1e6")
    large = QUICK if parser.parse_args().quick else LARGE
    with tempfile.TemporaryDirectory() as directory:
        engines = [_books_of(size, Path(directory)) for size in (SMALL, large)]
        seconds = _medians(engines)
    print(json.dumps(_result(large, *seconds), indent=2))


def _result(large: int, small_seconds: float, large_seconds: float) -> dict[str, Any]:
    return {
        "posting_cost_ratio_1e6_to_1e3": round(large_seconds / small_seconds, 3),
        "small_size": SMALL,
        "large_size": large,
        "small_microseconds": round(small_seconds * 1e6),
        "large_microseconds": round(large_seconds * 1e6),
        "timed_postings": TIMED,
    }


def _books_of(size: int, directory: Path) -> Engine:
    url = f"sqlite:///{directory / f'{size}.db'}"
    upgrade(url)
    engine = sync_engine(url)
    with engine.begin() as connection:
        _load(connection, size)
    return engine


def _load(connection: Connection, size: int) -> None:
    """Write `size` captures as rows, and the balances they fold to: what `post` would have left behind."""
    names = sorted({entry.account for number in range(MERCHANTS) for entry in _capture(number).entries})
    connection.execute(insert(accounts), [{"account": name, "currency": "EUR"} for name in names])
    rows = _rows(size)
    while batch := list(islice(rows, BATCH)):
        connection.execute(insert(postings), [head for head, _ in batch])
        connection.execute(insert(entries), [leg for _, legs in batch for leg in legs])
    totals = select(entries.c.account, func.sum(entries.c.amount_minor)).group_by(entries.c.account)
    kept = [
        {"account": account, "shard": int(not account.startswith("merchant/")), "balance_minor": minor}
        for account, minor in connection.execute(totals)
    ]
    connection.execute(insert(account_balances), kept)


def _rows(size: int) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    for number in range(size):
        key, payment, merchant = _names(number)
        legs = [("clearing/stripe/EUR", AMOUNT.minor), (f"merchant/{merchant}/pending/EUR", -AMOUNT.minor)]
        digest = store.digest_of(key, "capture", payment, legs)
        head = {"id": number + 1, "key": key, "kind": "capture", "object_id": payment}
        yield (
            {**head, "digest": digest, "posted_at": NOW},
            [
                {"posting_id": number + 1, "leg": leg, "account": account, "amount_minor": minor}
                for leg, (account, minor) in enumerate(legs)
            ],
        )


def _names(number: int) -> tuple[str, str, str]:
    """Keys grow with time, as ids that sort by creation do."""
    payment = f"pay_{number:026d}"
    return f"{payment}:capture:1", payment, f"mer_{number % MERCHANTS:026d}"


def _capture(number: int) -> Posting:
    key, payment, merchant = _names(number)
    return rules.capture(key, payment, merchant, "stripe", AMOUNT)


def _medians(engines: list[Engine]) -> list[float]:
    """The books take turns, posting by posting, so that both meet the same weather on the machine."""
    times: list[list[float]] = [[] for _ in engines]
    for number in range(FIRST_TIMED, FIRST_TIMED + WARM_UP + TIMED):
        for engine, kept in zip(engines, times, strict=True):
            kept.append(_seconds_of_one(engine, _capture(number)))
    return [statistics.median(kept[WARM_UP:]) for kept in times]


def _seconds_of_one(engine: Engine, posting: Posting) -> float:
    begun = time.perf_counter()
    with engine.begin() as connection:
        store.post(connection, posting, NOW)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
