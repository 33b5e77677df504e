"""The sequencer: gives committed events their place in the merchant feed. One at a time, over all processes.

An event that commits late gets a later place than everything read so far, whatever its own time stamp says; that is
what lets readers page by position without ever skipping one.
"""

from sqlalchemy import Connection, select

from corridor.runtime.crash import crash_point
from corridor.storage import events
from corridor.storage.database import Database
from corridor.storage.relay_turns import Job, is_mine
from corridor.storage.tables import unpositioned_events

BATCH = 500


class Sequencer:
    """Places events that wait in the outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def turn(self) -> int:
        """Returns how many events were placed. Looks first, because on SQLite only one may write at a time."""
        if not await self._database.read(_is_waiting):
            return 0
        placed = await self._database.write(place, BATCH)
        crash_point("events.placed")
        return placed


def place(connection: Connection, limit: int) -> int:
    """Place up to `limit` events, unless another sequencer is at it."""
    return events.assign_positions(connection, limit) if is_mine(connection, Job.SEQUENCE_EVENTS) else 0


def _is_waiting(connection: Connection) -> bool:
    return connection.execute(select(unpositioned_events.c.event_id).limit(1)).first() is not None
