"""What must not be left behind: descriptors and memory that only grow (I17), and secrets on disk (I16)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from api.cli.audit.proofs import Proof, proof

MORE_DESCRIPTORS = 48
MORE_THREADS = 72
"""Pools grow when there is work and stay: one thread per workflow task at once (50), SQLite's, asyncio's own."""
MORE_MEMORY_MB = 400
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Sample:
    """One process at one quiet moment."""

    pid: int
    descriptors: int
    threads: int
    memory_mb: int


def sample(pids: Mapping[str, int | None]) -> dict[str, Sample]:
    """Descriptors, threads and resident memory of each process that is up."""
    found = {}
    for name, pid in pids.items():
        if pid is not None and psutil.pid_exists(pid):
            process = psutil.Process(pid)
            memory = process.memory_info().rss >> 20
            found[name] = Sample(pid, process.num_fds(), process.num_threads(), memory)
    return found


def nothing_grew(before: Mapping[str, Sample], after: Mapping[str, Sample]) -> Proof:
    """Both samples are of idle processes: at the start, and when everything is quiet again.

    Pools and caches fill up, so a process may hold somewhat more than in its first second; a leak is without bound.
    """
    against = []
    for name in before.keys() & after.keys():
        first, last = before[name], after[name]
        limits = (
            ("descriptors", first.descriptors, last.descriptors, MORE_DESCRIPTORS),
            ("threads", first.threads, last.threads, MORE_THREADS),
            ("megabytes", first.memory_mb, last.memory_mb, MORE_MEMORY_MB),
        )
        against += [f"{name}: {a} {what} became {b}" for what, a, b, more in limits if b > a + more]
    missing = [f"{name} is not up" for name in before.keys() - after.keys()]
    notes = [f"{name}: {it.descriptors} descriptors, {it.threads} threads, {it.memory_mb} MB"
             for name, it in sorted(after.items())]  # fmt: skip
    return proof("no process holds on to descriptors, threads or memory", len(after), "processes",
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
