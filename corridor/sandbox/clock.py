"""The sandbox's time: the machine's clock plus an offset that the control API may only move forward."""

import time


class Clock:
    """Every deadline of the sandbox is read from here, so a test can cross seven days in one call."""

    def __init__(self, offset_milliseconds: int = 0) -> None:
        self.offset_milliseconds = offset_milliseconds

    def milliseconds(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000 + self.offset_milliseconds

    def seconds(self) -> int:
        """Unix time in whole seconds, as Stripe writes it."""
        return self.milliseconds() // 1000

    def advance(self, seconds: int) -> None:
        """Move time forward; moving it back would un-expire what has expired."""
        if seconds < 0:
            raise ValueError("sandbox time only moves forward")
        self.offset_milliseconds += seconds * 1000
