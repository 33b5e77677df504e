"""A database filled for the benchmark is one the product could have written: figures of another would mean nothing."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import pytest_asyncio
from sqlalchemy import Connection, func, select

from benchmarks.scale import costs, fill, moulds, reads
from benchmarks.scale.fill import WAITING, Filled
from benchmarks.scale.moulds import Mould
from benchmarks.scale.steps import Clock, steps_on
from corridor.fx.ecb import EcbRates
from corridor.ledger import proof
from corridor.runtime import keys
from corridor.runtime.settings import Settings, load
from corridor.storage import inbox, payments, waiting
from corridor.storage.database import Database
from corridor.storage.sealing import Sealer
from corridor.storage.tables import (
    event_positions,
    events,
    idempotency_keys,
    merchants,
    provider_events,
    settlement_batches,
    settlement_lines,
)
from corridor.storage.tables import payments as payment_table

pytestmark = pytest.mark.slow  # both databases are filled first

SIZE = 500


@dataclass(frozen=True)
class World:
    settings: Settings
    sealer: Sealer
    made: dict[str, list[Mould]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The moulds are costly, and the same for every test."""
    directory = tmp_path_factory.mktemp("scale")
    settings = load(data_dir=directory / "data", log_level="warning", market_day=EcbRates().newest_day())
    keys.load_or_generate(settings)
    ring = keys.load(settings)
    made = await moulds.make(settings, directory, datetime.now(UTC), variety=1)
    yield World(settings, Sealer(ring.current, ring.keys), made)


@pytest_asyncio.fixture
async def filled(world: World, database_url: str) -> Filled:
    return await fill.fill(database_url, SIZE, world.made, world.settings, world.sealer, datetime.now(UTC))


@pytest_asyncio.fixture
async def database(filled: Filled) -> AsyncIterator[Database]:
    database = Database(filled.url)
    yield database
    await database.close()


async def test_the_ledger_of_a_filled_database_holds_and_is_sealed(database: Database) -> None:
    found = await database.read(proof.verify)
    assert found.holds, str(found)
    assert found.postings > SIZE and found.unsealed == 0
    # Open are the payments that wait for their payout, and nothing else.
    assert found.open_item_count == await database.read(_count_with_status, "captured")


async def test_every_reference_of_a_filled_row_leads_somewhere(database: Database, filled: Filled) -> None:
    if not filled.url.startswith("sqlite"):
        return  # PostgreSQL checked each of them while it was filled
    assert await database.read(_broken_references) == []


async def test_events_are_without_gaps_and_in_the_feed_in_order_of_time(database: Database) -> None:
    told = await database.read(_events)
    sequences: dict[str, list[int]] = {}
    for row in told:
        sequences.setdefault(row.object_id, []).append(row.sequence)
    assert all(found == list(range(1, len(found) + 1)) for found in sequences.values())
    placed = sorted((row for row in told if row.position is not None), key=lambda row: row.position)
    assert [row.position for row in placed] == list(range(1, len(placed) + 1))
    dispatched = [row.dispatched_at for row in placed]
    assert dispatched == sorted(dispatched)
    assert len(told) - len(placed) == WAITING["unstarted"]


async def test_the_newest_event_shows_the_payment_as_it_stands(database: Database) -> None:
    for row, shown, answer in await database.read(_newest_events):
        snapshot = payments.snapshot(row)
        settled = {name for name in snapshot if snapshot[name] != shown[name]}
        assert settled <= {"quote", "provider", "updated_at"}, (row.id, row.status, settled)
        assert answer is None or json.loads(answer)["id"] == row.id


async def test_a_batch_adds_up_to_its_control_total(database: Database) -> None:
    for batch, total, count in await database.read(_batches):
        assert (batch.total_minor, batch.line_count) == (total, count)


async def test_a_sealed_webhook_opens_in_its_place_only(database: Database, world: World) -> None:
    row = await database.read(lambda connection: connection.execute(select(provider_events).limit(1)).one())
    opened = json.loads(world.sealer.open(row.body, inbox.place(row.id)))
    assert opened["data"]["object"]["id"] == row.provider_reference


async def test_half_of_all_payments_are_the_hot_merchants(database: Database, filled: Filled) -> None:
    assert 0.35 < await database.read(_count_of, filled.hot.id) / SIZE < 0.65


async def test_what_waits_is_what_was_left_waiting(database: Database) -> None:
    seen = await database.read(waiting.look, datetime.now(UTC))
    assert seen.reviews.count == WAITING["review"] + WAITING["unknown"]
    assert {name: queue.count for name, queue in seen.unknown_outcomes.items()} == {
        "stripe": WAITING["unknown"]
    }
    assert (seen.overdue_deliveries.count, seen.provider_events.count) == (0, 0)


async def test_a_filled_payment_is_settled_by_the_products_own_step(filled: Filled, world: World) -> None:
    wired, steps = steps_on(world.settings, filled.url, Clock(datetime.now(UTC)))
    row = await steps.database.read(_captured)
    await steps.report(row)
    await steps.settle(row)
    assert (await steps.database.read(payments.load, row.id)).status == "settled"
    assert (await steps.database.read(proof.verify)).holds
    await wired.close()


async def test_the_api_and_the_relay_read_it_and_payments_go_through_it(filled: Filled, world: World) -> None:
    said: list[str] = []
    async with reads.desks([filled], world.settings) as (desk,):
        made = await desk.get("/v1/payments", idempotency_key=desk.known.key)
        assert [one["id"] for one in made["data"]] == [desk.known.payment_id]
        found = await desk.get("/v1/payments", merchant_reference=desk.known.reference)
        assert [one["id"] for one in found["data"]] == [desk.known.payment_id]
        older = await desk.get("/v1/payments", starting_after=desk.known.cursor)
        assert older["data"][0]["id"] < desk.known.payment_id
        weighed = await reads.measure([desk], 1, said.append)
    assert {one.name for one in weighed} == set(reads.READS)
    weighed = await costs.measure([filled], world.settings, 1, said.append)
    assert {*costs.TRANSACTIONS, costs.WHOLE, costs.PROCESSOR} < {one.name for one in weighed}
    assert len(said) == 2


def _count_with_status(connection: Connection, status: str) -> int:
    query = select(func.count()).select_from(payment_table).where(payment_table.c.status == status)
    return connection.execute(query).scalar_one()


def _count_of(connection: Connection, merchant_id: str) -> int:
    query = select(func.count()).select_from(payment_table).join(merchants)
    return connection.execute(query.where(merchants.c.id == merchant_id)).scalar_one()


def _broken_references(connection: Connection) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.exec_driver_sql("PRAGMA foreign_key_check")]


def _events(connection: Connection) -> list[SimpleNamespace]:
    query = select(events, event_positions.c.position, event_positions.c.dispatched_at).outerjoin(
        event_positions
    )
    rows = connection.execute(query.order_by(events.c.object_id, events.c.sequence)).mappings()
    return [SimpleNamespace(**row) for row in rows]


def _newest_events(connection: Connection) -> list[tuple[payments.PaymentRow, dict[str, object], str | None]]:
    found = []
    for row in connection.execute(select(payment_table).limit(100)).all():
        newest = select(events.c.data).where(events.c.object_id == row.id, events.c.sequence == row.sequence)
        answer = select(idempotency_keys.c.body).where(idempotency_keys.c.resource_id == row.id)
        found.append((row, connection.execute(newest).scalar_one(), connection.execute(answer).scalar_one()))
    return found


def _batches(connection: Connection) -> list[tuple[SimpleNamespace, int, int]]:
    found = []
    for batch in connection.execute(select(settlement_batches)).mappings().all():
        lines = select(settlement_lines.c.body).where(settlement_lines.c.batch_id == batch["batch_id"])
        bodies = connection.execute(lines).scalars().all()
        found.append((SimpleNamespace(**batch), sum(body["net"]["minor"] for body in bodies), len(bodies)))
    assert found
    return found


def _captured(connection: Connection) -> payments.PaymentRow:
    query = select(payment_table).where(payment_table.c.status == "captured").limit(1)
    return connection.execute(query).one()
