"""One direction of a connection: bytes go on in their order, at once or late, and wait while the pipe is frozen."""

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random

from tests.chaos.proxy.fault import Fault, FaultKind

MOST_QUEUED_BYTES = 256 * 1024
SLICES_PER_SECOND = 20


class Pipe:
    """From one transport to another. What cannot leave yet is held, and the source is read no further."""

    def __init__(self, loop: asyncio.AbstractEventLoop, random: Random) -> None:
        self._loop = loop
        self._random = random
        self._source: asyncio.Transport | None = None
        self._sink: asyncio.Transport | None = None
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queued_bytes = 0
        self._last_due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_frozen = False
        self._sink_is_full = False
        self._at_end: Callable[[], None] | None = None

    def attach(
        self, *, source: asyncio.Transport | None = None, sink: asyncio.Transport | None = None
    ) -> None:
        """Either end, when it is connected."""
        self._source = source or self._source
        self._sink = sink or self._sink
        self._pump()

    def send(self, data: bytes, shape: Fault | None = None) -> None:
        """Pass the bytes on, behind everything sent before."""
        if self._sink is not None and not self._queue and shape is None and not self._is_frozen:
            _put(self._sink, data)
            return
        for due, part in self._shaped(data, shape):
            self._queue.append((due, part))
            self._queued_bytes += len(part)
            self._last_due = due
        self._pump()

    def freeze(self) -> None:
        self._is_frozen = True
        self._balance()

    def thaw(self) -> None:
        self._is_frozen = False
        self._pump()

    def sink_full(self, is_full: bool) -> None:
        """The sink's own buffer is full, or has room again."""
        self._sink_is_full = is_full
        self._balance()

    def finish(self, at_end: Callable[[], None]) -> None:
        """Call this when everything has left."""
        self._at_end = at_end
        self._pump()

    def discard(self) -> None:
        """Nothing that is held will leave any more."""
        self._queue.clear()
        self._queued_bytes = 0
        if self._timer is not None:
            self._timer.cancel()

    def _shaped(self, data: bytes, shape: Fault | None) -> list[tuple[float, bytes]]:
        now = max(self._loop.time(), self._last_due)
        if shape is None:
            return [(now, data)]
        if shape.kind is FaultKind.THROTTLE:
            rate = shape.bytes_per_second
            size = max(1, rate // SLICES_PER_SECOND)
            ends = [min(start + size, len(data)) for start in range(0, len(data), size)]
            return [(now + end / rate, data[index * size : end]) for index, end in enumerate(ends)]
        share = self._random.random() if shape.kind is FaultKind.JITTER else 1.0
        due = self._loop.time() + share * shape.milliseconds / 1000
        return [(max(due, self._last_due), data)]

    def _pump(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sink is not None and not self._is_frozen:
            self._write_what_is_due(self._sink)
        self._balance()
        if not self._queue and self._at_end is not None:
            at_end, self._at_end = self._at_end, None
            at_end()

    def _write_what_is_due(self, sink: asyncio.Transport) -> None:
        now = self._loop.time()
        while self._queue and self._queue[0][0] <= now:
            _, data = self._queue.popleft()
            self._queued_bytes -= len(data)
            _put(sink, data)
        if self._queue:
            self._timer = self._loop.call_at(self._queue[0][0], self._pump)

    def _balance(self) -> None:
        if self._source is None or self._source.is_closing():
            return
        if self._is_frozen or self._sink_is_full or self._queued_bytes > MOST_QUEUED_BYTES:
            self._source.pause_reading()
        else:
            self._source.resume_reading()


def _put(sink: asyncio.Transport, data: bytes) -> None:
    """A peer that has reset its connection takes nothing more, and asyncio would warn of each further write."""
    if not sink.is_closing():
        sink.write(data)
