"""Worker and API processes beside one installation, each armed at crash points of its own."""

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import MappingProxyType

import httpx
from temporalio.client import Client
from temporalio.service import RPCError

from corridor.runtime import crash
from corridor.runtime.ports import free_ports
from corridor.runtime.settings import Settings
from tests.chaos.forking import fork
from workflows import names

READY_SECONDS = 120
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass
class Process:
    """One process and its log; `url` is an API's."""

    points: tuple[str, ...]
    log: Path
    ready: Path
    forked: ForkServerProcess = field(repr=False)
    url: str = ""

    def left(self) -> list[str]:
        """The points it is armed at and has not met."""
        return [point for point in self.points if not self.fired(point)]

    def fired(self, point: str) -> bool:
        return f"crash point {point}:" in self.log.read_text("utf-8", errors="replace")

    async def status(self) -> int | None:
        """How it ended: a signal is negative; None while it lives on."""
        await asyncio.to_thread(self.forked.join, 5)
        return self.forked.exitcode

    async def is_ready(self) -> bool:
        """It does its work, or it is dead."""
        if not self.forked.is_alive():
            return True
        if not self.url:
            return self.ready.exists()
        try:
            async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
                return (await client.get(f"{self.url}/readyz")).is_success
        except httpx.HTTPError:
            return False


class Processes:
    """Starts what `python -m workers` and `python -m api` start, on the installation's database and Temporal."""

    def __init__(self, settings: Settings, temporal: str, directory: Path) -> None:
        # The builds of a deployment outlive a test on the Temporal that all tests share.
        self._settings = settings.model_copy(update={"worker_versioning": False})
        self._temporal = temporal
        self._directory = directory
        self.all: list[Process] = []

    def worker(
        self, points: Sequence[str] = (), action: str = "", environment: Mapping[str, str] = _NOTHING
    ) -> Process:
        return self._start("workers", points, action, environment)

    def api(
        self, points: Sequence[str] = (), action: str = "", environment: Mapping[str, str] = _NOTHING
    ) -> Process:
        (port,) = free_ports(1)
        process = self._start("api", points, action, {"CORRIDOR_API_PORT": str(port), **environment})
        process.url = f"http://{self._settings.host}:{port}"
        return process

    def _start(
        self, module: str, points: Sequence[str], action: str, environment: Mapping[str, str]
    ) -> Process:
        name = f"{module}-{len(self.all)}"
        log, ready = self._directory / f"{name}.log", self._directory / f"{name}.ready"
        log.touch()
        armed = {crash.VARIABLE: ",".join(points), "CORRIDOR_CRASH_DO": action} if points else {}
        own = {
            "TEMPORAL_ADDRESS": self._temporal,
            "CORRIDOR_READY_FILE": str(ready),
            "CORRIDOR_METRICS_PORT": "0",
        }
        whole = {**os.environ, **self._settings.environment(), **own, **armed, **environment}
        process = Process(tuple(points), log, ready, fork(module, whole, log, log.parent))
        self.all.append(process)
        return process

    async def all_ready(self) -> None:
        """Every process that lives does its work."""
        async with asyncio.timeout(READY_SECONDS):
            for one in self.all:
                while not await one.is_ready():
                    await asyncio.sleep(0.1)

    async def leave(self, client: Client) -> None:
        """Stop, and take along what the workers began on a server that others go on using: imports and their schedule."""
        await self.stop()
        await client.get_schedule_handle("settlement-stripe").delete()
        async for left in client.list_workflows(
            f'WorkflowType = "{names.SETTLEMENT}" AND ExecutionStatus = "Running"'
        ):
            with contextlib.suppress(RPCError):  # it may have ended meanwhile
                await client.get_workflow_handle(left.id, run_id=left.run_id).terminate("its world is gone")

    async def stop(self) -> None:
        for one in self.all:
            one.forked.kill()
        for one in self.all:
            await one.status()
            one.forked.close()
