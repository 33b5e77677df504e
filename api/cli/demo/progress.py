"""What the person at the terminal sees meanwhile: live bars on a terminal, a plain line now and then elsewhere."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from api.cli.demo.drive import Market

LOOK_SECONDS = 0.25
PLAIN_LINE_SECONDS = 5.0


class Screen:
    """All talk of the demo, on stderr; used as a context."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._bars: Progress | None = None
        if self._console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:<20}"),
                BarColumn(bar_width=40),
                MofNCompleteColumn(),
                TextColumn("{task.fields[aside]}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
        self._tasks: dict[str, TaskID] = {}
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str) -> None:
        """One line that stays, with the seconds since the start."""
        line = f"{time.monotonic() - self._begun:6.1f} s  {text}"
        if self._bars is not None:
            self._console.print(line, markup=False)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def show(self, what: str, done: int, total: int, aside: str = "") -> None:
        """Where `what` stands now: moves its bar, or says so if the last plain line is some seconds old."""
        if self._bars is None:
            if time.monotonic() - self._shown_at >= PLAIN_LINE_SECONDS:
                self._shown_at = time.monotonic()
                self.say(f"{what}: {done} of {total}{f', {aside}' if aside else ''}")
            return
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, aside="")
        self._bars.update(self._tasks[what], completed=done, total=total, aside=aside)

    @contextlib.asynccontextmanager
    async def watching(self, market: Market, order_count: int) -> AsyncIterator[None]:
        """Show the orders' progress while the block runs."""
        watch = asyncio.create_task(self._watch(market, order_count))
        try:
            yield
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _watch(self, market: Market, order_count: int) -> None:
        while True:
            self.show("orders answered", market.answered, order_count, f"{market.in_flight} in flight")
            if self._bars is not None:
                self.show("orders at their end", market.over, order_count)
            await asyncio.sleep(LOOK_SECONDS)


Say = Callable[[str], None]
