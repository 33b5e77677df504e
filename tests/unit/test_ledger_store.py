"""The store posts once, keeps balances in step, and refuses what a balance cannot bear; on both databases."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, Executable, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from corridor.domain.failure import InvariantBroken, Refusal, Refused
from corridor.domain.money import Money
from corridor.domain.posting import Posting, credit, debit, posting
from corridor.ledger import rules, store
from corridor.storage.database import Database
from corridor.storage.ledger_tables import account_balances, entries, postings

NOW = datetime(2026, 10, 30, 12, 0, tzinfo=UTC)


def eur(minor: int) -> Money:
    return Money(minor, "EUR")


def captured(number: int = 1, minor: int = 10000, merchant: str = "mer_a") -> Posting:
    return rules.capture(f"pay_{number}:capture:1", f"pay_{number}", merchant, "stripe", eur(minor))


def reserve(number: int, minor: int, merchant: str = "mer_a") -> Posting:
    return rules.refund_reserve_before_settlement(
        f"rfd_{number}:reserve", f"rfd_{number}", merchant, eur(minor)
    )


async def test_a_posting_moves_the_balances_of_its_accounts(database: Database) -> None:
    posted = await database.write(store.post, captured(), NOW)
    assert posted.was_new
    assert await database.read(store.balance, "clearing/stripe/EUR") == eur(10000)
    assert await database.read(store.balance, "merchant/mer_a/pending/EUR") == eur(-10000)


async def test_the_same_posting_again_returns_the_first_and_changes_nothing(database: Database) -> None:
    first = await database.write(store.post, captured(), NOW)
    again = await database.write(store.post, captured(), NOW)
    assert (again.posting, again.was_new) == (first.posting, False)
    assert await database.read(store.balance, "clearing/stripe/EUR") == eur(10000)


async def test_another_posting_under_the_same_key_is_our_bug(database: Database) -> None:
    await database.write(store.post, captured(), NOW)
    with pytest.raises(InvariantBroken):
        await database.write(store.post, captured(minor=10001), NOW)
    assert await database.read(store.balance, "clearing/stripe/EUR") == eur(10000)


async def test_a_merchants_balance_never_goes_into_debit(database: Database) -> None:
    await database.write(store.post, captured(), NOW)
    with pytest.raises(Refused) as refused:
        await database.write(store.post, reserve(1, 10001), NOW)
    assert refused.value.code is Refusal.INSUFFICIENT_AVAILABLE
    assert refused.value.facts["held_minor"] == 10000
    assert await database.read(store.posting_by_key, "rfd_1:reserve") is None


async def test_a_balance_may_be_used_to_its_last_minor_unit(database: Database) -> None:
    await database.write(store.post, captured(), NOW)
    await database.write(store.post, reserve(1, 4000), NOW)
    await database.write(store.post, reserve(2, 6000), NOW)
    assert await database.read(store.balance, "merchant/mer_a/pending/EUR") == eur(0)
    assert await database.read(store.balance, "merchant/mer_a/reserved/EUR") == eur(-10000)


async def test_a_refusal_leaves_nothing_behind_even_when_the_transaction_goes_on(database: Database) -> None:
    def refused_then_captured(connection: Connection) -> bool:
        try:
            store.post(connection, reserve(1, 1), NOW)
        except Refused:
            return store.post(connection, captured(), NOW).was_new
        return False

    assert await database.write(refused_then_captured)
    assert await database.read(lambda c: list(c.execute(select(postings.c.key)).scalars())) == [
        "pay_1:capture:1"
    ]


async def test_a_repeated_reservation_is_recognised_though_the_balance_is_used_up(database: Database) -> None:
    await database.write(store.post, captured(), NOW)
    await database.write(store.post, reserve(1, 10000), NOW)
    assert not (await database.write(store.post, reserve(1, 10000), NOW)).was_new


async def test_a_reused_key_is_our_bug_even_when_the_balance_would_not_bear_it(database: Database) -> None:
    await database.write(store.post, captured(), NOW)
    await database.write(store.post, reserve(1, 10000), NOW)
    with pytest.raises(InvariantBroken):
        await database.write(store.post, reserve(1, 20000), NOW)


async def test_the_schema_itself_refuses_an_overdraft(database: Database) -> None:
    def by_hand(connection: Connection) -> None:
        store.post(connection, captured(), NOW)
        row = {"account": "merchant/mer_a/pending/EUR", "shard": 0, "balance_minor": 1}
        connection.execute(account_balances.update().values(row).where(account_balances.c.shard == 0))

    with pytest.raises(IntegrityError):
        await database.write(by_hand)


async def test_an_account_outside_the_chart_is_not_posted_to(database: Database) -> None:
    wrong = posting("k", "test", "pay_1", [debit("slush", eur(1)), credit("clearing/stripe", eur(1))])
    with pytest.raises(InvariantBroken):
        await database.write(store.post, wrong, NOW)


async def test_accounts_that_cancel_out_within_a_posting_need_no_money(database: Database) -> None:
    line = type("Line", (), {"gross": eur(10000), "fee": eur(0), "net": eur(10000), "converted_from": None})()
    await database.write(store.post, captured(), NOW)
    settled = rules.settle("pay_1:settle", "pay_1", "mer_a", "stripe", line, eur(10000), None, 100)
    await database.write(store.post, settled, NOW)
    assert await database.read(store.balance, "merchant/mer_a/available/EUR") == eur(-9900)
    assert await database.read(store.balance, "clearing/stripe/EUR") == eur(0)


async def test_balances_are_listed_by_prefix_and_no_neighbour_slips_in(database: Database) -> None:
    for number, merchant in enumerate(["mer_a", "mer_a1", "mer_b"]):
        await database.write(store.post, captured(number, merchant=merchant), NOW)
    await database.write(store.post, reserve(9, 2500), NOW)
    listed = await database.read(store.balances, "merchant/mer_a/")
    assert [(row.account, row.amount) for row in listed] == [
        ("merchant/mer_a/pending/EUR", eur(-7500)),
        ("merchant/mer_a/reserved/EUR", eur(-2500)),
    ]


async def test_a_posting_is_read_back_as_it_was_written(database: Database) -> None:
    await database.write(store.post, captured(), NOW)
    assert await database.read(store.posting_by_key, "pay_1:capture:1") == captured()
    assert await database.read(store.posting_by_key, "pay_2:capture:1") is None


async def test_the_entries_of_an_object_are_listed_in_order(database: Database) -> None:
    await database.write(store.post, captured(), NOW)
    await database.write(store.post, captured(2), NOW)
    listed = await database.read(store.entries_of, "pay_1")
    assert [(row.posting_key, row.leg, row.account, row.amount.minor) for row in listed] == [
        ("pay_1:capture:1", 0, "clearing/stripe/EUR", 10000),
        ("pay_1:capture:1", 1, "merchant/mer_a/pending/EUR", -10000),
    ]
    assert listed[0].posted_at == NOW


@pytest.mark.parametrize(
    "change", [postings.delete(), postings.update().values(kind="other"), entries.delete()]
)
async def test_the_books_are_append_only(database: Database, change: Executable) -> None:
    await database.write(store.post, captured(), NOW)
    with pytest.raises(DBAPIError, match="append-only"):
        await database.write(run, change)


async def test_a_balance_needs_an_account(database: Database) -> None:
    row = {"account": "clearing/nowhere/EUR", "shard": 1, "balance_minor": 5}
    with pytest.raises(IntegrityError):
        await database.write(run, insert(account_balances).values(row))


def run(connection: Connection, statement: Executable) -> None:
    connection.execute(statement)
