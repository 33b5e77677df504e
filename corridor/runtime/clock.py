"""Whether the clock of this machine agrees with the database's, the one clock every process of ours can ask.

What one process writes as a deadline, another reads: the end of an FX lock, a lease, a capture window. By a clock that is
an hour ahead every liquidity offer has run out and sales are lost; by one that is behind a rate is used when it is over.
Measured is the machine's clock: the setting that sets ours wrong, in the sandbox, is meant to be seen through.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import Connection

from corridor.runtime import metrics
from corridor.storage import clock as database_clock
from corridor.storage.database import Database, DatabaseUnavailable

log = structlog.get_logger(__name__)


class ClockApart(Exception):
    """This machine's clock and the database's are further apart than the installation allows."""


def machine_clock() -> datetime:
    """The time as this machine has it."""
    return datetime.now(UTC)


async def ahead(database: Database, clock: Callable[[], datetime] = machine_clock) -> timedelta:
    """How far `clock` is ahead of the database's (negative: behind), less what the question's own time may explain.

    Zero on SQLite, which is a file on this machine. Raises `DatabaseUnavailable`.
    """
    asked = clock()
    told = await database.read(_now)
    if told is None:
        return timedelta(0)
    surely_ahead, surely_behind = asked - told, told - clock()
    return surely_ahead if surely_ahead > timedelta(0) else -max(surely_behind, timedelta(0))


async def require_agreement(
    database: Database, limit_seconds: float, clock: Callable[[], datetime] = machine_clock
) -> None:
    """Before a process takes any work. Raises `ClockApart`; a database that is away now is asked again later."""
    try:
        apart = await measure(database, limit_seconds, clock)
    except DatabaseUnavailable:
        log.warning("the database's clock could not be asked")
        return
    if apart is not None:
        raise ClockApart(apart)


async def measure(
    database: Database, limit_seconds: float, clock: Callable[[], datetime] = machine_clock
) -> str | None:
    """Measure once, for the gauge too; what to say of clocks that are too far apart, or None."""
    seconds = (await ahead(database, clock)).total_seconds()
    metrics.clock_ahead(seconds)
    if abs(seconds) <= limit_seconds:
        return None
    which = "ahead of" if seconds > 0 else "behind"
    return (
        f"this machine's clock is {abs(seconds):.1f} s {which} the database's, more than the {limit_seconds:g} s of "
        f"clock_apart_limit_seconds: FX locks and deadlines would be judged wrongly. Put it right (NTP)"
    )


def _now(connection: Connection) -> datetime | None:
    if connection.dialect.name != "postgresql":
        return None
    return database_clock.read(connection)
