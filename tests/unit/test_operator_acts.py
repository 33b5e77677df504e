"""The record of operators' acts: begun before, ended once, never changed; and a decision is one act with its row."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, update
from sqlalchemy.exc import DBAPIError

from corridor.domain.accepted import NewPayment
from corridor.domain.failure import Refused
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.storage import merchants, operator_acts, payments, reviews
from corridor.storage.database import Database
from corridor.storage.merchants import NewMerchant
from corridor.storage.operator_acts import NewAct
from corridor.storage.tables import operator_acts as table
from tests.workflows.earlier import empty

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
WORDS = {"build": "b2", "force": False}


def act(at: datetime = AT) -> NewAct:
    return NewAct(
        id=new_id(Prefix.OPERATOR_ACT, at), at=at, who="alice", command="deploy promote", words=WORDS
    )


async def test_an_act_is_begun_and_ended_once(database: Database) -> None:
    one = act()
    await database.write(operator_acts.begin, one)
    (begun,) = await database.read(operator_acts.since, None)
    assert (begun.who, begun.at, begun.words, begun.outcome, begun.finished_at) == (
        "alice", AT, WORDS, None, None,
    )  # fmt: skip
    later = AT + timedelta(seconds=3)
    await database.write(operator_acts.end, one.id, "ok", {"moved": 2}, later)
    await database.write(operator_acts.end, one.id, "failed: late", {}, later + timedelta(seconds=1))
    (ended,) = await database.read(operator_acts.since, None)
    assert (ended.outcome, ended.result, ended.finished_at) == ("ok", {"moved": 2}, later)


@pytest.mark.parametrize(
    "values",
    [
        {"who": "mallory"},
        {"outcome": "failed: x"},
        {"words": {}},
        {"command": "resume"},
        {"finished_at": None},
    ],
    ids=lambda values: next(iter(values)),
)
async def test_an_act_that_has_ended_cannot_be_changed(database: Database, values: dict[str, object]) -> None:
    one = act()
    await database.write(operator_acts.begin, one)
    await database.write(operator_acts.end, one.id, "ok", {}, AT)
    with pytest.raises(DBAPIError, match="append-only"):
        await database.write(lambda connection: connection.execute(update(table).values(**values)))


@pytest.mark.parametrize("values", [{"who": "mallory"}, {"words": {}}, {"outcome": "ok"}], ids=str)
async def test_an_act_under_way_can_only_be_ended(database: Database, values: dict[str, object]) -> None:
    await database.write(operator_acts.begin, act())
    with pytest.raises(DBAPIError, match="append-only"):
        await database.write(lambda connection: connection.execute(update(table).values(**values)))
    changed_as_it_ends = {"outcome": "ok", "finished_at": AT, "who": "mallory"}
    with pytest.raises(DBAPIError, match="append-only"):
        await database.write(
            lambda connection: connection.execute(update(table).values(**changed_as_it_ends))
        )


async def test_no_act_is_removed(database: Database) -> None:
    await database.write(operator_acts.begin, act())
    with pytest.raises(DBAPIError, match="append-only"):
        await database.write(lambda connection: connection.execute(delete(table)))


async def test_acts_are_listed_in_their_order_from_a_moment_on(database: Database) -> None:
    times = [AT + timedelta(hours=hours) for hours in (2, 0, 1)]
    for at in times:
        await database.write(operator_acts.begin, act(at))
    assert [it.at for it in await database.read(operator_acts.since, None)] == sorted(times)
    late = await database.read(operator_acts.since, AT + timedelta(hours=1))
    assert [it.at for it in late] == sorted(times)[1:]


# --- decisions of reviews --------------------------------------------------------------------------------------------


def _asked(connection: Connection) -> None:
    merchant = NewMerchant(id="mer_1", name="Lantern & Loom", country="CN", settle_currency="CNY")
    merchants.create_merchant(connection, merchant, AT)
    payment = NewPayment(
        id="pay_1", merchant_id="mer_1", amount=Money(10_000, "EUR"), settle_currency="CNY",
        source_country="DE", destination_country="CN", payment_token="pm_card_visa", instrument="card_1",
    )  # fmt: skip
    payments.accept(connection, payment, AT)
    reviews.open_review(
        connection, review_id="rvw_1", payment_id="pay_1", object_id="pay_1", merchant_id="mer_1",
        reason="risk_review", evidence={}, now=AT,
    )  # fmt: skip


async def test_a_decision_is_one_act_and_a_second_one_is_none(database: Database) -> None:
    await database.write(_asked)
    await database.write(reviews.decide, "rvw_1", "approve", "key_1", "known", AT)
    await database.write(reviews.decide, "rvw_1", "approve", "key_1", "clicked twice", AT)
    with pytest.raises(Refused):
        await database.write(reviews.decide, "rvw_1", "decline", "key_2", "too late", AT)
    (only,) = await database.read(operator_acts.since, None)
    assert (only.who, only.at, only.command, only.outcome, only.finished_at) == (
        "key_1", AT, "review decide", "ok", AT,
    )  # fmt: skip
    assert only.words == {"review": "rvw_1", "decision": "approve"}


@pytest.mark.parametrize("nobody", reviews.BY_NOBODY)
async def test_what_no_person_decided_is_no_act(database: Database, nobody: str) -> None:
    await database.write(_asked)
    await database.write(reviews.decide, "rvw_1", "found", nobody, "the provider's record", AT)
    assert await database.read(operator_acts.since, None) == []


async def test_a_decision_and_its_act_are_kept_together_or_not_at_all(database: Database) -> None:
    def decide_and_fail(connection: Connection) -> None:
        reviews.decide(connection, "rvw_1", "approve", "key_1", "known", AT)
        raise RuntimeError("the rest of the transaction")

    await database.write(_asked)
    with pytest.raises(RuntimeError):
        await database.write(decide_and_fail)
    assert await database.read(operator_acts.since, None) == []


async def test_a_decision_that_is_made_again_from_histories_is_the_same_act(
    database: Database, tmp_path: Path
) -> None:
    rebuilt = Database(await empty(tmp_path / "again.db"))
    for one in (database, rebuilt):
        await one.write(_asked)
        await one.write(reviews.decide, "rvw_1", "approve", "key_1", "known", AT)
    told = [tuple(row) for row in await rebuilt.read(operator_acts.since, None)]
    assert told == [tuple(row) for row in await database.read(operator_acts.since, None)]
    await rebuilt.close()
