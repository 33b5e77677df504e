"""Replay in parallel: several processes, each with one replay worker, over the code at hand or another revision's.

Python runs one history at a time in a process, so the processes are what makes use of the machine. The code to replay
against is whatever a process is started before; a revision is unpacked from git into a directory that goes away.
"""

import asyncio
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from corridor.runtime import replay
from corridor.runtime.build import SOURCE
from corridor.runtime.histories import Run, Unopened
from corridor.runtime.replay import Replayed, Verdict
from corridor.runtime.settings import Settings

LINE_LIMIT_BYTES = 16 * 1024 * 1024


class CodeUnusable(Exception):
    """The code to replay against cannot be had or does not start; the message is what was said last."""


@dataclass
class Outcome:
    """All verdicts, which code gave them, and how long it took."""

    code: str
    replayed: list[Replayed] = field(default_factory=list)
    seconds: float = 0.0
    """Of replaying: from the first process that was ready, because starting one takes the same for any number."""

    @property
    def counts(self) -> dict[str, int]:
        """How many of each verdict; every verdict is named, also where there was none."""
        counted = Counter(result.verdict for result in self.replayed)
        return {str(verdict): counted[verdict] for verdict in Verdict}

    @property
    def misfits(self) -> list[Replayed]:
        return [it for it in self.replayed if it.verdict not in (Verdict.FITS, Verdict.SKIPPED)]

    @property
    def per_second(self) -> float:
        return len(self.replayed) / self.seconds if self.seconds else 0.0

    def document(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "histories": len(self.replayed),
            "counts": self.counts,
            "seconds": round(self.seconds, 2),
            "per_second": round(self.per_second, 1),
            "misfits": [asdict(result) for result in self.misfits],
        }


async def replay_in_parallel(
    runs: AsyncIterable[Run | Unopened],
    settings: Settings,
    source: Path = SOURCE,
    jobs: int | None = None,
    *,
    sandboxed: bool = False,
) -> Outcome:
    """Every history against the code under `source`. Raises `CodeUnusable`.

    Unsandboxed by default, as the workers run that serve payments; the sandbox takes about three times as long and
    finds only what a test of the same code finds.
    """
    outcome, ready = Outcome(str(source)), list[float]()
    waiting: asyncio.Queue[Run | None] = asyncio.Queue(maxsize=16)
    processes = jobs or os.cpu_count() or 1

    async def feed() -> None:
        async for run in runs:
            if isinstance(run, Unopened):
                sealed = Replayed(run.workflow_id, run.run_id, Verdict.NOT_REPLAYABLE, str(run))
                outcome.replayed.append(sealed)
            else:
                await waiting.put(run)
        for _ in range(processes):
            await waiting.put(None)

    async def work() -> None:
        async with _process(settings, source, sandboxed=sandboxed) as process:
            ready.append(time.monotonic())
            while (run := await waiting.get()) is not None:
                outcome.replayed.append(await process.judge(run))

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            for _ in range(processes):
                group.create_task(work())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    outcome.seconds = time.monotonic() - ready[0]
    return outcome


@dataclass
class _Process:
    process: asyncio.subprocess.Process
    errors: Any

    async def judge(self, run: Run) -> Replayed:
        self._input().write(replay.told_line(run.history, run.run_id))
        return replay.read_line(await self.answer())

    async def answer(self) -> bytes:
        try:
            await self._input().drain()
            line = await self._output().readline()
        except ConnectionError:
            line = b""
        if not line:
            raise CodeUnusable(await self._last_words())
        return line

    def _input(self) -> asyncio.StreamWriter:
        assert self.process.stdin is not None  # noqa: S101 (asked for as a pipe)
        return self.process.stdin

    def _output(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None  # noqa: S101 (asked for as a pipe)
        return self.process.stdout

    async def _last_words(self) -> str:
        code = await self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().splitlines()
        return said[-1] if said else f"the process ended with {code} and said nothing"


@asynccontextmanager
async def _process(settings: Settings, source: Path, *, sandboxed: bool) -> AsyncIterator[_Process]:
    """A process that replays against `source`; gone when the block is left."""
    environment = {**os.environ, **settings.environment(), "PYTHONPATH": str(source)}
    # -P: the directory of the program holds modules whose names would hide those of the standard library.
    command = [sys.executable, "-P", replay.__file__, *(["--sandboxed"] if sandboxed else [])]
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=environment,
            limit=LINE_LIMIT_BYTES,
        )
        try:
            opened = _Process(process, errors)
            await opened.answer()
            yield opened
        finally:
            if process.stdin is not None:
                process.stdin.close()
            if process.returncode is None:
                process.kill()
            await process.wait()


@contextmanager
def revision(name: str, repository: Path = SOURCE) -> Iterator[Path]:
    """The source as it is in a git revision, in a directory of its own. Raises `CodeUnusable`."""
    with tempfile.TemporaryDirectory(prefix="corridor-revision-") as directory:
        packed = Path(directory) / "source.tar"
        command = ["git", "-C", str(repository), "archive", "--format=tar", f"--output={packed}", name]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)  # noqa: S603 (our own repository)
        except FileNotFoundError:
            raise CodeUnusable("git is not installed, so no other revision can be had") from None
        except subprocess.CalledProcessError as failed:
            raise CodeUnusable(f"no revision {name}: {failed.stderr.decode().strip()}") from None
        source = Path(directory) / "source"
        with tarfile.open(packed) as archive:
            archive.extractall(source, filter="data")
        yield source
