"""One worker process against two, and one merchant's payments against as many of many merchants, on the real stack.

Rounds alternate, so that both sides of a ratio meet the same weather. The ledger's hot account is measured by itself
too: postings of one merchant, whose balance row is one, against postings of many.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection

from benchmarks.scale.stand import Heat, Stand, drive, standing
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.ledger import rules, store
from corridor.runtime import postgres
from corridor.runtime.settings import Settings
from corridor.storage.database import Database

MANY = 32
IN_FLIGHT = 16
ROUNDS = 3
POSTINGS = 600
AMOUNT = Money(10_000, "EUR")


def measure(settings: Settings, database: str, count: int, say: Callable[[str], None]) -> dict[str, Any]:
    """`count` payments in each round of each side."""
    with _on(database, settings) as placed, standing(placed, MANY, say) as stand:
        stand.add_worker("worker-1")
        drive(stand, Heat(), count // 4, IN_FLIGHT, stand.api_keys)  # warm: caches, pollers, connection pools
        say("hot merchant against many")
        hot, spread = Heat(), Heat()
        for _ in range(ROUNDS):
            drive(stand, spread, count, IN_FLIGHT, stand.api_keys, ["worker-1"])
            drive(stand, hot, count, IN_FLIGHT, stand.api_keys[:1], ["worker-1"])
        one, two = _one_against_two(stand, count, say)
        say("hot account against many")
        accounts = asyncio.run(_accounts(placed.database))
    return {
        "in_flight": IN_FLIGHT,
        "one_worker": one.as_data(),
        "two_workers": two.as_data(),
        "two_workers_ratio": round(two.per_second / one.per_second, 2),
        "spread_merchants": spread.as_data(),
        "hot_merchant": hot.as_data(),
        "hot_merchant_ratio": round(hot.per_second / spread.per_second, 2),
        **accounts,
    }


@contextlib.contextmanager
def _on(database: str, settings: Settings) -> Iterator[Settings]:
    if database == "sqlite":
        yield settings
        return
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with postgres.temporary_server(survives_crashes=True) as server:
        yield settings.model_copy(update={"database_url": SecretStr(server.url())})


def _one_against_two(stand: Stand, count: int, say: Callable[[str], None]) -> tuple[Heat, Heat]:
    one, two = Heat(), Heat()
    for number in range(ROUNDS):
        say(f"one worker against two, round {number + 1} of {ROUNDS}")
        drive(stand, one, count, IN_FLIGHT, stand.api_keys, ["worker-1"])
        stand.add_worker("worker-2")
        drive(stand, Heat(), count // 4, IN_FLIGHT, stand.api_keys)  # the newcomer's caches and pools
        drive(stand, two, count, IN_FLIGHT, stand.api_keys, ["worker-1", "worker-2"])
        stand.remove_worker("worker-2")
    return one, two


async def _accounts(url: str) -> dict[str, Any]:
    """Captures posted by `IN_FLIGHT` at once, each in its own transaction."""
    database = Database(url, pool_size=IN_FLIGHT)
    people = [new_id(Prefix.MERCHANT, datetime.now(UTC)) for _ in range(MANY)]
    seconds = {"hot": 0.0, "spread": 0.0}
    for _ in range(ROUNDS):
        seconds["spread"] += await _post_all(database, people)
        seconds["hot"] += await _post_all(database, people[:1])
    await database.close()
    rates = {name: ROUNDS * POSTINGS / spent for name, spent in seconds.items()}
    return {
        "spread_account_postings_per_second": round(rates["spread"]),
        "hot_account_postings_per_second": round(rates["hot"]),
        "hot_account_ratio": round(rates["hot"] / rates["spread"], 2),
    }


async def _post_all(database: Database, people: Sequence[str]) -> float:
    waiting = iter(range(POSTINGS))

    async def one_after_another() -> None:
        for number in waiting:
            await database.write(_capture, people[number % len(people)], datetime.now(UTC))

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(one_after_another())
    return time.perf_counter() - begun


def _capture(connection: Connection, merchant_id: str, now: datetime) -> None:
    payment_id = new_id(Prefix.PAYMENT, now)
    store.post(
        connection, rules.capture(f"{payment_id}:sale:1", payment_id, merchant_id, "stripe", AMOUNT), now
    )
