"""A payment's events are counted by its row: every change writes exactly one, whether the status changed or not."""

from collections.abc import Sequence
from datetime import datetime, timedelta

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


def test_an_event_told_again_later_has_the_id_it_had_and_another_event_has_not(sqlite_database: str) -> None:
    """The database came back older: what a merchant was told before then must be known by its id."""
    engine = sync_engine(sqlite_database)
    with engine.connect() as connection:
        row = rows.payment(connection, rows.merchant(connection))
        connection.commit()

        def told(event_type: str, at: datetime) -> str:
            """The id of the event, taken back."""
            payments.move(connection, row, event_type, at, provider="stripe")
            query = select(events.c.id).where(
                events.c.object_id == row.id, events.c.sequence == row.sequence + 1
            )
            event_id = connection.execute(query).scalar_one()
            connection.rollback()
            return str(event_id)

        first = told("payment.captured", rows.NOW)
        assert told("payment.captured", rows.NOW + timedelta(hours=1)) == first
        assert told("payment.canceled", rows.NOW) != first
    engine.dispose()
