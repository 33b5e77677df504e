"""Processes killed with SIGKILL (F1 to F4) and stopped in mid-work (F5)."""

import asyncio
import contextlib
import time
from typing import Protocol

import psutil

APPEARS_WITHIN_SECONDS = 20.0
LOOK_SECONDS = 0.1


class Processes(Protocol):
    """What a fault needs of whoever runs the processes."""

    def pid(self, name: str) -> int | None:
        """Process id, None while it is down."""
        ...

    def kill(self, name: str) -> None:
        """SIGKILL; whoever runs it starts it again."""
        ...


async def kill(running: Processes, name: str) -> tuple[bool, str]:
    """Kill a process that is up, waiting for one that is coming up: (it was killed, which)."""
    process = await _alive(running, name)
    if process is None:
        return False, "was not up"
    await asyncio.to_thread(running.kill, name)
    return True, f"pid {process.pid}"


async def pause(running: Processes, name: str, seconds: float) -> tuple[bool, str]:
    """Stop a process for some seconds. It may be killed meanwhile: that is a fault of its own."""
    process = await _alive(running, name)
    if process is None:
        return False, "was not up"
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()
        try:
            await asyncio.sleep(seconds)
        finally:
            process.resume()
    return True, f"pid {process.pid} for {seconds} s"


async def _alive(running: Processes, name: str) -> psutil.Process | None:
    """psutil knows a process by its start time too: a number that the system gave away again is not mistaken for it."""
    deadline = time.monotonic() + APPEARS_WITHIN_SECONDS
    while time.monotonic() < deadline:
        pid = running.pid(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            if pid is not None:
                return psutil.Process(pid)
        await asyncio.sleep(LOOK_SECONDS)
    return None
