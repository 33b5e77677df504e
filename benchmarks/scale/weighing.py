"""Samples of one thing measured in several databases, and the verdict: is it flat, is it quick?"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.rounds import percentile

FLAT = 1.2
QUICK_MS = 100.0


@dataclass
class Weighed:
    """Seconds by size of the database."""

    name: str
    seconds: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    work: dict[int, int] = field(default_factory=dict)
    """Steps of the database's machine, where they can be counted: what noise does not touch."""

    def p50_ms(self, size: int) -> float:
        return 1000 * statistics.median(self.seconds[size])

    def p95_ms(self, size: int) -> float:
        return 1000 * percentile(sorted(self.seconds[size]), 95)

    def undisturbed_ms(self, size: int) -> float:
        """The lower quartile: what else the machine does only ever adds."""
        return 1000 * percentile(sorted(self.seconds[size]), 25)

    @property
    def ratio(self) -> float:
        """Lower quartile in the largest database over that in the smallest."""
        sizes = sorted(self.seconds)
        return self.undisturbed_ms(sizes[-1]) / self.undisturbed_ms(sizes[0])

    @property
    def work_ratio(self) -> float | None:
        sizes = sorted(self.work)
        return self.work[sizes[-1]] / self.work[sizes[0]] if sizes else None

    @property
    def is_flat(self) -> bool:
        """By the steps where they were counted, else by the times."""
        return (self.ratio if self.work_ratio is None else self.work_ratio) <= FLAT

    @property
    def is_quick(self) -> bool:
        return max(self.p95_ms(size) for size in self.seconds) <= QUICK_MS

    def as_data(self) -> dict[str, Any]:
        by_size = {
            str(size): {
                "p25_ms": round(self.undisturbed_ms(size), 2),
                "p50_ms": round(self.p50_ms(size), 2),
                "p95_ms": round(self.p95_ms(size), 2),
            }
            for size in sorted(self.seconds)
        }
        work = self.work_ratio
        return {
            "by_size": by_size,
            "ratio": round(self.ratio, 2),
            "work_ratio": None if work is None else round(work, 2),
            "flat": self.is_flat,
            "quick": self.is_quick,
            "samples": min(map(len, self.seconds.values())),
        }


def as_data(weighed: Iterable[Weighed]) -> Mapping[str, Any]:
    return {one.name: one.as_data() for one in weighed}
