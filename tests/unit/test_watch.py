"""What operators are alerted by: the figures a collector reads are those of the rows."""

from datetime import timedelta

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from corridor.domain.effect import EffectState
from corridor.domain.ids import Prefix, new_id
from corridor.domain.payment import StatusReason
from corridor.runtime import metrics
from corridor.storage import effects, reviews
from corridor.storage.database import Database
from corridor.storage.tables import effects as effect_table
from tests.unit import relay_rows as rows
from workers.relay import watch
from workers.relay.watch import Watch


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    """Reads the gauges as an exporter does; the process-wide meter is left alone."""
    found = InMemoryMetricReader()
    meter = MeterProvider([found]).get_meter("test")
    for module, names in (
        (metrics, ("_unknown", "_unknown_age", "_reviews", "_review_age")),
        (watch, ("_inbox", "_inbox_age", "_overdue", "_overdue_age", "_unplaced")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, meter.create_gauge(name.strip("_")))
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
        "inbox": 1, "inbox_age": 90.0, "overdue": 0, "overdue_age": 0.0, "unplaced": 1,
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
