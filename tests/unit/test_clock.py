"""Clocks that disagree with the database's are noticed before any work is taken, and by how much is said."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

import pytest

from corridor.runtime import clock
from corridor.runtime.clock import ClockApart, machine_clock
from corridor.storage.database import Database


@pytest.fixture
async def postgres(postgres_database: str) -> AsyncIterator[Database]:
    database = Database(postgres_database)
    yield database
    await database.close()


def _off_by(seconds: float) -> Callable[[], datetime]:
    return lambda: machine_clock() + timedelta(seconds=seconds)


@pytest.mark.parametrize("seconds", [3_600, -86_400])
async def test_how_far_a_clock_is_off(postgres: Database, seconds: int) -> None:
    apart = await clock.ahead(postgres, _off_by(seconds))
    assert abs(apart - timedelta(seconds=seconds)) < timedelta(seconds=30), (
        "the question's own time is taken off"
    )


async def test_clocks_that_agree_are_not_apart(postgres: Database) -> None:
    """One machine, one clock: whatever the question takes explains the difference."""
    assert abs(await clock.ahead(postgres)) < timedelta(milliseconds=1)
    await clock.require_agreement(postgres, 0.001)


@pytest.mark.parametrize(("seconds", "says"), [(3_600, "s ahead of the"), (-60, "s behind the")])
async def test_a_process_whose_clock_is_far_off_does_not_start(
    postgres: Database, seconds: int, says: str
) -> None:
    with pytest.raises(
        ClockApart, match=f"{says} database's, more than the 5 s of clock_apart_limit_seconds"
    ):
        await clock.require_agreement(postgres, 5, _off_by(seconds))


async def test_sqlite_is_on_this_machine(sqlite_database: str) -> None:
    database = Database(sqlite_database)
    await clock.require_agreement(database, 5, _off_by(3_600))
    await database.close()


async def test_a_database_that_is_away_keeps_nobody_from_starting() -> None:
    """The API and the workers outlast a database that is away, at their start as later."""
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    await clock.require_agreement(database, 5)
    await database.close()
