"""A payment's events are counted by its row: every change writes exactly one, whether the status changed or not."""

from collections.abc import Sequence

import pytest
from sqlalchemy import select

from corridor.domain.payment import Status
from corridor.storage import payments
from corridor.storage.database import sync_engine
from corridor.storage.tables import events
from tests.unit import relay_rows as rows


@pytest.mark.parametrize(
    "changes",
    [
        [Status.AUTHORIZED, Status.CAPTURED],
        [None, Status.AUTHORIZED, None, Status.CAPTURED, None, None],
    ],
    ids=["every one a new status", "some without"],
)
def test_every_change_has_its_event_and_the_sequence_no_gap(
    sqlite_database: str, changes: Sequence[Status | None]
) -> None:
    engine = sync_engine(sqlite_database)
    with engine.begin() as connection:
        row = rows.payment(connection, rows.merchant(connection))
        for to in changes:
            row = payments.move(connection, row, "payment.changed", rows.NOW, to=to, provider="stripe")
        numbers = connection.execute(
            select(events.c.sequence).where(events.c.object_id == row.id).order_by(events.c.sequence)
        )
        assert list(numbers.scalars()) == list(range(1, row.sequence + 1))
    engine.dispose()
    assert row.sequence == 1 + len(changes)
