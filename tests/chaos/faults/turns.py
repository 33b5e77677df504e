"""Who may strike when: most faults side by side, a few alone, because they take the whole installation away."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns:
    """Many at once, or one alone. Whoever wants to be alone is let in before those who come later."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.held_seconds = 0.0
        """How long those who were alone have kept the others out, in all."""
        self._free = asyncio.Condition()
        self._inside, self._is_alone = 0, False
        self._open = asyncio.Event()
        self._open.set()

    async def begin(self) -> bool:
        """Wait while somebody is alone, or wants to be: whether that was so. Being inside afterwards keeps nobody out."""
        is_late = not self._open.is_set()
        await self._open.wait()
        return is_late

    @contextlib.asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Inside with others; whoever wants to be alone waits for the end."""
        await self._open.wait()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            async with self._free:
                self._free.notify_all()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else begins from now on; inside when those who are have left."""
        async with self._free:
            await self._free.wait_for(lambda: not self._is_alone)
            self._is_alone, begun = True, self._clock()
            self._open.clear()
            await self._free.wait_for(lambda: not self._inside)
        try:
            yield
        finally:
            async with self._free:
                self._is_alone = False
                self.held_seconds += self._clock() - begun
                self._open.set()
                self._free.notify_all()


class Line:
    """Those who come late to one target: each at least so many seconds behind the one before.

    What an outage held back would otherwise strike all at once, which is one blow and not many.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._next = float("-inf")

    def wait(self) -> float:
        """Take the next place: so many seconds from now."""
        now = self._clock()
        mine = max(now, self._next)
        self._next = mine + self._seconds
        return mine - now


class Shared(Generic[T]):
    """Work that serves all who asked before it began: one runs, and those who come meanwhile share the next."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._lock = asyncio.Lock()
        self._asked = self._served = 0
        self._last: T | None = None

    async def done(self) -> T:
        """What the work returned that began after this was called. Raises what it raised, to whom it was for."""
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._last is None or self._served < mine:
                serves = self._asked
                self._last = await self._work()
                self._served = serves
            return self._last
