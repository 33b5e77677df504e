"""Orphans are started, and a loop outlives its errors."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from corridor.providers.registry import Registry
from corridor.runtime.loop import Loop, keep_turning
from corridor.storage.database import Database
from corridor.storage.tables import payments
from tests.fakes.temporal import FakeTemporal
from tests.unit import relay_rows as rows
from workers.relay import orphans as orphans_module
from workers.relay import relay
from workers.relay.orphans import OrphanStarter
from workers.relay.watch import Watch
from workflows import names, starts


def _starter(database: Database, server: FakeTemporal, seconds: int) -> OrphanStarter:
    now = rows.NOW + timedelta(seconds=seconds)
    return OrphanStarter(database, server, starts.DEFAULT_WINDOWS, lambda: now)  # type: ignore[arg-type]


async def test_a_payment_nobody_started_is_started_with_the_apis_arguments(database: Database) -> None:
    row = await database.write(rows.payment, await database.write(rows.merchant))
    server = FakeTemporal()
    assert await _starter(database, server, 4).turn() == 0
    assert await _starter(database, server, 5).turn() == 1
    workflow_id = names.payment_workflow_id(row.id)
    assert server.running[workflow_id] == (names.PAYMENT, starts.payment_start(row))
    assert server.options[workflow_id]["search_attributes"] == starts.payment_search_attributes(row)
    assert server.options[workflow_id]["static_summary"] == "100.00 EUR → CNY · DE→CN · order-7781"


async def test_a_payment_from_an_api_whose_clock_is_ahead_does_not_wait_for_ours(database: Database) -> None:
    ahead = rows.NOW + timedelta(minutes=4)
    row = await database.write(rows.payment, await database.write(rows.merchant), ahead)
    server = FakeTemporal()
    assert await _starter(database, server, 0).turn() == 1
    assert set(server.running) == {names.payment_workflow_id(row.id)}


async def test_a_payment_whose_workflow_reported_itself_is_left_alone(database: Database) -> None:
    row = await database.write(rows.payment, await database.write(rows.merchant))
    await database.write(
        lambda connection: connection.execute(
            update(payments).where(payments.c.id == row.id).values(workflow_started_at=rows.NOW)
        )
    )
    assert await _starter(database, FakeTemporal(), 60).turn() == 0


async def test_orphans_that_cannot_start_do_not_hide_those_behind_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans_module, "BATCH", 2)
    merchant_id = await database.write(rows.merchant)
    found = [
        await database.write(rows.payment, merchant_id, rows.NOW + timedelta(milliseconds=n))
        for n in range(3)
    ]
    server = FakeTemporal()
    server.broken = {names.payment_workflow_id(row.id) for row in found[:2]}
    starter = _starter(database, server, 60)
    with pytest.raises(ExceptionGroup):
        await starter.turn()
    await starter.turn()
    assert set(server.running) == {names.payment_workflow_id(found[2].id)}
    server.broken = set()
    await starter.turn()
    assert len(server.running) == 3


async def test_a_loop_survives_its_errors_and_ends_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corridor.runtime.loop.FIRST_BACKOFF_SECONDS", 0.01)
    stop, turns = asyncio.Event(), 0

    async def turn() -> int:
        nonlocal turns
        turns += 1
        if turns < 3:
            raise RuntimeError("the database is away")
        stop.set()
        return 1

    async with asyncio.timeout(5):
        await keep_turning(Loop("test", turn, 0.01, 0.02), stop)
    assert turns == 3


async def test_all_loops_start_do_their_work_and_stop_together(database: Database) -> None:
    merchant_id = await database.write(rows.merchant)
    await database.write(rows.endpoint, merchant_id)
    row = await database.write(rows.payment, merchant_id)
    server, stop = FakeTemporal(), asyncio.Event()

    def clock() -> Any:
        return rows.LATER

    running = asyncio.create_task(relay.run(database, server, Registry([]), stop, clock=clock))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await server.until_running(2)
        stop.set()
        await running
    kinds = sorted(workflow for workflow, _ in server.running.values())
    assert kinds == [names.PAYMENT, names.WEBHOOK_DELIVERY]
    assert names.payment_workflow_id(row.id) in server.running


async def test_the_watch_looks_without_changing_anything(database: Database) -> None:
    await database.write(rows.provider_event, reference="pi_unknown")
    assert await Watch(database, lambda: rows.LATER).turn() == 0
