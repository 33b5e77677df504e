"""A loop of a process: take a turn, pause, take the next; an error is logged and the turn tried again later."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from corridor.runtime import metrics

T = TypeVar("T")

_log = structlog.get_logger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
LAST_BACKOFF_SECONDS = 30.0


@dataclass(frozen=True)
class Loop:
    """`turn` moves some rows and returns how many. While it finds work the loop pauses shortly, else ever longer."""

    name: str
    turn: Callable[[], Awaitable[int]]
    busy_seconds: float
    idle_seconds: float


async def keep_turning(loop: Loop, stop: asyncio.Event) -> None:
    """Run until `stop`; a turn under way is finished. Only cancellation ends it otherwise."""
    pause, failures = loop.busy_seconds, 0
    while not stop.is_set():
        try:
            moved = await loop.turn()
        except Exception:  # noqa: BLE001 — whatever it was, it is logged, counted and tried again; no loop may die
            failures += 1
            pause = min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(failures - 1, 10))
            metrics.turn_failed(loop.name)
            _log.exception("relay turn failed", loop=loop.name, failures=failures, retry_in_seconds=pause)
        else:
            failures = 0
            pause = loop.busy_seconds if moved else min(loop.idle_seconds, pause * 2)
        await _pause(stop, pause)


async def each(items: Iterable[T], act: Callable[[T], Awaitable[None]]) -> None:
    """`act` on every item, whatever became of the others; then raise what failed, together."""
    failures: list[Exception] = []
    for item in items:
        try:
            await act(item)
        except Exception as error:  # noqa: BLE001 — raised below, after the others had their turn
            failures.append(error)
    if failures:
        raise ExceptionGroup(f"{len(failures)} failed", failures)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
