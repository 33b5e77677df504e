"""The door's knowledge of providers: which of them new work must not be accepted for now."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from api.problems import Problem
from corridor.storage import outages
from corridor.storage.database import Database

FRESH_SECONDS = 1.0


class Outages:
    """A copy of the outages on record, at most a second old when it is asked for."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._standing: Mapping[str, datetime] = {}
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Read them again if the copy is old. Raises `DatabaseUnavailable`."""
        if time.monotonic() - self._read_at > FRESH_SECONDS:
            self._standing = await self._database.read(outages.standing, self._clock())
            self._read_at = time.monotonic()

    def require_one(self, providers: Iterable[str]) -> None:
        """Raises `Problem` (503, Retry-After) when none of those that could do it can be reached.

        Nobody at all is no outage: that refusal has a code of its own.
        """
        waits = [self._wait_seconds(provider) for provider in providers]
        if waits and all(seconds > 0 for seconds in waits):
            raise Problem(
                "unavailable",
                "the payment provider does not answer at the moment; nothing was accepted and nothing was changed. "
                "Repeat with the same key",
                headers={"Retry-After": str(math.ceil(min(waits)))},
            )

    def _wait_seconds(self, provider: str) -> float:
        until = self._standing.get(provider)
        return 0.0 if until is None else (until - self._clock()).total_seconds()
