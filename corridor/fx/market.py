"""The market day: the calendar day that counts as today when a reference rate's age is measured."""

from dataclasses import dataclass
from datetime import UTC, date, datetime


@dataclass(frozen=True)
class Market:
    """`fixed_day` replays a published day (demo, tests) and is named in every quote; None is the real day.

    A rate's age is always measured against `day()`, so an old file on a real day is refused, and a fixed day
    excuses nothing: its own Sunday still looks back to Friday and is refused past the limit.
    """

    fixed_day: date | None = None

    def day(self, now: datetime) -> date:
        """The market day at `now` (time zone aware)."""
        return self.fixed_day or now.astimezone(UTC).date()
