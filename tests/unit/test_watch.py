"""What operators are alerted by: the figures a collector reads are those of the rows."""

from datetime import timedelta
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from sqlalchemy import Connection, event

from corridor.domain.effect import EffectState
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.payment import Status, StatusReason
from corridor.domain.settlement import SettlementBatch
from corridor.runtime import metrics
from corridor.storage import effects, reviews, settlement, waiting
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.tables import effects as effect_table
from corridor.storage.tables import payments
from tests.unit import relay_rows as rows
from workers.relay.watch import Watch

GAUGES = (
    "unknown", "unknown_age", "reviews", "review_age", "inbox", "inbox_age", "inbox_late", "overdue", "overdue_age",
    "unplaced", "unsettled", "unsettled_age", "unbalanced", "watched",
)  # fmt: skip


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    """Reads the gauges as an exporter does; the process-wide meter is left alone."""
    found = InMemoryMetricReader()
    meter = MeterProvider([found]).get_meter("test")
    for name in GAUGES:
        monkeypatch.setattr(metrics, f"_{name}", meter.create_gauge(name))
    return found


def read(reader: InMemoryMetricReader) -> dict[str, float]:
    data = reader.get_metrics_data()
    assert data is not None
    found = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        (point,) = metric.data.data_points
        assert isinstance(point, NumberDataPoint)
        found[metric.name] = point.value
    return found


async def test_an_unknown_outcome_and_a_review_are_shown_with_their_age(
    database: Database, reader: InMemoryMetricReader
) -> None:
    payment = await database.write(rows.payment, await database.write(rows.merchant))
    key = await database.write(rows.effect, payment, EffectState.UNKNOWN)
    await database.write(
        lambda connection: reviews.open_review(
            connection,
            review_id=new_id(Prefix.REVIEW, rows.NOW),
            payment_id=payment.id,
            object_id=payment.id,
            merchant_id=payment.merchant_id,
            reason=StatusReason.OUTCOME_UNKNOWN,
            evidence={},
            now=rows.NOW,
        )
    )
    await database.write(rows.provider_event)
    looking = Watch(database, lambda: rows.NOW + timedelta(seconds=90))
    await looking.turn()
    assert read(reader) == {
        "unknown": 1, "unknown_age": 90.0, "reviews": 1, "review_age": 90.0,
        "inbox": 1, "inbox_age": 90.0, "inbox_late": 90.0, "overdue": 0, "overdue_age": 0.0, "unplaced": 1,
        "unsettled": 0, "unsettled_age": 0.0, "unbalanced": 0,
        "watched": (rows.NOW + timedelta(seconds=90)).timestamp(),
    }  # fmt: skip
    await database.write(
        lambda connection: connection.execute(
            effect_table.update().where(effect_table.c.key == key).values(state=EffectState.APPROVED)
        )
    )
    assert (await database.read(effects.get, key)).state == EffectState.APPROVED
    await looking.turn()
    seen = read(reader)
    assert (seen["unknown"], seen["unknown_age"]) == (0, 0.0), "a resolved outcome is reported as gone"


async def test_captured_money_that_is_not_paid_out_in_time_is_shown_and_so_is_a_payout_that_does_not_add_up(
    database: Database, reader: InMemoryMetricReader
) -> None:
    merchant = await database.write(rows.merchant)
    late, early, paid = [
        await database.write(rows.captured, await database.write(rows.payment, merchant)) for _ in range(3)
    ]
    due = {late.id: rows.NOW, early.id: rows.NOW + timedelta(days=1), paid.id: rows.NOW}

    def set_up(connection: Connection) -> None:
        for payment_id, settle_by in due.items():
            connection.execute(
                payments.update().where(payments.c.id == payment_id).values(settle_by=settle_by)
            )
        connection.execute(payments.update().where(payments.c.id == paid.id).values(status=Status.SETTLED))
        batch = SettlementBatch(
            batch_id="po_1", status="paid", total=Money(100, "EUR"), arrives_at=rows.NOW, created_at=rows.NOW
        )
        settlement.know_batch(connection, "stripe", batch)
        assert not settlement.close(connection, "stripe", "po_1", rows.NOW), "no row of it was imported"

    await database.write(set_up)
    await Watch(database, lambda: rows.NOW + timedelta(hours=1)).turn()
    seen = read(reader)
    assert (seen["unsettled"], seen["unsettled_age"], seen["unbalanced"]) == (1, 3600.0, 1)


async def test_a_database_that_cannot_be_asked_leaves_the_time_of_the_last_success(
    database: Database, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = rows.NOW
    looking = Watch(database, lambda: at)
    await looking.turn()
    at = rows.LATER

    async def down(*_: object) -> None:
        raise DatabaseUnavailable("ConnectionRefusedError")

    monkeypatch.setattr(database, "read", down)
    with pytest.raises(DatabaseUnavailable):
        await looking.turn()
    assert read(reader)["watched"] == rows.NOW.timestamp()


async def test_counting_the_overdue_reads_an_index_of_them_alone(sqlite_database: str) -> None:
    database = Database(sqlite_database)
    plans: list[str] = []

    def look(connection: Connection) -> None:
        @event.listens_for(connection, "before_execute", retval=False)
        def _(_: Connection, statement: Any, *__: object) -> None:
            if "payments" in str(statement) and "settle_by" in str(statement):
                plans.append(
                    str(statement.compile(connection.engine, compile_kwargs={"literal_binds": True}))
                )

        waiting.look(connection, rows.NOW)
        (query,) = plans
        plans[:] = [str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]

    try:
        await database.read(look)
    finally:
        await database.close()
    assert "ix_payments_settling" in str(plans)
