"""The embedded stack: Temporal, migrations, provider sandbox, workers, codec server and API on one machine.

`Stack(settings).start()` returns when a payment could be posted; `stop()` returns when nothing is left. A
killed stack is started again on the same data directory: every process keeps its state in files there.
"""

import asyncio
import atexit
import fcntl
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Self

import httpx
from temporalio.client import Client

import corridor
from corridor.runtime import client as temporal_client
from corridor.runtime import keys, ports, temporal_server
from corridor.runtime.process import Launch, Program, Supervisor, launch
from corridor.runtime.settings import Settings

READY_WITHIN_SECONDS = 40.0  # the promise is 20 s; a busy machine gets twice that before we call it broken
STOP_GRACE_SECONDS = 6.0
TEMPORAL_GRACE_SECONDS = 2.5
# A worker of this stack ends within ours; what it had sent is found again by its effect key.
GRACE_HERE: Mapping[str, object] = MappingProxyType({"worker_grace_seconds": 5})
NO_DRAIN: Mapping[str, object] = MappingProxyType({"api_drain_seconds": 0})  # no load balancer is in front
STRIPE_WEBHOOK_PATH = "/v1/provider_webhooks/stripe"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody, for plain HTTP on this machine: to load the world's certificates takes 20 ms, and a start asks often."""


# Would claim the API's port; its requests are few and in its log.
NO_METRICS = {"metrics_port": 0, "temporal_metrics_port": 0}


Apart = Mapping[str, Mapping[str, str]]
"""By process name, environment of that process alone; it wins over the settings.

This is how one process reaches another by a way of its own (`TEMPORAL_ADDRESS`, `DATABASE_URL`,
`CORRIDOR_STRIPE_URL`, `CORRIDOR_SANDBOX_WEBHOOK_URL` …), for instance through a proxy that can fail.
"""
_NOTHING: Mapping[str, str] = MappingProxyType({})


class AlreadyRunning(Exception):
    """Another stack holds the data directory."""


class Stack:
    """One embedded installation in one data directory; started once, and not meant for two threads at once."""

    def __init__(
        self,
        settings: Settings,
        *,
        sandbox: bool = True,
        say: Callable[[str], None] = lambda _: None,
        apart: Apart = MappingProxyType({}),
        only: Collection[str] | None = None,
        launch: Launch = launch,
    ) -> None:
        """`only`: of the processes beside Temporal just these, for work on an installation that must not move."""
        self.settings = settings.model_copy(update={"data_dir": settings.data_dir.absolute()})
        self._say = say
        self._apart = dict(apart)
        self._with_sandbox = sandbox
        self._only = only
        self._own_temporal = not temporal_client.is_remote()
        self._namespace = temporal_client.namespace(settings)
        self._supervisor = Supervisor(self.settings.data_dir / "run", say, launch)
        self._lock_file: IO[str] | None = None

    def start(self) -> Self:
        """Bring everything up. Raises `AlreadyRunning`, `PortTaken`, `ChildFailed` or `SettingsRefused`."""
        begun = time.monotonic()
        self._take_data_dir()
        # For a program that ends without `stop`: only Linux has a parent-death signal.
        atexit.register(self.stop)
        try:
            self._supervisor.open()
            ports.require_free(self.settings.host, self._claims())
            keys.load_or_generate(self.settings)
            self._start_foundation()
            self._start_processes()
        except BaseException:
            self.stop()
            raise
        self._say(f"ready in {time.monotonic() - begun:.1f} s")
        return self

    def stop(self) -> None:
        """End everything, the servers after those who talk to them; at most 10 s. Safe to call twice."""
        names = self._supervisor.names()
        self._supervisor.stop([n for n in names if n != "temporal"], STOP_GRACE_SECONDS)
        self._supervisor.stop([n for n in names if n == "temporal"], TEMPORAL_GRACE_SECONDS)
        self._supervisor.close()
        atexit.unregister(self.stop)
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def release(self) -> None:
        """Start what `only` held back; return when everything is ready."""
        self._only = None
        held_back = [it for it in self._programs() if it.name not in self._supervisor.names()]
        for program in held_back:
            self._supervisor.add(program)
        self._supervisor.wait_ready([program.name for program in held_back], READY_WITHIN_SECONDS)

    def crash(self) -> None:
        """SIGKILL to everything at once, as a power cut ends it. Nothing comes back; the directory is free again."""
        for name in self._supervisor.names():
            if (pid := self.pid(name)) is not None:
                os.kill(pid, signal.SIGKILL)
        self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pid(self, name: str) -> int | None:
        """Process id of `temporal`, `sandbox`, `worker` (`worker-2` …), `codec` or `api`; None while it is down."""
        return self._supervisor.pid(name)

    def kill(self, name: str) -> None:
        """Crash a process with SIGKILL; it comes back by itself."""
        self._supervisor.kill(name)

    def restart(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        """Stop a process politely and return when its successor is ready.

        With `environment` the successor has this in place of what was set apart for the process.
        """
        if environment is None:
            self._supervisor.restart(name)
            return
        self._apart[name] = environment
        self._supervisor.stop([name], STOP_GRACE_SECONDS)
        (program,) = (program for program in self._programs() if program.name == name)
        self._supervisor.add(program)
        self._supervisor.wait_ready([name], READY_WITHIN_SECONDS)

    def wait_ready(self, *names: str, timeout_seconds: float = 20.0) -> None:
        """Return when these processes (all, if none is named) are ready again."""
        self._supervisor.wait_ready(names or self._supervisor.names(), timeout_seconds)

    def addresses(self) -> dict[str, str]:
        """What to open, by its name."""
        found = {"API": f"{self.settings.api_address}/docs"}
        if self._own_temporal:
            found["Temporal UI"] = (
                f"{self.settings.temporal_ui_address}/namespaces/{self._namespace}/workflows"
            )
        if self._with_sandbox:
            found["Provider sandbox"] = self.settings.sandbox_address
        if self.settings.metrics_port:
            found["Metrics"] = f"http://{self.settings.host}:{self.settings.metrics_port}/metrics"
        found["Logs"] = str(self.settings.data_dir / "logs")
        return found

    def _take_data_dir(self) -> None:
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        lock = (self.settings.data_dir / "lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise AlreadyRunning(
                f"{self.settings.data_dir} is in use by another stack (pid {holder})"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock_file = lock

    def _claims(self) -> list[ports.Claim]:
        unused = set() if self._own_temporal else {"temporal_port", "temporal_ui_port"}
        unused |= set() if self._with_sandbox else {"sandbox_port"}
        used = {name: label for name, label in ports.STACK_PORTS.items() if name not in unused}
        claims = [ports.Claim(getattr(self.settings, name), label, name) for name, label in used.items()]
        metrics = [self.settings.metrics_port] if self.settings.metrics_port else []
        for number in range(1, self.settings.workers + 1):
            metrics += self._metrics_ports(number).values()
        return claims + [ports.Claim(port, "metrics", "metrics_port") for port in metrics]

    def _start_foundation(self) -> None:
        """Temporal and the database schema: what the other processes stand on."""
        if self._own_temporal:
            self._say("starting Temporal")
            self._supervisor.add(self._temporal())
        self._say("migrating the database")
        # Imported here so that the migration tool's start-up runs beside Temporal's.
        from corridor.storage.migrate import upgrade

        upgrade(self.settings.database)
        if self._own_temporal:
            self._supervisor.wait_ready(["temporal"], READY_WITHIN_SECONDS)
            asyncio.run(self._set_retention())

    async def _set_retention(self) -> None:
        address = f"{self.settings.host}:{self.settings.temporal_port}"
        client = await Client.connect(address, namespace=self._namespace)
        await temporal_server.set_retention(client, self.settings.history_retention_days)

    def _start_processes(self) -> None:
        programs = self._programs()
        self._say(f"starting {', '.join(program.name for program in programs)}")
        for program in programs:
            self._supervisor.add(program)
        self._supervisor.wait_ready([program.name for program in programs], READY_WITHIN_SECONDS)

    def _programs(self) -> list[Program]:
        settings = self.settings
        api = self._python("api", ["api"], NO_DRAIN, _answers(f"{settings.api_address}/readyz", only_ok=True))
        codec = self._python("codec", ["api.codec_server"], NO_METRICS, _answers(settings.codec_address))
        workers = [self._worker(number) for number in range(1, settings.workers + 1)]
        programs = [*([self._sandbox()] if self._with_sandbox else []), *workers, codec, api]
        wanted = [it for it in programs if self._only is None or it.name in self._only]
        return [self._set_apart(program) for program in wanted]

    def _set_apart(self, program: Program) -> Program:
        own = self._apart.get(program.name, _NOTHING)
        return replace(program, environment={**program.environment, **own})

    def _temporal(self) -> Program:
        address = f"{self.settings.host}:{self.settings.temporal_port}"
        return Program(
            name="temporal",
            argv=temporal_server.arguments(self.settings, self._namespace),
            environment={**os.environ, "TEMPORAL_CONFIG_FILE": os.devnull},
            log=self._log("temporal"),
            is_ready=lambda: asyncio.run(temporal_server.is_serving(address, self._namespace)),
        )

    def _sandbox(self) -> Program:
        """The fake providers read only `CORRIDOR_SANDBOX_*`: they are as foreign to us as the real ones."""
        settings = self.settings
        own = {
            "HOST": settings.host,
            "PORT": str(settings.sandbox_port),
            "DATA_DIR": str(settings.data_dir / "sandbox"),
            "API_KEY": settings.stripe_secret_key.get_secret_value(),
            "WEBHOOK_URL": f"{settings.api_address}{STRIPE_WEBHOOK_PATH}",
            "WEBHOOK_SECRET": settings.stripe_webhook_secret.get_secret_value(),
            **({"MARKET_DAY": settings.market_day.isoformat()} if settings.market_day else {}),
        }
        environment = {f"CORRIDOR_SANDBOX_{name}": value for name, value in own.items()}
        program = self._python(
            "sandbox",
            ["corridor.sandbox"],
            {},
            _answers(f"{settings.sandbox_address}/control/health", only_ok=True),
        )
        return replace(program, environment={**program.environment, **environment})

    def _worker(self, number: int) -> Program:
        name = "worker" if number == 1 else f"worker-{number}"
        ready_file = self.settings.data_dir / "run" / f"{name}.ready"
        changes = {
            "ready_file": ready_file,
            # Live settings refuse so short a grace.
            **(GRACE_HERE if self.settings.mode == "sandbox" else {}),
            # One source tree, so no other build can ever run here; on a shared cluster others may.
            "worker_takes_over": self._own_temporal,
            **self._metrics_ports(number),
        }
        return self._python(name, ["workers"], changes, ready_file.exists, ready_file)

    def _metrics_ports(self, number: int) -> dict[str, int]:
        """Two endpoints per process, counted up from the configured port: ours, then that of Temporal's core."""
        first = self.settings.metrics_port
        if first == 0:
            return {}
        return {"metrics_port": first + 2 * number, "temporal_metrics_port": first + 2 * number + 1}

    def _python(
        self,
        name: str,
        module: list[str],
        changes: Mapping[str, object],
        is_ready: Callable[[], bool],
        ready_file: Path | None = None,
    ) -> Program:
        settings = self.settings.model_copy(update=dict(changes))
        return Program(
            name=name,
            # -P: a file called api.py in the user's current directory must not become our API.
            argv=[sys.executable, "-P", "-m", *module],
            environment={**os.environ, **settings.environment(), **self._child_environment()},
            log=self._log(name),
            is_ready=is_ready,
            ready_file=ready_file,
        )

    def _child_environment(self) -> dict[str, str]:
        source = str(Path(corridor.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        temporal = (
            temporal_server.own_environment(self.settings, self._namespace) if self._own_temporal else {}
        )
        return {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **temporal}

    def _log(self, name: str) -> Path:
        return self.settings.data_dir / "logs" / f"{name}.log"


def _answers(url: str, *, only_ok: bool = False) -> Callable[[], bool]:
    """A check that asks over HTTP: any answer proves a server, `only_ok` wants a 2xx."""

    def is_ready() -> bool:
        try:
            answer = httpx.get(url, timeout=1.0, trust_env=False, verify=NO_TLS)
        except httpx.HTTPError:
            return False
        return answer.is_success if only_ok else not answer.is_server_error

    return is_ready
