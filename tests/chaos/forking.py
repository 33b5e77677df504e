"""Corridor's processes, forked from one that has imported everything, so that a killed one is back in a moment.

A run kills hundreds of processes and a sweep starts dozens. On two busy cores the imports of each would take longer than
all that is tested, and what a run would measure is how long Python takes to start.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from corridor.runtime.build import SOURCE
from corridor.runtime.process import Program, Running, die_with_parent, launch

LOOK_SECONDS = 0.02
STARTS = (
    "API and workers are forked from a process that has imported their code, so a killed one is back sooner than by"
    " its own imports; Temporal and PostgreSQL start as usual"
)
"""For the record of a run."""

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    [
        "workers.wiring", "workers.fleet", "workers.relay.relay", "workers.schedules", "workers.builds.keeper",
        "api.server", "api.gateway", "api.codec_server",
    ]
)  # fmt: skip
# Not the sandbox: what it names objects with is seeded when it is imported, and must differ after every start.


def fork(
    module: str, environment: Mapping[str, str], log: Path, directory: Path | None = None
) -> ForkServerProcess:
    """What `python -m module` does, with this environment and its output in the log."""
    forked = _FORKING.Process(target=_run, args=(module, dict(environment), log, directory), daemon=True)
    forked.start()
    return forked


def launch_quickly(program: Program) -> Running:
    """Forked where the program is a module of this source tree; any other is started as usual."""
    dash_m = [sys.executable, "-P", "-m"]
    first = program.environment.get("PYTHONPATH", "").partition(os.pathsep)[0]
    if list(program.argv[:-1]) != dash_m or first != str(SOURCE):
        return launch(program)
    return _Forked(fork(program.argv[-1], program.environment, program.log))


class _Forked:
    """A forked process with the manners of `subprocess.Popen`; for any thread."""

    def __init__(self, forked: ForkServerProcess) -> None:
        self._forked = forked
        # Whoever hears of the end first keeps the status; a second reader at the same time would hear nothing.
        self._reading = threading.Lock()

    @property
    def pid(self) -> int:
        pid = self._forked.pid
        assert pid is not None, "it was started"
        return pid

    def poll(self) -> int | None:
        with self._reading:
            return self._forked.exitcode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(self._forked.name, timeout or 0.0)
            time.sleep(LOOK_SECONDS)
        return code

    def kill(self) -> None:
        self._forked.kill()

    def terminate(self) -> None:
        self._forked.terminate()


def _run(module: str, environment: Mapping[str, str], log: Path, directory: Path | None) -> None:
    die_with_parent()
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    if directory is not None:
        os.chdir(directory)
    with log.open("ab") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
