"""An installation whose workers come and go: the stack as `corridor up` starts it, workers as processes of our own."""

import asyncio
import contextlib
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import psutil
from sqlalchemy import Connection

from api import credentials
from benchmarks.contenders import AMOUNT, CAPTURED
from benchmarks.rounds import percentile
from corridor.domain.ids import Prefix, new_id
from corridor.runtime import client as temporal_client
from corridor.runtime import temporal_server
from corridor.runtime.process import Program, Supervisor
from corridor.runtime.settings import Settings
from corridor.runtime.stack import Stack
from corridor.storage import merchants
from corridor.storage.database import Database
from corridor.storage.merchants import NewMerchant

READY_SECONDS = 60.0
GRACE_SECONDS = 8.0
SETTLED_IN_SECONDS = 3.0
"""What a worker that came or went takes until every poll finds it."""


@dataclass
class Stand:
    """The stack without workers of its own, and the keys of its merchants."""

    settings: Settings
    stack: Stack
    supervisor: Supervisor
    api_keys: Sequence[str]

    def add_worker(self, name: str, module: str = "workers", **environment: str) -> int:
        """Start a worker; returns its process id once it is ready."""
        ready_file = self.settings.data_dir / "run" / f"{name}.ready"
        own = self.settings.model_copy(update={"ready_file": ready_file, "worker_takes_over": True})
        namespace = temporal_client.namespace(self.settings)
        temporal = temporal_server.own_environment(self.settings, namespace)
        program = Program(
            name=name,
            argv=[sys.executable, "-m", module],
            environment={**os.environ, **own.environment(), **temporal, **environment},
            log=self.settings.data_dir / "logs" / f"{name}.log",
            is_ready=ready_file.exists,
            ready_file=ready_file,
        )
        self.supervisor.add(program)
        self.supervisor.wait_ready([name], READY_SECONDS)
        time.sleep(SETTLED_IN_SECONDS)
        return self.supervisor.pid(name) or 0

    def remove_worker(self, name: str) -> None:
        self.supervisor.stop([name], GRACE_SECONDS)
        time.sleep(SETTLED_IN_SECONDS)

    def processes(self, workers: Sequence[str]) -> dict[str, psutil.Process]:
        """Who may use the processor, the caller included."""
        pids: dict[str, int | None] = {name: self.stack.pid(name) for name in ("temporal", "sandbox", "api")}
        pids |= {name: self.supervisor.pid(name) for name in workers}
        pids["caller"] = os.getpid()
        return {name: psutil.Process(pid) for name, pid in pids.items() if pid is not None}


@contextlib.contextmanager
def standing(settings: Settings, merchant_count: int, say: Callable[[str], None]) -> Iterator[Stand]:
    """Everything but workers, on free ports, with so many merchants; all of it ends with the block."""
    with Stack(settings, say=say, only=("sandbox", "codec", "api")) as stack:
        keys = asyncio.run(_people(settings, merchant_count))
        supervisor = Supervisor(settings.data_dir / "crew", say)
        supervisor.open()
        try:
            yield Stand(settings, stack, supervisor, keys)
        finally:
            supervisor.stop(supervisor.names(), GRACE_SECONDS)
            supervisor.close()


async def _people(settings: Settings, count: int) -> list[str]:
    database = Database(settings.database)
    keys = await database.write(_seed, settings, count, datetime.now(UTC))
    await database.close()
    return keys


def _seed(connection: Connection, settings: Settings, count: int, now: datetime) -> list[str]:
    found = []
    for number in range(count):
        new = NewMerchant(
            id=new_id(Prefix.MERCHANT, now), name=f"Shop {number}", country="CN", settle_currency="CNY"
        )
        text, key = credentials.mint(
            merchant_id=new.id, role="merchant", mode="test", pepper=settings.api_key_pepper, now=now
        )
        merchants.seed(connection, new, key, now)
        found.append(text)
    return found


@dataclass
class Heat:
    """Payments posted over HTTP: how long each waited for its answer, how long all took, whose processor it was."""

    seconds: list[float] = field(default_factory=list)
    busy_seconds: float = 0.0
    later: int = 0
    """Answered 202: not captured within the deadline."""
    processor: Counter[str] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.busy_seconds

    def as_data(self) -> dict[str, Any]:
        ordered = sorted(self.seconds)
        each = {name: round(1000 * used / len(ordered), 1) for name, used in sorted(self.processor.items())}
        return {
            "payments": len(ordered),
            "answered_later": self.later,
            "per_second": round(self.per_second, 2),
            "answer_p50_ms": round(1000 * statistics.median(ordered)),
            "answer_p95_ms": round(1000 * percentile(ordered, 95)),
            "cpu_ms_each": each,
        }


def drive(
    stand: Stand, heat: Heat, count: int, in_flight: int, api_keys: Sequence[str], workers: Sequence[str] = ()
) -> None:
    """Post `count` payments, `in_flight` at once, over these merchants in turn."""
    processes = stand.processes(workers)
    before = _used(processes)
    asyncio.run(_drive(stand.settings.api_address, heat, count, in_flight, api_keys))
    heat.processor.update({name: used - before[name] for name, used in _used(processes).items()})


def _used(processes: Mapping[str, psutil.Process]) -> dict[str, float]:
    return {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}


async def _drive(address: str, heat: Heat, count: int, in_flight: int, api_keys: Sequence[str]) -> None:
    waiting = iter(range(count))

    async def one_after_another(http: httpx.AsyncClient) -> None:
        for number in waiting:
            await _pay(http, heat, api_keys[number % len(api_keys)])

    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits, trust_env=False) as http:
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(one_after_another(http))
        heat.busy_seconds += time.perf_counter() - begun


async def _pay(http: httpx.AsyncClient, heat: Heat, api_key: str) -> None:
    token = new_id(Prefix.REQUEST, datetime.now(UTC))
    body = {
        "amount": {"minor": AMOUNT.minor, "currency": AMOUNT.currency},
        "payment_method": {"type": "card", "provider_token": "pm_card_visa", "fingerprint": token},
        "buyer": {"country": "DE"},
    }
    begun = time.perf_counter()
    headers = {"Authorization": f"Bearer {api_key}", "Idempotency-Key": token}
    answer = await http.post("/v1/payments", json=body, headers=headers)
    heat.seconds.append(time.perf_counter() - begun)
    if answer.status_code != CAPTURED:
        answer.raise_for_status()
        heat.later += 1
