"""On PostgreSQL limits hold under concurrent transactions, and unrelated payments do not wait for each other."""

import asyncio
from collections import Counter
from datetime import UTC, datetime

from sqlalchemy import func, select

from corridor.domain.failure import Refusal, Refused
from corridor.domain.money import Money
from corridor.domain.posting import Posting, credit, debit, posting
from corridor.ledger import chart, proof, rules, store
from corridor.storage.database import Database
from corridor.storage.ledger_tables import account_balances, postings

NOW = datetime(2026, 10, 30, 12, 0, tzinfo=UTC)
AT_ONCE = 20


def eur(minor: int) -> Money:
    return Money(minor, "EUR")


def captured(number: int, merchant: str, minor: int = 10000) -> Posting:
    return rules.capture(f"pay_{number}:capture:1", f"pay_{number}", merchant, "stripe", eur(minor))


def reserve(number: int, minor: int) -> Posting:
    return rules.refund_reserve_before_settlement(
        f"rfd_{number}:reserve", f"rfd_{number}", "mer_a", eur(minor)
    )


async def outcome(database: Database, wanted: Posting) -> str:
    try:
        posted = await database.write(store.post, wanted, NOW)
    except Refused as refused:
        return refused.code
    return "new" if posted.was_new else "known"


async def outcomes(database: Database, wanted: list[Posting]) -> Counter[str]:
    return Counter(await asyncio.gather(*(outcome(database, each) for each in wanted)))


async def test_racing_refunds_never_take_more_than_there_is(postgresql: Database) -> None:
    await postgresql.write(store.post, captured(1, "mer_a"), NOW)
    counted = await outcomes(postgresql, [reserve(number, 3000) for number in range(AT_ONCE)])
    assert counted == {"new": 3, Refusal.INSUFFICIENT_AVAILABLE: AT_ONCE - 3}
    assert await postgresql.read(store.balance, "merchant/mer_a/pending/EUR") == eur(-1000)


async def test_one_key_posted_many_times_at_once_is_one_posting(postgresql: Database) -> None:
    counted = await outcomes(postgresql, [captured(1, "mer_a")] * AT_ONCE)
    assert counted == {"new": 1, "known": AT_ONCE - 1}
    assert await postgresql.read(store.balance, "clearing/stripe/EUR") == eur(10000)


async def test_one_reservation_posted_many_times_at_once_is_one_reservation(postgresql: Database) -> None:
    await postgresql.write(store.post, captured(1, "mer_a"), NOW)
    counted = await outcomes(postgresql, [reserve(1, 10000)] * AT_ONCE)
    assert counted == {"new": 1, "known": AT_ONCE - 1}


async def test_an_open_transaction_does_not_hold_up_payments_of_other_merchants(postgresql: Database) -> None:
    await postgresql.write(store.post, captured(0, "mer_z"), NOW)  # the shared accounts exist
    async with postgresql.engine.begin() as held:
        await held.run_sync(store.post, captured(1, "mer_a"), NOW)
        async with asyncio.timeout(10):
            for number in range(2, 2 + AT_ONCE):
                await postgresql.write(store.post, captured(number, f"mer_{number}"), NOW)
    assert await postgresql.read(store.balance, "clearing/stripe/EUR") == eur(10000 * (AT_ONCE + 2))


async def test_many_open_transactions_each_hold_a_shard_of_their_own(postgresql: Database) -> None:
    await postgresql.write(store.post, captured(0, "mer_z"), NOW)
    all_posted = asyncio.Barrier(AT_ONCE)

    async def post_and_stay_open(number: int) -> None:
        async with postgresql.engine.begin() as held:
            await held.run_sync(store.post, captured(number, f"mer_{number}"), NOW)
            await all_posted.wait()

    async with asyncio.timeout(30):
        await asyncio.gather(*(post_and_stay_open(number) for number in range(1, AT_ONCE + 1)))
    rows = select(account_balances.c.shard).where(account_balances.c.account == "clearing/stripe/EUR")
    shards = await postgresql.read(lambda connection: list(connection.execute(rows).scalars()))
    assert sorted(shards) == list(range(1, AT_ONCE + 1))


async def test_when_every_shard_is_held_a_posting_waits_and_nothing_is_lost(postgresql: Database) -> None:
    await postgresql.write(store.post, captured(0, "mer_z"), NOW)
    async with postgresql.engine.begin() as held:
        every_shard = func.generate_series(1, store.SHARDS).column_valued("shard")
        await held.execute(select(func.pg_advisory_xact_lock(store.ADVISORY_CLASS, every_shard)))
        await asyncio.gather(
            *(postgresql.write(store.post, captured(number, f"mer_{number}"), NOW) for number in range(1, 9))
        )
    assert await postgresql.read(store.balance, "clearing/stripe/EUR") == eur(90000)


async def test_opposite_moves_between_two_limited_accounts_do_not_deadlock(postgresql: Database) -> None:
    """Reserving takes pending before reserved, releasing the reverse; locks are taken in order of name."""
    await postgresql.write(store.post, captured(1, "mer_a", 10**6), NOW)
    await postgresql.write(store.post, reserve(0, 5 * 10**5), NOW)
    back_and_forth = [
        move
        for number in range(1, 26)
        for move in (
            reserve(number, 100),
            rules.refund_release(
                f"rfd_{number}:release", f"rfd_{number}", "mer_a", eur(100), "merchant/mer_a/pending/EUR"
            ),
        )
    ]
    before = await _deadlocks(postgresql)
    assert await outcomes(postgresql, back_and_forth) == {"new": 50}
    assert await _deadlocks(postgresql) == before
    assert await postgresql.read(store.balance, "merchant/mer_a/reserved/EUR") == eur(-5 * 10**5)


async def test_the_books_hold_after_a_storm_of_mixed_postings(postgresql: Database) -> None:
    await postgresql.write(store.post, captured(0, "mer_a", 50000), NOW)
    storm = [captured(number, f"mer_{number % 3}") for number in range(1, 31)]
    storm += [reserve(number, 4000) for number in range(30)] * 2
    storm += [_fee(number) for number in range(20)]
    await outcomes(postgresql, storm)
    report = await postgresql.read(proof.verify)
    assert report.holds, str(report)
    assert report.postings == await postgresql.read(
        lambda connection: len(connection.execute(select(postings.c.id)).all())
    )


def _fee(number: int) -> Posting:
    legs = [debit(chart.PROVIDER_FEES, eur(7)), credit(chart.bank(), eur(7))]
    return posting(f"fee_{number}", "provider_fee", f"txn_{number}", legs)


async def _deadlocks(database: Database) -> int:
    query = (
        "SELECT pg_stat_clear_snapshot(), deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    return await database.read(lambda connection: int(connection.exec_driver_sql(query).one().deadlocks))
