"""The seal chains every posting exactly once, also one that becomes visible late; on both databases."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from corridor.domain.money import Money
from corridor.ledger import proof, rules, seal, store
from corridor.storage.database import Database
from corridor.storage.ledger_tables import ledger_seals

NOW = datetime(2026, 10, 30, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


async def write(database: Database, number: int, now: datetime = NOW) -> None:
    posting = rules.capture(f"pay_{number}:capture:1", f"pay_{number}", "mer_a", "stripe", Money(100, "EUR"))
    await database.write(store.post, posting, now)


async def sealed_numbers(database: Database) -> list[int]:
    rows = select(ledger_seals.c.seal_number).order_by(ledger_seals.c.seal_number)
    return await database.read(lambda connection: list(connection.execute(rows).scalars()))


async def test_each_posting_is_sealed_once_and_numbered_without_gaps(database: Database) -> None:
    for number in range(7):
        await write(database, number)
    runs = [await database.write(seal.seal, LATER, 3) for _ in range(4)]
    assert [run.count for run in runs] == [3, 3, 1, 0]
    assert await sealed_numbers(database) == list(range(1, 8))
    assert runs[-1].hash == runs[-2].hash != seal.GENESIS


async def test_a_posting_is_left_to_settle_before_it_is_sealed(database: Database) -> None:
    await write(database, 1, NOW)
    assert (await database.write(seal.seal, NOW + timedelta(seconds=4))).count == 0
    assert (await database.write(seal.seal, NOW + seal.SETTLING)).count == 1


async def test_a_posting_from_the_future_is_not_waited_for(database: Database) -> None:
    """Booked by a clock an hour ahead: when that hour is over it may lie too far behind to be found."""
    await write(database, 1, NOW + timedelta(hours=1))
    assert (await database.write(seal.seal, NOW)).count == 1


async def test_a_posting_that_becomes_visible_late_is_sealed_late_and_not_lost(postgresql: Database) -> None:
    straggler = rules.capture("pay_1:capture:1", "pay_1", "mer_z", "stripe", Money(100, "EUR"))
    await write(postgresql, 0)
    async with postgresql.engine.begin() as held:
        await held.run_sync(store.post, straggler, NOW)
        await write(postgresql, 2)
        assert (await postgresql.write(seal.seal, LATER)).count == 2
    assert (await postgresql.write(seal.seal, LATER)).count == 1
    rows = select(ledger_seals.c.posting_id).order_by(ledger_seals.c.seal_number)
    ids = await postgresql.read(lambda connection: list(connection.execute(rows).scalars()))
    assert ids == [1, 3, 2]
    assert (await postgresql.read(proof.verify)).holds


async def test_what_even_the_look_back_missed_is_reported(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(database, 1, NOW + seal.SETTLING)
    for number in range(2, 6):
        await write(database, number, NOW)
    monkeypatch.setattr(seal, "LOOK_BACK", 2)
    monkeypatch.setattr(proof, "LOOK_BACK", 2)
    await database.write(seal.seal, NOW + seal.SETTLING)
    report = await database.read(proof.verify)
    assert [(fault.kind, fault.posting_key) for fault in report.faults] == [
        ("never_sealed", "pay_1:capture:1")
    ]


async def test_sealers_that_run_at_once_take_turns(postgresql: Database) -> None:
    for number in range(20):
        await write(postgresql, number)
    await asyncio.gather(*(postgresql.write(seal.seal, LATER, 5) for _ in range(6)))
    assert await sealed_numbers(postgresql) == list(range(1, 21))
    assert (await postgresql.read(proof.verify)).holds


async def test_payments_are_not_held_up_by_an_open_sealing_transaction(postgresql: Database) -> None:
    await write(postgresql, 1)
    async with postgresql.engine.begin() as held:
        await held.run_sync(seal.seal, LATER)
        async with asyncio.timeout(10):
            await write(postgresql, 2)
