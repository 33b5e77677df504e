"""Patience with Temporal, which may be away for a moment, and of a process with its own turns when it ends."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
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


class Stopped(Exception):
    """The process was told to stop before this came to its end."""


async def until_answered(
    what: str, ask: Callable[[], Awaitable[T]], stop: asyncio.Event, first_pause_seconds: float = 0.5
) -> T:
    """The answer of the first try that has one: a server that is busy or away is asked again, not died of.

    Raises what no waiting mends, and `Stopped` as soon as `stop` is set, in the middle of a try too.
    """
    log.debug("waits for temporal", what=what)
    async with ended_by(stop):
        pause = first_pause_seconds
        while not stop.is_set():
            try:
                return await ask()
            except (RPCError, TimeoutError, RuntimeError) as error:
                if not may_pass(error):
                    raise
                log.warning(
                    "temporal did not answer; asked again", what=what, error=str(error), seconds=pause
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
    raise Stopped


@contextlib.asynccontextmanager
async def ended_by(stop: asyncio.Event, grace_seconds: float = 0.0) -> AsyncIterator[None]:
    """What still runs in the block `grace_seconds` after `stop` is cancelled. Raises `Stopped` then."""

    async def watch(limit: asyncio.Timeout) -> None:
        await stop.wait()
        limit.reschedule(asyncio.get_running_loop().time() + grace_seconds)

    limit = asyncio.timeout(None)
    try:
        async with limit:
            watching = asyncio.create_task(watch(limit))
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError:
        if not limit.expired():
            raise
        raise Stopped from None


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
