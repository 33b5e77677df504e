"""Patience with Temporal at start-up: a server that is busy or away for a moment is asked again, not died of."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from temporalio.service import RPCError, RPCStatusCode

T = TypeVar("T")

LONGEST_PAUSE_SECONDS = 5.0
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


def may_pass(error: Exception) -> bool:
    """Whether waiting may mend it. The client says only in words that it found nobody to connect to (`RuntimeError`)."""
    if isinstance(error, RPCError):
        return error.status in _PASSES
    return isinstance(error, TimeoutError) or "connect" in str(error).lower()
