"""Interleaved rounds: every contender in turn, alone and with many in flight, so that noise hits all of them."""

import asyncio
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contenders import Answered, Contender, WrongAnswer

IN_FLIGHT = (1, 8, 32)


@dataclass(frozen=True)
class Plan:
    """How many rounds, and how many of each contender at each load of `IN_FLIGHT`."""

    rounds: int
    counts: tuple[int, int, int]


@dataclass
class Heat:
    """All rounds of one contender at one load."""

    answers: list[Answered] = field(default_factory=list)
    busy_seconds: float = 0.0
    cpu_seconds: Counter[str] = field(default_factory=Counter)
    """By process, while this contender ran; unlike times on the clock, hardly moved by what else the machine does."""
    wrong: list[str] = field(default_factory=list)
    """What was answered otherwise than captured, e.g. when no liquidity provider kept its deadline."""

    @property
    def milliseconds(self) -> list[float]:
        return sorted(1000 * answered.seconds for answered in self.answers)

    def as_data(self) -> dict[str, Any]:
        starts = sorted(1000 * answered.start_seconds for answered in self.answers)
        return {
            "payments": len(self.answers),
            "not_captured": len(self.wrong),
            "answer_p50_ms": round(statistics.median(self.milliseconds), 1),
            "answer_p99_ms": round(percentile(self.milliseconds, 99), 1),
            "start_p50_ms": round(statistics.median(starts), 1),
            "completed_per_second": round(len(self.answers) / self.busy_seconds, 1),
            "cpu_ms_each": {
                name: round(1000 * seconds / len(self.answers), 1)
                for name, seconds in self.cpu_seconds.items()
                if seconds > 0
            },
        }


Heats = dict[str, dict[int, Heat]]


def percentile(ordered: Sequence[float], which: int) -> float:
    """Nearest rank, so that a tail is a time somebody waited."""
    return ordered[max(0, -(-len(ordered) * which // 100) - 1)]


Meter = Callable[[], Mapping[str, float]]
"""CPU seconds used so far, by process."""


async def race(
    contenders: Sequence[Contender], plan: Plan, meter: Meter, say: Callable[[str], None]
) -> Heats:
    """Drive every contender through every load, `plan.rounds` times; the order turns from round to round."""
    heats: Heats = {contender.name: defaultdict(Heat) for contender in contenders}
    for contender in contenders:
        await _drive(contender, 8, 4, Heat())  # warm: caches, pollers, connection pools
    for number in range(plan.rounds):
        turned = [*contenders[number % len(contenders) :], *contenders[: number % len(contenders)]]
        for load, count in zip(IN_FLIGHT, plan.counts, strict=True):
            say(f"round {number + 1} of {plan.rounds}, {load} in flight")
            for contender in turned:
                heat, before = heats[contender.name][load], meter()
                await _drive(contender, count, load, heat)
                heat.cpu_seconds.update({name: used - before[name] for name, used in meter().items()})
    return heats


async def _drive(contender: Contender, count: int, in_flight: int, heat: Heat) -> None:
    """Start `count` of them, `in_flight` at once, each carried to its end."""
    waiting = iter(range(count))

    async def one_after_another() -> None:
        for _ in waiting:
            try:
                answered = await contender.answer()
            except WrongAnswer as wrong:
                heat.wrong.append(str(wrong))
            else:
                heat.answers.append(answered)
                await contender.finish(answered)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(one_after_another())
    heat.busy_seconds += time.perf_counter() - begun
