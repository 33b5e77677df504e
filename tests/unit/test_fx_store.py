"""Claims about quotes in the database: taken once, by a payment they fit, also when two reach for them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from corridor.domain.failure import InvariantBroken, Refusal, Refused
from corridor.domain.money import Money
from corridor.domain.quote import Quote, QuoteStatus
from corridor.fx.store import expire_due, get_quote, insert_quote, lock_quote, mark_used, release_quote
from corridor.storage.database import Database
from corridor.storage.tables import merchants, payments, quotes

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
EXPIRY = NOW + timedelta(minutes=5)


def quote(quote_id: str = "qte_1", merchant_id: str = "mer_1", sell: int = 10_000) -> Quote:
    return Quote(
        id=quote_id,
        merchant_id=merchant_id,
        sell_amount=Money(sell, "EUR"),
        buy_amount=Money(74_029, "CNY"),
        mid_amount=Money(74_326, "CNY"),
        client_rate=Decimal("7.40286960"),
        mid_rate=Decimal("7.4326"),
        mid_source="atlas",
        mid_as_of="2026-10-30",
        spread_bps=40,
        liquidity_provider="atlas",
        liquidity_reference="atlq_1",
        lock_seconds=300,
        valid_from=NOW,
        expires_at=EXPIRY,
        considered=({"kind": "reference", "mid": "7.4326"},),
    )


def add_merchant(connection: Connection, merchant_id: str) -> None:
    connection.execute(
        merchants.insert().values(
            id=merchant_id,
            name="A shop",
            country="CN",
            settle_currency="CNY",
            fee_bps=90,
            fx_markup_bps=30,
            created_at=NOW,
        )
    )


def add_payment(connection: Connection, payment_id: str, merchant_id: str = "mer_1", **changed: Any) -> None:
    facts: dict[str, Any] = {
        "id": payment_id,
        "merchant_id": merchant_id,
        "status": "processing",
        "currency": "EUR",
        "amount_minor": 10_000,
        "settle_currency": "CNY",
        "source_country": "DE",
        "destination_country": "CN",
        "corridor": "DE-EUR>CN-CNY",
        "capture_method": "automatic",
        "payment_token": "pm_card_visa",
        "instrument": "card_1",
        "slippage_max_bps": 50,
        "slippage_policy": "requote",
        "extra": {},
        "sequence": 1,
        "created_at": NOW,
        "updated_at": NOW,
    }
    connection.execute(payments.insert().values(**{**facts, **changed}))


def prepare(connection: Connection) -> None:
    for merchant_id in ("mer_1", "mer_2"):
        add_merchant(connection, merchant_id)
    add_payment(connection, "pay_1")
    add_payment(connection, "pay_2")
    insert_quote(connection, quote(), NOW)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    await opened.write(prepare)
    yield opened
    await opened.close()


async def refusal(database: Database, *arguments: Any) -> Refusal:
    def attempt(connection: Connection) -> Refusal:
        with pytest.raises(Refused) as refused:
            lock_quote(connection, *arguments)
        return refused.value.code

    return await database.write(attempt)


async def status(database: Database, quote_id: str = "qte_1") -> tuple[str, str | None]:
    columns = select(quotes.c.status, quotes.c.payment_id).where(quotes.c.id == quote_id)
    row = await database.read(lambda connection: connection.execute(columns).one())
    return row.status, row.payment_id


async def test_a_stored_quote_comes_back_to_the_digit(database: Database) -> None:
    assert await database.read(get_quote, "mer_1", "qte_1", NOW) == (quote(), QuoteStatus.OPEN)


async def test_a_lock_is_taken_by_one_payment_and_kept_by_it(database: Database) -> None:
    assert await database.write(lock_quote, "qte_1", "pay_1", NOW) == quote()
    assert await database.write(lock_quote, "qte_1", "pay_1", EXPIRY) == quote(), "repeating is the same lock"
    assert await refusal(database, "qte_1", "pay_2", NOW) is Refusal.QUOTE_ALREADY_USED
    assert await status(database) == ("locked", "pay_1")


async def test_of_many_payments_racing_for_one_quote_exactly_one_wins(database: Database) -> None:
    def more_payments(connection: Connection) -> None:
        for number in range(3, 9):
            add_payment(connection, f"pay_{number}")

    await database.write(more_payments)

    def attempt(connection: Connection, payment_id: str) -> str:
        try:
            lock_quote(connection, "qte_1", payment_id, NOW)
        except Refused as refused:
            return refused.code
        return payment_id

    answers = await asyncio.gather(*(database.write(attempt, f"pay_{number}") for number in range(1, 9)))
    (winner,) = [answer for answer in answers if answer.startswith("pay_")]
    assert sorted(answers) == sorted([winner, *[Refusal.QUOTE_ALREADY_USED] * 7])
    assert await status(database) == ("locked", winner)


async def test_a_quote_is_good_until_its_expiry_and_not_at_it(database: Database) -> None:
    assert await refusal(database, "qte_1", "pay_1", EXPIRY) is Refusal.QUOTE_EXPIRED
    await database.write(lock_quote, "qte_1", "pay_1", EXPIRY - timedelta(milliseconds=1))


@pytest.mark.parametrize("other", [{"amount_minor": 9_999}, {"currency": "USD"}, {"settle_currency": "USD"}])
async def test_a_quote_for_another_amount_or_pair_does_not_fit(
    database: Database, other: dict[str, Any]
) -> None:
    await database.write(add_payment, "pay_9", **other)
    assert await refusal(database, "qte_1", "pay_9", NOW) is Refusal.QUOTE_MISMATCH


async def test_another_merchants_quote_does_not_exist(database: Database) -> None:
    await database.write(add_payment, "pay_9", "mer_2")
    assert await refusal(database, "qte_1", "pay_9", NOW) is Refusal.NOT_FOUND
    assert await refusal(database, "qte_none", "pay_1", NOW) is Refusal.NOT_FOUND

    def read(connection: Connection) -> None:
        with pytest.raises(Refused) as refused:
            get_quote(connection, "mer_2", "qte_1", NOW)
        assert refused.value.code is Refusal.NOT_FOUND

    await database.read(read)


async def test_the_database_itself_keeps_a_payment_from_holding_two_quotes(database: Database) -> None:
    await database.write(insert_quote, quote("qte_2"), NOW)
    await database.write(lock_quote, "qte_1", "pay_1", NOW)
    with pytest.raises(IntegrityError):
        await database.write(lock_quote, "qte_2", "pay_1", NOW)


async def test_a_released_quote_frees_its_payment_and_never_opens_again(database: Database) -> None:
    await database.write(lock_quote, "qte_1", "pay_1", NOW)
    assert await database.write(release_quote, "qte_1", "pay_1", NOW) is True
    assert await database.write(release_quote, "qte_1", "pay_1", NOW) is False, "undoing twice is safe"
    assert await status(database) == ("canceled", None)
    assert await refusal(database, "qte_1", "pay_2", NOW) is Refusal.QUOTE_ALREADY_USED
    await database.write(insert_quote, quote("qte_2"), NOW)
    await database.write(lock_quote, "qte_2", "pay_1", NOW)


async def test_releasing_after_expiry_says_expired(database: Database) -> None:
    await database.write(lock_quote, "qte_1", "pay_1", NOW)
    await database.write(release_quote, "qte_1", "pay_1", EXPIRY)
    assert await status(database) == ("expired", None)
    assert await refusal(database, "qte_1", "pay_2", EXPIRY) is Refusal.QUOTE_EXPIRED


async def test_a_payment_cannot_release_what_another_holds(database: Database) -> None:
    await database.write(lock_quote, "qte_1", "pay_1", NOW)
    assert await database.write(release_quote, "qte_1", "pay_2", NOW) is False
    assert await status(database) == ("locked", "pay_1")


async def test_a_used_quote_is_never_released_and_used_only_by_its_holder(database: Database) -> None:
    await database.write(lock_quote, "qte_1", "pay_1", NOW)
    with pytest.raises(InvariantBroken):
        await database.write(mark_used, "qte_1", "pay_2")
    await database.write(mark_used, "qte_1", "pay_1")
    await database.write(mark_used, "qte_1", "pay_1")
    with pytest.raises(InvariantBroken):
        await database.write(release_quote, "qte_1", "pay_1", NOW)
    assert await status(database) == ("used", "pay_1")


async def test_expiry_ends_open_quotes_and_leaves_locked_ones_to_their_payment(database: Database) -> None:
    await database.write(insert_quote, quote("qte_2"), NOW)
    await database.write(lock_quote, "qte_1", "pay_1", NOW)
    assert await database.write(expire_due, EXPIRY - timedelta(milliseconds=1)) == 0
    assert (await database.read(get_quote, "mer_1", "qte_2", EXPIRY))[1] is QuoteStatus.EXPIRED
    assert await database.write(expire_due, EXPIRY) == 1
    assert (await status(database), await status(database, "qte_2")) == (
        ("locked", "pay_1"),
        ("expired", None),
    )
