"""Memory, tasks and descriptors of one worker that carries payment after payment: nothing may grow beyond its cache.

Every payment is left waiting for its settlement, as real ones are for days: its workflow stays in the worker's cache
until newer ones push it out. Growth is given per thousand payments, before the cache is full and after; the latter is
what a run of any length is judged by.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.scale import watched_worker
from benchmarks.scale.stand import Heat, drive, standing
from corridor.runtime.settings import Settings

MERCHANTS = 8
IN_FLIGHT = 8
STEPS = 12
"""Samples are taken between so many equal parts of the run, when nothing is in flight."""
QUIET_SECONDS = 4.0
# "blocks" are what Python itself has allocated: where these stand still, growth is the allocator's or native code's.
HELD = ("megabytes", "blocks", "tasks", "descriptors", "threads")


def measure(settings: Settings, count: int, cached: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Carry `count` payments through one worker that caches `cached` workflows."""
    samples = settings.data_dir / "samples.jsonl"
    with standing(settings, MERCHANTS, say) as stand:
        environment = {watched_worker.SAMPLES: str(samples), watched_worker.CACHED: str(cached)}
        stand.add_worker("worker-1", "benchmarks.scale.watched_worker", **environment)
        drive(stand, Heat(), 2 * IN_FLIGHT, IN_FLIGHT, stand.api_keys)  # imports, pools, compiled statements
        heat = Heat()
        held = [{"payments": 0, **_newest(samples)}]
        for number in range(1, STEPS + 1):
            done = len(heat.seconds)
            drive(stand, heat, count * number // STEPS - done, IN_FLIGHT, stand.api_keys, ["worker-1"])
            held.append({"payments": len(heat.seconds), **_newest(samples)})
            say(f"{len(heat.seconds)} payments, {held[-1]['megabytes']:.0f} MB")
    return {"cached_workflows": cached, "samples": held, **_growth(held, cached), **heat.as_data()}


def _newest(samples: Path) -> dict[str, float]:
    """The worker at rest."""
    time.sleep(QUIET_SECONDS)
    line: dict[str, float] = json.loads(samples.read_text("utf-8").splitlines()[-1])
    return {name: line[name] for name in HELD}


def _growth(held: list[dict[str, float]], cached: int) -> dict[str, Any]:
    """What each figure grew by for a thousand payments, before and after the cache was full (None: no such part).

    Pools fill up for some time after the cache did, so the later half of what came then is given by itself.
    """
    full = [sample for sample in held if sample["payments"] >= cached]
    return {
        "growth_while_cache_fills": _slope([sample for sample in held if sample["payments"] <= cached]),
        "growth_with_full_cache": _slope(full),
        "growth_in_the_later_half": _slope(full[len(full) // 2 :]),
    }


def _slope(part: list[dict[str, float]]) -> dict[str, float] | None:
    payments = part[-1]["payments"] - part[0]["payments"] if part else 0
    if not payments:
        return None
    return {name: round(1000 * (part[-1][name] - part[0][name]) / payments, 1) for name in HELD}
