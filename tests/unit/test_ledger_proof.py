"""The proof holds on honest books and names the first bad row of tampered ones; on both databases."""

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, text, update

from corridor.domain.money import Money
from corridor.ledger import proof, rules, seal, store
from corridor.ledger.report import Fault, FaultKind, Report
from corridor.storage.database import Database
from corridor.storage.ledger_tables import account_balances, accounts, entries, ledger_seals, postings

NOW = datetime(2026, 10, 30, 12, 0, tzinfo=UTC)
PAYMENTS = 5


def write_books(connection: Connection) -> None:
    for number in range(1, PAYMENTS + 1):
        amount = Money(number * 1000, "EUR")
        store.post(
            connection,
            rules.capture(f"pay_{number}:capture:1", f"pay_{number}", "mer_a", "stripe", amount),
            NOW,
        )
    seal.seal(connection, NOW + timedelta(minutes=1))


async def tampered(database: Database, *statements: Any) -> Report:
    """The proof after somebody with the database's own password changed rows."""

    def tamper(connection: Connection) -> None:
        for table in ("entries", "postings", "ledger_seals"):
            _lift_triggers(connection, table)
        for statement in statements:
            connection.execute(statement)

    await database.write(tamper)
    return await database.read(proof.verify)


def _lift_triggers(connection: Connection, table: str) -> None:
    if connection.dialect.name == "sqlite":
        for verb in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER {table}_no_{verb}"))
        connection.execute(text("PRAGMA defer_foreign_keys = ON"))
    else:
        connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))


@pytest.fixture
async def books(database: Database) -> Database:
    await database.write(write_books)
    return database


async def test_honest_books_hold(books: Database) -> None:
    report = await books.read(proof.verify)
    assert report.holds, str(report)
    assert (report.postings, report.entries, report.accounts, report.seals, report.unsealed) == (
        5,
        10,
        2,
        5,
        0,
    )
    assert report.totals_minor == {"EUR": 0}


async def test_an_empty_ledger_holds(database: Database) -> None:
    assert (await database.read(proof.verify)).holds


async def test_the_report_is_plain_data(books: Database) -> None:
    report = await books.read(proof.verify)
    assert json.loads(json.dumps(dataclasses.asdict(report)))["postings"] == PAYMENTS


async def test_a_changed_amount_is_named_to_the_leg_and_to_what_it_was(books: Database) -> None:
    changed = update(entries).where(entries.c.posting_id == 3, entries.c.leg == 1).values(amount_minor=-2999)
    report = await tampered(books, changed)
    assert report.faults[0] == Fault(
        FaultKind.ALTERED_LEG,
        "was -3000, is -2999 minor units",
        "pay_3:capture:1",
        1,
        "merchant/mer_a/pending/EUR",
    )
    assert "pay_3:capture:1, leg 1" in str(report)


async def test_a_balanced_forgery_is_still_found_by_its_digest(books: Database) -> None:
    forged = [
        update(entries).where(entries.c.posting_id == 2, entries.c.leg == leg).values(amount_minor=minor)
        for leg, minor in ((0, 9000), (1, -9000))
    ]
    report = await tampered(books, *forged)
    assert (report.faults[0].kind, report.faults[0].posting_key) == (
        FaultKind.ALTERED_POSTING,
        "pay_2:capture:1",
    )
    wrong = {fault.account for fault in report.faults if fault.kind is FaultKind.WRONG_BALANCE}
    assert wrong == {"clearing/stripe/EUR", "merchant/mer_a/pending/EUR"}


async def test_a_removed_leg_is_named(books: Database) -> None:
    report = await tampered(books, delete(entries).where(entries.c.posting_id == 4, entries.c.leg == 0))
    first = report.faults[0]
    assert (first.kind, first.posting_key, first.leg) == (FaultKind.MISSING_LEG, "pay_4:capture:1", 0)


async def test_a_leg_removed_at_the_end_of_a_posting_is_found(books: Database) -> None:
    report = await tampered(books, delete(entries).where(entries.c.posting_id == 4, entries.c.leg == 1))
    assert {fault.kind for fault in report.faults} >= {FaultKind.ALTERED_POSTING, FaultKind.UNBALANCED}


async def test_a_changed_balance_is_named_with_what_was_stored_and_folded(books: Database) -> None:
    changed = update(account_balances).where(account_balances.c.account == "clearing/stripe/EUR")
    report = await tampered(books, changed.values(balance_minor=14999))
    assert report.faults == [
        Fault(
            FaultKind.WRONG_BALANCE,
            "stored 14999, entries fold to 15000 minor units",
            account="clearing/stripe/EUR",
        )
    ]
    assert report.totals_minor == {"EUR": -1}


async def test_an_account_of_another_currency_is_found(books: Database) -> None:
    changed = update(accounts).where(accounts.c.account == "clearing/stripe/EUR").values(currency="USD")
    report = await tampered(books, changed)
    assert report.faults[0].kind is FaultKind.UNKNOWN_ACCOUNT
    assert report.fault_count == PAYMENTS


async def test_a_merchant_in_debit_is_found(database: Database) -> None:
    def overdraw(connection: Connection) -> None:
        # Written past the store, as a faulty release would: balanced, with its right digest, but in debit.
        legs = [("bank/main/EUR", -500), ("merchant/mer_a/available/EUR", 500)]
        connection.execute(insert(accounts), [{"account": name, "currency": "EUR"} for name, _ in legs])
        head = {"id": 1, "key": "k", "kind": "x", "object_id": "o", "posted_at": NOW}
        connection.execute(insert(postings), {**head, "digest": store.digest_of("k", "x", "o", legs)})
        for leg, (name, minor) in enumerate(legs):
            row = {"posting_id": 1, "leg": leg, "account": name, "amount_minor": minor}
            connection.execute(insert(entries), row)
            connection.execute(
                insert(account_balances), {"account": name, "shard": 1, "balance_minor": minor}
            )

    await database.write(overdraw)
    report = await database.read(proof.verify)
    assert [(fault.kind, fault.account) for fault in report.faults] == [
        (FaultKind.OVERDRAWN, "merchant/mer_a/available/EUR")
    ]


@pytest.mark.parametrize(
    ("damage", "detail"),
    [
        (
            lambda: update(postings).where(postings.c.id == 2).values(posted_at=NOW + timedelta(days=1)),
            "seal 2 does not follow from its posting",
        ),
        (
            lambda: update(ledger_seals).where(ledger_seals.c.seal_number == 3).values(hash="ab" * 32),
            "seal 3 does not follow from its posting",
        ),
        (lambda: delete(ledger_seals).where(ledger_seals.c.seal_number == 4), "seal 4 is missing"),
    ],
)
async def test_a_break_in_the_chain_is_named(books: Database, damage: Callable[[], Any], detail: str) -> None:
    report = await tampered(books, damage())
    assert (report.faults[0].kind, report.faults[0].detail) == (FaultKind.BROKEN_SEAL, detail)


async def test_a_posting_removed_with_all_its_rows_breaks_the_chain(books: Database) -> None:
    report = await tampered(
        books, delete(entries).where(entries.c.posting_id == 5), delete(postings).where(postings.c.id == 5)
    )
    details = [fault.detail for fault in report.faults if fault.kind is FaultKind.BROKEN_SEAL]
    assert details == ["seal 5 stands for posting id 5, which is gone"]


async def test_many_pages_are_proven_like_one(books: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "PAGE", 2)
    report = await books.read(proof.verify)
    assert report.holds
    assert (report.postings, report.entries, report.seals) == (5, 10, 5)


async def test_clearing_lists_what_is_open_by_object(books: Database) -> None:
    line = type("Line", (), {"gross": Money(2000, "EUR"), "fee": Money(60, "EUR"), "net": Money(1940, "EUR")})
    line.converted_from = None  # type: ignore[attr-defined]
    settled = rules.settle("pay_2:settle", "pay_2", "mer_a", "stripe", line(), Money(2000, "EUR"), None, 0)
    await books.write(store.post, settled, NOW)
    report = await books.read(proof.verify)
    assert [(item.object_id, item.open_minor) for item in report.open_items] == [
        ("pay_1", 1000),
        ("pay_3", 3000),
        ("pay_4", 4000),
        ("pay_5", 5000),
    ]
    assert report.open_item_count == 4


async def test_the_trial_balance_shows_debits_credits_and_the_kept_balance(books: Database) -> None:
    lines = await books.read(proof.trial_balance)
    assert [dataclasses.astuple(line) for line in lines] == [
        ("clearing/stripe/EUR", 15000, 0, 15000),
        ("merchant/mer_a/pending/EUR", 0, 15000, -15000),
    ]
