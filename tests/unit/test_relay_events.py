"""From commit to the feed to deliveries: nothing skipped, nothing twice, whoever dies in between."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection, select
from temporalio.service import RPCError

from corridor.storage import events, webhook_deliveries
from corridor.storage.database import Database
from corridor.storage.tables import unpositioned_events
from corridor.storage.tables import webhook_deliveries as deliveries
from tests.fakes.temporal import FakeTemporal
from tests.unit import relay_rows as rows
from workers.relay.dispatcher import Dispatcher, dispatch
from workers.relay.sequencer import Sequencer, place
from workflows import names
from workflows.messages import DeliveryStart


def _accepted(connection: Connection, merchant_id: str, count: int) -> None:
    for _ in range(count):
        rows.payment(connection, merchant_id)


def _deliveries(connection: Connection) -> list[Any]:
    return list(connection.execute(select(deliveries).order_by(deliveries.c.id)).all())


async def _feed(database: Database, merchant_id: str, page: int = 3) -> list[str]:
    """All event ids, read as a client does: page after page by position."""
    read: list[str] = []
    position = 0
    while found := await database.read(events.feed, merchant_id, position, page):
        read += [event["id"] for event in found]
        position = found[-1]["position"]
    return read


async def test_an_event_that_commits_late_is_placed_after_what_was_read(postgresql: Database) -> None:
    merchant_id = await postgresql.write(rows.merchant)
    async with postgresql.engine.connect() as slow:
        early = await slow.run_sync(rows.payment, merchant_id, rows.NOW)
        await postgresql.write(rows.payment, merchant_id, rows.LATER)
        await Sequencer(postgresql).turn()
        first = await postgresql.read(events.feed, merchant_id, 0, 10)
        await slow.commit()
    await Sequencer(postgresql).turn()
    second = await postgresql.read(events.feed, merchant_id, first[-1]["position"], 10)
    assert len(first) == 1
    assert [event["subject"]["id"] for event in second] == [early.id]


async def test_a_reader_misses_nothing_while_writers_and_sequencers_interleave(postgresql: Database) -> None:
    merchant_id = await postgresql.write(rows.merchant)
    read: list[str] = []
    position = 0
    writing = asyncio.gather(*(postgresql.write(_accepted, merchant_id, 5) for _ in range(12)))
    while not writing.done() or await postgresql.read(_unplaced):
        await asyncio.gather(*(Sequencer(postgresql).turn() for _ in range(3)))
        found = await postgresql.read(events.feed, merchant_id, position, 7)
        read += [event["id"] for event in found]
        position = found[-1]["position"] if found else position
    await writing
    while found := await postgresql.read(events.feed, merchant_id, position, 7):
        read += [event["id"] for event in found]
        position = found[-1]["position"]
    assert len(read) == len(set(read)) == 60
    assert read == await _feed(postgresql, merchant_id)


def _unplaced(connection: Connection) -> bool:
    return connection.execute(select(unpositioned_events.c.event_id).limit(1)).first() is not None


async def test_a_second_sequencer_stands_back_while_one_is_at_work(postgresql: Database) -> None:
    merchant_id = await postgresql.write(rows.merchant)
    await postgresql.write(_accepted, merchant_id, 3)
    async with postgresql.engine.connect() as first:
        assert await first.run_sync(place, 2) == 2
        assert await postgresql.write(place, 10) == 0
        await first.rollback()
    assert await postgresql.write(place, 10) == 3, "a sequencer that died leaves nothing behind"


@pytest.mark.parametrize("batch", [1, 10])
async def test_clocks_that_are_apart_never_turn_an_objects_events_around(
    database: Database, batch: int
) -> None:
    merchant_id = await database.write(rows.merchant)
    accepted = await database.write(rows.payment, merchant_id, rows.LATER)
    await database.write(rows.captured, accepted)  # by a process whose clock is ten seconds behind
    while await database.write(place, batch):
        continue
    feed = await database.read(events.feed, merchant_id, 0, 10)
    assert [event["sequence"] for event in feed] == [1, 2]


async def test_positions_are_dense_and_in_the_order_of_each_object(database: Database) -> None:
    merchant_id = await database.write(rows.merchant)
    row = await database.write(rows.payment, merchant_id)
    await database.write(rows.captured, row)
    assert await Sequencer(database).turn() == 2
    feed = await database.read(events.feed, merchant_id, 0, 10)
    assert [(event["position"], event["sequence"]) for event in feed] == [(1, 1), (2, 2)]
    assert await Sequencer(database).turn() == 0


async def _ready(database: Database, *subscriptions: tuple[str, ...]) -> str:
    """A merchant with endpoints and one placed `payment.accepted`; returns the merchant's id."""
    merchant_id = await database.write(rows.merchant)
    for event_types in subscriptions:
        await database.write(rows.endpoint, merchant_id, *event_types)
    await database.write(rows.payment, merchant_id)
    await Sequencer(database).turn()
    return merchant_id


def _dispatcher(database: Database, server: FakeTemporal) -> Dispatcher:
    return Dispatcher(database, server, lambda: rows.LATER)  # type: ignore[arg-type]


async def test_each_subscribed_endpoint_gets_one_delivery_with_a_workflow(database: Database) -> None:
    await _ready(database, (), ("payment.accepted", "payment.settled"), ("payment.settled",))
    server = FakeTemporal()
    assert await _dispatcher(database, server).turn() == 3
    found = await database.read(_deliveries)
    assert len(found) == 2
    assert server.running == {
        names.delivery_workflow_id(row.id): (names.WEBHOOK_DELIVERY, DeliveryStart(delivery_id=row.id))
        for row in found
    }
    assert all(row.workflow_started_at == rows.LATER for row in found)
    assert await _dispatcher(database, server).turn() == 0


async def test_other_merchants_and_disabled_endpoints_get_nothing(database: Database) -> None:
    other = await database.write(rows.merchant)
    await database.write(rows.endpoint, other)
    merchant_id = await _ready(database, ())
    await database.write(
        lambda connection: connection.exec_driver_sql(
            f"UPDATE webhook_endpoints SET enabled = FALSE WHERE merchant_id = '{merchant_id}'"  # noqa: S608
        )
    )
    assert await _dispatcher(database, FakeTemporal()).turn() == 1
    assert await database.read(_deliveries) == []


async def test_two_relays_at_once_make_one_delivery(database: Database) -> None:
    await _ready(database, ())
    server = FakeTemporal()
    relays = [_dispatcher(database, server) for _ in range(4)]
    await asyncio.gather(*(relay.turn() for relay in relays))
    await asyncio.gather(*(relay.turn() for relay in relays))
    assert len(await database.read(_deliveries)) == 1
    assert len(server.running) == 1


async def test_two_dispatch_transactions_for_one_event_leave_one_row(database: Database) -> None:
    merchant_id = await _ready(database, ())
    (event,) = await database.read(events.feed, merchant_id, 0, 1)
    arguments = (event["id"], merchant_id, event["type"])
    await database.write(webhook_deliveries.create_for_event, *arguments, rows.NOW)
    await database.write(webhook_deliveries.create_for_event, *arguments, rows.LATER)
    assert len(await database.read(_deliveries)) == 1


async def test_an_event_counts_as_dispatched_only_together_with_its_rows(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _ready(database, ())

    class Ended(BaseException):
        """As the end of a process: nothing that handles errors may see it."""

    def crash(*_: object) -> None:
        raise Ended

    with monkeypatch.context() as patched, pytest.raises(Ended):
        patched.setattr(events, "mark_dispatched", crash)
        await database.write(dispatch, rows.LATER, 10)
    assert await database.read(_deliveries) == []
    assert len(await database.write(dispatch, rows.LATER, 10)) == 1
    assert len(await database.read(_deliveries)) == 1


async def test_a_workflow_that_could_not_start_is_started_later_without_holding_up_others(
    database: Database,
) -> None:
    await _ready(database, (), ())
    server = FakeTemporal()
    await database.write(dispatch, rows.LATER, 10)
    broken, healthy = await database.read(_deliveries)
    server.broken = {names.delivery_workflow_id(broken.id)}
    with pytest.raises(ExceptionGroup) as failed:
        await _dispatcher(database, server).turn()
    assert failed.group_contains(RPCError)
    assert set(server.running) == {names.delivery_workflow_id(healthy.id)}
    server.broken = set()
    assert await _dispatcher(database, server).turn() == 1
    assert server.asked[names.delivery_workflow_id(healthy.id)] == 1


async def test_a_delivery_whose_workflow_ended_before_it_was_marked_is_not_run_again(
    database: Database,
) -> None:
    await _ready(database, ())
    await database.write(dispatch, rows.LATER, 10)
    server = FakeTemporal()
    server.closed = {names.delivery_workflow_id(row.id) for row in await database.read(_deliveries)}
    assert await _dispatcher(database, server).turn() == 1
    assert server.running == {}
    assert await _dispatcher(database, server).turn() == 0
