"""Patience with Temporal: a server that is busy or away for a moment is asked again, not died of."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from temporalio.service import RPCError, RPCStatusCode

T = TypeVar("T")

LONGEST_PAUSE_SECONDS = 5.0
AWAY_SECONDS, AWAY_PAUSE_SECONDS = 60.0, 0.5
"""How long a server may be away in the middle of a run over many objects, and how often it is asked meanwhile."""
_PASSES = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.UNKNOWN,
    }
)

log = structlog.get_logger(__name__)


async def until_answered(what: str, ask: Callable[[], Awaitable[T]], first_pause_seconds: float = 0.5) -> T:
    """The answer of the first try that has one. Raises what no waiting mends; ends early only by cancellation."""
    pause = first_pause_seconds
    while True:
        try:
            return await ask()
        except (RPCError, TimeoutError, RuntimeError) as error:
            if not may_pass(error):
                raise
            log.warning("temporal did not answer; asked again", what=what, error=str(error), seconds=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


async def while_away(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, from a server that may go away in the middle of a long run: waited for, so nothing begins anew.

    Raises what no waiting mends, and the last error of a server that stays away longer than `AWAY_SECONDS`.
    """
    deadline = time.monotonic() + AWAY_SECONDS
    while True:
        try:
            return await ask()
        except RPCError as error:
            if not may_pass(error) or time.monotonic() > deadline:
                raise
        await asyncio.sleep(AWAY_PAUSE_SECONDS)


def may_pass(error: Exception) -> bool:
    """Whether waiting may mend it. The client says only in words that it found nobody to connect to (`RuntimeError`)."""
    if isinstance(error, RPCError):
        return error.status in _PASSES
    return isinstance(error, TimeoutError) or "connect" in str(error).lower()
