"""Processes killed with SIGKILL (F1 to F4) and stopped in mid-work (F5)."""

import asyncio
import contextlib
import time
from typing import Protocol

import psutil

APPEARS_WITHIN_SECONDS = 20.0
LOOK_SECONDS = 0.1
WORKS_AFTER_SECONDS = 1.0
"""Younger, a process has done nothing that its death could interrupt."""


class Processes(Protocol):
    """What a fault needs of whoever runs the processes."""

    def pid(self, name: str) -> int | None:
        """Process id, None while it is down."""
        ...

    def kill(self, name: str, pid: int) -> bool:
        """SIGKILL to this process of that name, which is started again. False: it was gone already."""
        ...


async def kill(running: Processes, name: str) -> tuple[bool, str]:
    """Kill a process that works, waiting for one that is coming up: (it was killed by this, which)."""
    process = await _at_work(running, name)
    if process is None:
        return False, "was not up"
    if not await asyncio.to_thread(running.kill, name, process.pid):
        return False, f"pid {process.pid} was gone already"
    return True, f"pid {process.pid}"


async def pause(running: Processes, name: str, seconds: float) -> tuple[bool, str]:
    """Stop a process for some seconds. It may be killed meanwhile: that is a fault of its own, and the note says so."""
    process = await _at_work(running, name)
    if process is None:
        return False, "was not up"
    try:
        process.suspend()
    except psutil.NoSuchProcess:
        return False, f"pid {process.pid} was gone already"
    note = f"pid {process.pid} for {seconds} s"
    try:
        await asyncio.sleep(seconds)
    finally:
        try:
            process.resume()
        except psutil.NoSuchProcess:
            note += ", killed meanwhile"
    return True, note


async def _at_work(running: Processes, name: str) -> psutil.Process | None:
    """psutil knows a process by its start time too: a number that the system gave away again is not mistaken for it."""
    deadline = time.monotonic() + APPEARS_WITHIN_SECONDS
    while time.monotonic() < deadline:
        pid = running.pid(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            if pid is not None and _age(process := psutil.Process(pid)) >= WORKS_AFTER_SECONDS:
                return process
        await asyncio.sleep(LOOK_SECONDS)
    return None


def _age(process: psutil.Process) -> float:
    return time.time() - float(process.create_time())
