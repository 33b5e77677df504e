"""The provider watch: asks each provider for a sign of life, so that an outage is known before a buyer meets it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from corridor.providers.port import LookUpFailed
from corridor.providers.registry import Registry
from corridor.runtime import metrics
from corridor.storage import outages
from corridor.storage.database import Database
from corridor.storage.outages import Cause

PING_SECONDS = 3.0
"""A provider that takes longer for its cheapest answer will not carry out a payment in time either."""
FAILURES = 2
"""Pings in a row without an answer; a single lost one is no outage."""
KEEP_OUT = timedelta(seconds=15)
"""Several turns, so that an outage outlives a worker that is restarted."""

log = structlog.get_logger(__name__)


class ProviderWatch:
    """One per worker process; all of them note the same outage, and one that has an answer contradicts the others."""

    def __init__(self, database: Database, providers: Registry, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._providers = providers
        self._clock = clock
        self._failures: Counter[str] = Counter()

    async def turn(self) -> int:
        """Returns how many are down."""
        said_down = await self._database.read(outages.standing, self._clock(), Cause.UNREACHABLE)
        await asyncio.gather(*(self._look(name, name in said_down) for name in self._providers.names))
        return sum(count >= FAILURES for count in self._failures.values())

    async def _look(self, name: str, is_said_down: bool) -> None:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._providers[name].ping()
        except (LookUpFailed, TimeoutError) as failed:
            self._failures[name] += 1
            if self._failures[name] >= FAILURES:
                await self._note_down(name, str(failed) or f"no answer within {PING_SECONDS:.0f} s")
            return
        if self._failures.pop(name, 0) >= FAILURES:
            await self._database.write(outages.end, name, Cause.UNREACHABLE)
            log.info("provider answers again", provider=name)
        elif is_said_down and await self._database.write(
            outages.contradict, name, Cause.UNREACHABLE, self._clock()
        ):
            log.warning("another process finds no way to a provider that answers this one", provider=name)
        metrics.provider_down(False, name)

    async def _note_down(self, name: str, detail: str) -> None:
        now = self._clock()
        await self._database.write(outages.note, name, Cause.UNREACHABLE, detail, now, now + KEEP_OUT)
        metrics.provider_down(True, name)
        if self._failures[name] == FAILURES:
            log.warning(
                "provider does not answer; new payments for it are refused", provider=name, detail=detail
            )
