"""The installation under test: an embedded stack whose every network edge can be led through the fault proxy."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import psutil
from pydantic import SecretStr

from api.cli.demo import installation
from api.cli.demo.installation import Keys
from api.cli.demo.shop import Shop
from corridor.runtime import ports
from corridor.runtime.postgres import Postgres
from corridor.runtime.process import ChildFailed
from corridor.runtime.settings import Settings, load
from corridor.runtime.stack import STRIPE_WEBHOOK_PATH, Apart, Stack
from corridor.storage.database import Database
from tests.chaos.arrivals import SUBSCRIBERS
from tests.chaos.faults import provider
from tests.chaos.faults.disk import Disk
from tests.chaos.faults.network import Network
from tests.chaos.plan import Kind, Plan
from tests.chaos.profile import PROCESSES
from tests.chaos.proxy.proxy import FaultProxy

WORKERS = ("worker", "worker-2")
SETTLEMENT_SECONDS = 5
PAYOUT_SECONDS = 15
ACTION_WINDOW_SECONDS = 20
CONNECTIONS = 200
REQUEST_SECONDS = 20.0
HEALS_WITHIN_SECONDS = 40.0


def settings_for(data_dir: Path, database_url: str | None) -> Settings:
    """A sandbox installation on free ports with two workers, of which one survives the other."""
    for name in [it for it in os.environ if it.startswith(("TEMPORAL_", "CORRIDOR_", "OTEL_"))]:
        del os.environ[name]
    os.environ["TEMPORAL_CONFIG_FILE"] = os.devnull
    os.environ["CORRIDOR_SANDBOX_PAYOUT_PERIOD_SECONDS"] = str(PAYOUT_SECONDS)
    loaded = load(
        data_dir=data_dir,
        mode="sandbox",
        database_url=None if database_url is None else SecretStr(database_url),
        workers=len(WORKERS),
        webhook_allow_private=True,
        market_day=installation.market_day(),
        settlement_interval_seconds=SETTLEMENT_SECONDS,
        action_window_seconds=ACTION_WINDOW_SECONDS,
        log_format="json",
    )
    return ports.on_free_ports(loaded)


def targets(settings: Settings) -> dict[str, str]:
    """Where each edge leads in the end, as `host:port`."""
    host = settings.host
    temporal, sandbox = f"{host}:{settings.temporal_port}", f"{host}:{settings.sandbox_port}"
    found = {
        "client-api": f"{host}:{settings.api_port}",
        "provider-api": f"{host}:{settings.api_port}",
        "worker-merchant": sandbox,
        "api-temporal": temporal,
    }
    for name in WORKERS:
        found |= {f"{name}-temporal": temporal, f"{name}-provider": sandbox}
    if settings.database_url is not None:
        address = settings.database.rpartition("@")[2].partition("/")[0]
        found |= {f"{name}-database": address for name in ("api", *WORKERS)}
    return found


def apart(settings: Settings, ways: Mapping[str, str], skews: Mapping[str, int]) -> Apart:
    """What each process is told of its own: the ways it takes, and how wrong its clock is."""
    found = {
        "sandbox": {
            "CORRIDOR_SANDBOX_WEBHOOK_URL": f"http://{ways['provider-api']}{STRIPE_WEBHOOK_PATH}",
            # Buyers' browsers are none of our edges.
            "CORRIDOR_SANDBOX_PUBLIC_URL": settings.sandbox_address,
        }
    }
    for name in ("api", *WORKERS):
        own = {"TEMPORAL_ADDRESS": ways[f"{name}-temporal"]}
        if f"{name}-provider" in ways:
            base = f"http://{ways[f'{name}-provider']}"
            own |= {"CORRIDOR_STRIPE_URL": f"{base}/stripe", "CORRIDOR_LIQUIDITY_URL": f"{base}/lp"}
        if f"{name}-database" in ways:
            direct = targets(settings)[f"{name}-database"]
            own["DATABASE_URL"] = settings.database.replace(direct, ways[f"{name}-database"])
        if skews.get(name):
            own["CORRIDOR_CLOCK_OFFSET_SECONDS"] = str(skews[name])
        found[name] = own
    return found


class Stand:
    """The stack, everybody's way to it, the merchants, and what can be done to them. Used as a context."""

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        proxy: FaultProxy,
        disk: Disk,
        postgres: Postgres | None,
        say: Callable[[str], None],
    ) -> None:
        self.settings, self.disk, self.postgres = settings, disk, postgres
        self.skews = {
            act.target: int(act.words["seconds"]) for act in plan.acts if act.kind is Kind.CLOCK_SKEW
        }
        self.network = Network(proxy, targets(settings))
        self.stack = Stack(settings, say=say, apart=apart(settings, self.network.addresses, self.skews))
        options = {
            "timeout": REQUEST_SECONDS,
            "limits": httpx.Limits(max_connections=CONNECTIONS),
            "trust_env": False,
        }
        api = f"http://{self.network.addresses['client-api']}"
        self.api = httpx.AsyncClient(base_url=api, **options)  # type: ignore[arg-type]
        self.sandbox = httpx.AsyncClient(base_url=settings.sandbox_address, **options)  # type: ignore[arg-type]
        self.database = Database(settings.database)
        self.keys = Keys({}, {}, "")
        self.shops: dict[str, Shop] = {}
        self.operators: tuple[Shop, Shop] = (Shop("operator", self.api, ""), Shop("colleague", self.api, ""))

    async def open(self) -> None:
        """Merchants with keys, and webhook endpoints behind the edge to the receivers."""
        self.keys = await installation.seed(self.database, self.settings)
        self.shops = {name: Shop(name, self.api, key) for name, key in self.keys.api_keys.items()}
        for operator in self.operators:
            operator.api_key = self.keys.operator
        receiver = f"http://{self.network.addresses['worker-merchant']}"
        async with httpx.AsyncClient(base_url=receiver, timeout=REQUEST_SECONDS, trust_env=False) as way:
            await installation.register_endpoints([self.shops[name] for name in SUBSCRIBERS], way)

    async def heal(self) -> None:
        """Lift every fault. What is down is coming up by itself; nothing is restarted for this."""
        self.disk.clear()
        self.network.clear()
        await asyncio.to_thread(
            self.stack.wait_ready, "temporal", "sandbox", timeout_seconds=HEALS_WITHIN_SECONDS
        )
        await provider.clear(self.sandbox, SUBSCRIBERS)

    def set_clock_right(self, name: str) -> None:
        """Restart a process whose clock is wrong without that setting. Other faults may keep it from getting ready."""
        with contextlib.suppress(ChildFailed):
            self.stack.restart(name, apart(self.settings, self.network.addresses, {})[name])

    def pid(self, name: str) -> int | None:
        """Process id of one of the stack's, of the `database` server, or of one of its sessions; None while down."""
        if not name.startswith("database"):
            return self.stack.pid(name)
        if self.postgres is None or name == "database":
            return None if self.postgres is None else self.postgres.pid
        return _oldest_session(self.postgres.pid)

    def kill(self, name: str) -> None:
        """SIGKILL. All of them come back by themselves, the database server when it has recovered."""
        if not name.startswith("database"):
            self.stack.kill(name)
        elif name == "database" and self.postgres is not None:
            self.postgres.crash()
        elif (pid := self.pid(name)) is not None:
            psutil.Process(pid).kill()

    def pids(self) -> dict[str, int | None]:
        """The processes whose resources are looked at."""
        return {name: self.stack.pid(name) for name in PROCESSES}

    def directories(self) -> list[Path]:
        """Everything at rest that must hold no secret in clear."""
        return [self.settings.data_dir, *([self.postgres.directory] if self.postgres else [])]

    def skipped(self) -> list[str]:
        """Kinds of faults this machine or database cannot have, and why."""
        return self.disk.skipped()

    async def close(self) -> None:
        await self.api.aclose()
        await self.sandbox.aclose()
        await self.database.close()


def _oldest_session(server_pid: int) -> int | None:
    """PostgreSQL's processes tell by their title what they are; those with an address serve a client."""
    try:
        for process in psutil.Process(server_pid).children():
            if "127.0.0.1(" in " ".join(process.cmdline()):
                return int(process.pid)
    except psutil.NoSuchProcess:
        return None
    return None
