"""Tells open streams that their merchant has new events: one poll of the database per process, not per client."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

import structlog
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.events import last_position
from corridor.storage.tables import event_positions

PAUSE_AFTER_TROUBLE_SECONDS = 2.0
LOOKED_AT_ONCE = 1_000

log = structlog.get_logger(__name__)


class Feed:
    """Watches the feed's end while anybody listens. Woken streams read their own events."""

    def __init__(self, database: Database, poll_seconds: float) -> None:
        self._database = database
        self._poll_seconds = poll_seconds
        self._listeners: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._somebody = asyncio.Event()
        self._seen: int | None = None
        self.stopping = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The poll loop lives as long as the application."""
        task = asyncio.create_task(self._watch(), name="event feed")
        try:
            yield
        finally:
            self.stopping.set()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @contextlib.contextmanager
    def listening(self, merchant_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the merchant's feed has grown; the listener clears it before it reads."""
        grown = asyncio.Event()
        self._listeners[merchant_id].add(grown)
        self._somebody.set()
        try:
            yield grown
        finally:
            self._listeners[merchant_id].discard(grown)
            if not self._listeners[merchant_id]:
                del self._listeners[merchant_id]
            if not self._listeners:
                self._somebody.clear()

    async def _watch(self) -> None:
        """Lives through any trouble of the database: nobody starts it again, and every stream depends on it."""
        while True:
            if not self._somebody.is_set():
                self._seen = None
            await self._somebody.wait()
            try:
                grown = await self._look()
            except (DatabaseUnavailable, SQLAlchemyError) as error:
                log.warning("event feed cannot be read", error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE_SECONDS)
                continue
            for merchant_id in grown:
                for event in self._listeners.get(merchant_id, ()):
                    event.set()
            await asyncio.sleep(self._poll_seconds)

    async def _look(self) -> set[str]:
        """Merchants whose feed has grown since the last look; at the first one everybody's, for nobody knows."""
        if self._seen is None:
            self._seen = await self._database.read(last_position)
            return set(self._listeners)
        grown = await self._database.read(_grown, self._seen)
        self._seen = grown[-1][1] if grown else self._seen
        return {merchant_id for merchant_id, _ in grown}


def _grown(connection: Connection, seen: int) -> list[tuple[str, int]]:
    """(merchant, position) of the next events after `seen`; those behind are for the next look."""
    query = (
        select(event_positions.c.merchant_id, event_positions.c.position)
        .where(event_positions.c.position > seen)
        .order_by(event_positions.c.position)
        .limit(LOOKED_AT_ONCE)
    )
    return [(merchant_id, position) for merchant_id, position in connection.execute(query)]


def bounds(connection: Connection) -> tuple[int, int]:
    """(oldest position kept, newest position given); (1, 0) for an empty feed."""
    # Apart, each is one step at an end of the index; asked for together they walk all of it.
    oldest = connection.execute(select(func.min(event_positions.c.position))).scalar_one()
    return (oldest or 1, last_position(connection))
