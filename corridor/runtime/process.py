"""Child processes under supervision: started, watched, restarted with back-off, stopped without orphans.

One thread starts every child and lives until all have ended. That is not a matter of taste: Linux sends a
child its parent-death signal when the *thread* that forked it ends (prctl(2), PR_SET_PDEATHSIG).
"""

import contextlib
import ctypes
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 10.0
CANNOT_START_SECONDS = 1.0
STEADY_AFTER_SECONDS = 10.0
TICK_SECONDS = 0.05
MAX_EARLY_DEATHS = 3
_PR_SET_PDEATHSIG = 1


class ChildFailed(Exception):
    """A child could not be brought to readiness; the text carries the end of its log."""


@dataclass(frozen=True)
class Program:
    """How to run one child. `is_ready` is asked again and again until it says yes; it must return quickly."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    is_ready: Callable[[], bool]
    ready_file: Path | None = None


class Running(Protocol):
    """A process that was started; as of `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def kill(self) -> None: ...

    def terminate(self) -> None: ...


def launch(program: Program) -> Running:
    """Run the program as a child of the calling thread. Raises `OSError`."""
    with program.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 — our own argv, no shell
            program.argv,
            env=dict(program.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C is for the supervisor, which stops in order
            preexec_fn=die_with_parent,  # noqa: PLW1509 — one prepared system call, no locks
        )


Launch = Callable[[Program], Running]
"""How a program becomes a process. `wait` of what it returns raises `subprocess.TimeoutExpired`."""


class _Child:
    """The supervisor's view of one program. Touched by the supervisor's thread unless said otherwise."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: Running | None = None
        self.wanted = True
        self.deaths_in_a_row = 0
        self.started_at = 0.0
        self.not_before = 0.0
        self.was_ready = False
        self.killed_by_us = False

    @property
    def is_alive(self) -> bool:
        process = self.process  # read once: the supervisor's thread may clear it
        return process is not None and process.poll() is None


class Supervisor:
    """Keeps programs running. Its methods may be called from any thread."""

    def __init__(self, run_dir: Path, say: Callable[[str], None], launch: Launch = launch) -> None:
        self._run_dir = run_dir
        self._say = say
        self._launch = launch
        self._children: dict[str, _Child] = {}
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name="supervisor", daemon=True)

    def open(self) -> None:
        """Kill what an earlier supervisor left behind, then begin to watch."""
        self._run_dir.mkdir(parents=True, exist_ok=True)
        kill_leftovers(self._run_dir, self._say)
        self._thread.start()

    def add(self, program: Program) -> None:
        """Have `program` started and kept running from now on."""
        with self._lock:
            self._children[program.name] = _Child(program)

    def wait_ready(self, names: Iterable[str], timeout_seconds: float) -> None:
        """Return when all are ready. Raises `ChildFailed` for one that is late or dies again and again."""
        deadline = time.monotonic() + timeout_seconds
        waiting = [self._children[name] for name in names]
        while waiting := [child for child in waiting if not self._is_ready(child)]:
            late = waiting[0]
            if time.monotonic() > deadline:
                raise ChildFailed(_post_mortem(late.program, f"not ready after {timeout_seconds:.0f} s"))
            for child in waiting:
                if not child.was_ready and child.deaths_in_a_row >= MAX_EARLY_DEATHS:
                    raise ChildFailed(
                        _post_mortem(child.program, f"ended {child.deaths_in_a_row} times at start")
                    )
            time.sleep(TICK_SECONDS)

    def pid(self, name: str) -> int | None:
        """Process id of a child, None while it is down."""
        with self._lock:
            child = self._children[name]
            return child.process.pid if child.process is not None and child.is_alive else None

    def names(self) -> list[str]:
        """Names of all children, in the order they were added."""
        return list(self._children)

    def kill(self, name: str, pid: int | None = None) -> bool:
        """SIGKILL, as a crash would be; the child is started again after its back-off. False: it was down.

        With `pid` only that process is killed: a successor of it lives on, and the answer is False.
        """
        with self._lock:
            child = self._children[name]
            process = child.process if child.is_alive else None
            if process is not None and pid not in (None, process.pid):
                return False
            child.was_ready = False
            if process is None:
                return False
            child.killed_by_us = True
            process.kill()
            process.wait()
            return True

    def restart(self, name: str, grace_seconds: float = 6.0) -> None:
        """End the child politely, start it at once, return when the new one is ready."""
        self.stop([name], grace_seconds)
        with self._lock:
            self._children[name] = _Child(self._children[name].program)
        self.wait_ready([name], 20)

    def stop(self, names: Sequence[str], grace_seconds: float) -> None:
        """SIGTERM to all of them, SIGKILL to those still there after the grace; they stay down."""
        with self._lock:
            children = [self._children[name] for name in names]
            for child in children:
                child.wanted = False
                if child.process is not None and child.is_alive:
                    child.process.terminate()
        deadline = time.monotonic() + grace_seconds
        for child in children:
            self._end(child, deadline)

    def close(self) -> None:
        """Stop watching. Children still wanted are killed; the thread ends last."""
        self.stop(self.names(), grace_seconds=0)
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _end(self, child: _Child, deadline: float) -> None:
        process = child.process
        if process is not None:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"{child.program.name} did not stop in time: killed")
                process.kill()
                process.wait()
        self._pid_file(child.program.name).unlink(missing_ok=True)

    def _is_ready(self, child: _Child) -> bool:
        ready = child.is_alive and child.program.is_ready()
        child.was_ready = child.was_ready or ready
        return ready

    def _keep_running(self) -> None:
        while not self._closing.wait(TICK_SECONDS):
            with self._lock:
                for child in self._children.values():
                    try:
                        self._look_after(child)
                    except OSError as error:  # a full disk, no more processes: it passes or is put right
                        self._say(f"{child.program.name} cannot be started: {error}; trying again")
                        child.not_before = time.monotonic() + CANNOT_START_SECONDS

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None and not child.is_alive:
            self._bury(child, now)
        if child.wanted and child.process is None and now >= child.not_before:
            self._spawn(child, now)

    def _bury(self, child: _Child, now: float) -> None:
        assert child.process is not None  # noqa: S101 — narrows the type; the caller has checked
        code, child.process = child.process.wait(), None
        if not child.wanted:
            return
        steady = now - child.started_at > STEADY_AFTER_SECONDS
        if child.killed_by_us:
            child.deaths_in_a_row, child.killed_by_us = 0, False
        else:
            child.deaths_in_a_row = 1 if steady else child.deaths_in_a_row + 1
        pause = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** max(0, child.deaths_in_a_row - 1))
        child.not_before = now + pause
        self._say(f"{child.program.name} ended ({_reason(code)}); starting again in {pause:.1f} s")

    def _spawn(self, child: _Child, now: float) -> None:
        program = child.program
        program.log.parent.mkdir(parents=True, exist_ok=True)
        if program.ready_file is not None:
            program.ready_file.unlink(missing_ok=True)
        child.process = self._launch(program)
        child.started_at = now
        self._pid_file(program.name).write_text(json.dumps(_identity(child.process.pid)), "utf-8")

    def _pid_file(self, name: str) -> Path:
        return self._run_dir / f"{name}.pid"


# Looked up before any fork: in the child only the call itself remains.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Runs in the child between fork and exec. Elsewhere than on Linux the pid files do this work alone."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _identity(pid: int) -> dict[str, float]:
    """A pid alone is reused by the system; with its start time it names one process."""
    try:
        return {"pid": pid, "started": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:
        return {"pid": pid, "started": 0.0}


def kill_leftovers(run_dir: Path, say: Callable[[str], None]) -> None:
    """End children of a supervisor that was itself killed, recognised by pid *and* start time."""
    for path in sorted(run_dir.glob("*.pid")):
        with contextlib.suppress(ValueError, KeyError, psutil.NoSuchProcess, psutil.TimeoutExpired):
            recorded = json.loads(path.read_text("utf-8"))
            process = psutil.Process(int(recorded["pid"]))
            # A zombie has ended; where nothing reaps orphans (some containers) it stays visible.
            ended = process.status() == psutil.STATUS_ZOMBIE
            if not ended and abs(process.create_time() - recorded["started"]) < 0.02:
                say(f"ending {path.stem} (pid {process.pid}), left over from a run that was killed")
                process.kill()
                process.wait(5)
        path.unlink(missing_ok=True)


def _reason(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _post_mortem(program: Program, what: str) -> str:
    lines = program.log.read_text("utf-8", errors="replace").splitlines() if program.log.exists() else []
    return "\n".join(
        [f"{program.name}: {what}. End of {program.log}:", *(f"  {line}" for line in lines[-15:])]
    )
