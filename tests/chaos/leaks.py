"""What must not be left behind: descriptors, tasks and memory that only grow (I17), and secrets on disk (I16).

Idle processes are compared at the start and in the end. A run kills most of them long before, so each is also looked at
just before its death, in the middle of its work: what it holds goes up and down with its work, and must not go up with
its age.
"""

import itertools
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil

from api.cli.audit.proofs import Proof, proof

MORE_DESCRIPTORS = 48
MORE_THREADS = 72
"""Pools grow when there is work and stay: one thread per workflow task at once (50), SQLite's, asyncio's own."""
MORE_MEMORY_MB = 400
MORE_TASKS = 48
WARM_AFTER_SECONDS = 5.0
"""Younger, a process still fills its pools."""
LEAST_LIVES = 12
"""Of fewer, nobody can tell growth from chance."""
_CHUNK = 1 << 20
_TASKS = re.compile(r"^corridor_asyncio_tasks(?:\{.*\})? (\S+)$", re.MULTILINE)


_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Sample:
    """One process at one moment. `tasks`: None where there is no event loop of ours, or it does not answer."""

    pid: int
    descriptors: int
    threads: int
    memory_mb: int
    tasks: int | None = None
    age_seconds: float = 0.0


def sample(pids: Mapping[str, int | None], tasks: Mapping[str, int] = _NOTHING) -> dict[str, Sample]:
    """Descriptors, threads and resident memory of each process that is up, and its tasks as it counts them itself."""
    seen = {name: of(pid, tasks.get(name)) for name, pid in pids.items() if pid is not None}
    return {name: it for name, it in seen.items() if it is not None}


def of(pid: int, tasks: int | None = None) -> Sample | None:
    """One process; None when it is gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            memory, age = process.memory_info().rss >> 20, time.time() - process.create_time()
            return Sample(pid, process.num_fds(), process.num_threads(), memory, tasks, age)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return None


def tasks_told(page: str) -> int | None:
    """The number of tasks on a page for Prometheus."""
    found = _TASKS.search(page)
    return round(float(found[1])) if found else None


def nothing_grows_with_age(lives: Mapping[str, Sequence[Sample]]) -> Proof:
    """`lives`: each process as it was just before it was killed.

    What a process holds follows its work, so two samples say little; the median of the slopes between all of them is
    moved by what grows with age alone. Over the longest life that was seen, it may explain no more than pools do.
    """
    against, notes = [], []
    for name, samples in sorted(lives.items()):
        warm = [it for it in samples if it.age_seconds >= WARM_AFTER_SECONDS]
        if len(warm) < LEAST_LIVES:
            notes.append(f"{name}: {len(warm)} lives are too few to tell")
            continue
        span = max(it.age_seconds for it in warm) - min(it.age_seconds for it in warm)
        for what, more, count in _HELD:
            if (name, what) in _AT_REST_ONLY:
                continue
            held = [(it.age_seconds, found) for it in warm if (found := count(it)) is not None]
            grown = _slope(held) * span
            notes.append(f"{name}: {grown:+.0f} {what} in {span:.0f} s of life")
            if grown > more:
                against.append(f"{name} holds {grown:.0f} more {what} after {span:.0f} s of life")
    looked_at = sum(map(len, lives.values()))
    return proof("no process holds more the longer it lives", looked_at, "lives", against, notes)


def _slope(points: Sequence[tuple[float, int]]) -> float:
    """Growth in a second, by Theil and Sen."""
    slopes = [
        (held - before) / (age - younger)
        for (younger, before), (age, held) in itertools.combinations(sorted(points), 2)
        if age - younger >= 1.0
    ]
    return statistics.median(slopes) if slopes else 0.0


_HELD: tuple[tuple[str, int, Callable[[Sample], int | None]], ...] = (
    ("descriptors", MORE_DESCRIPTORS, lambda it: it.descriptors),
    ("threads", MORE_THREADS, lambda it: it.threads),
    ("megabytes", MORE_MEMORY_MB, lambda it: it.memory_mb),
    ("tasks", MORE_TASKS, lambda it: it.tasks),
)


_AT_REST_ONLY = {("api", "tasks"), ("temporal", "megabytes")}
"""A request that waits is a task: after a restart they grow with the callers that come back, up to the limit of callers.
Temporal keeps what it has served: an export of ten thousand histories is half a gigabyte of its caches.
"""


def nothing_grew(before: Mapping[str, Sample], after: Mapping[str, Sample]) -> Proof:
    """Both samples are of idle processes: at the start, and when everything is quiet again.

    Pools and caches fill up, so a process may hold somewhat more than in its first second; a leak is without bound.
    """
    against = []
    for name in before.keys() & after.keys():
        first, last = before[name], after[name]
        found = [(what, count(first), count(last), more) for what, more, count in _HELD]
        against += [
            f"{name}: {a} {what} became {b}"
            for what, a, b, more in found
            if a is not None and b is not None and b > a + more
        ]
    missing = [f"{name} is not up" for name in before.keys() - after.keys()]
    notes = [f"{name}: {it.descriptors} descriptors, {it.threads} threads, {it.memory_mb} MB"
             + ("" if it.tasks is None else f", {it.tasks} tasks")
             for name, it in sorted(after.items())]  # fmt: skip
    return proof("no process holds on to descriptors, threads, tasks or memory", len(after), "processes",
                 [*missing, *against], notes)  # fmt: skip


def secrets_are_nowhere(canaries: Mapping[str, str], directories: Iterable[Path]) -> Proof:
    """The bytes of every file below the directories are searched: databases, logs, histories, write-ahead logs."""
    files = [path for directory in directories for path in sorted(directory.rglob("*")) if path.is_file()]
    needles = {name: text.encode() for name, text in canaries.items()}
    against = [f"{name} is in {path}" for path in files for name in _found_in(path, needles)]
    return proof("no card number or secret reached a file", len(files), "files", against)


def _found_in(path: Path, needles: Mapping[str, bytes]) -> set[str]:
    found: set[str] = set()
    overlap = max(map(len, needles.values()))
    with path.open("rb") as file:
        kept = b""
        while chunk := file.read(_CHUNK):
            window = kept + chunk
            found |= {name for name, needle in needles.items() if needle in window}
            kept = window[-overlap:]
    return found
