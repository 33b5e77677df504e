"""The installation under test: an embedded stack whose every network edge can be led through the fault proxy."""

import asyncio
import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType

import httpx
import psutil
from pydantic import SecretStr

from api.cli.demo import installation
from api.cli.demo.http import InTurn
from api.cli.demo.installation import Keys
from api.cli.demo.shop import Shop
from corridor.runtime import ports
from corridor.runtime.build import SOURCE
from corridor.runtime.process import ChildFailed
from corridor.runtime.settings import Settings, load
from corridor.runtime.stack import NO_TLS, STRIPE_WEBHOOK_PATH, Apart, Stack
from corridor.storage.database import Database
from corridor.storage.deadlines import UNHURRIED
from tests.chaos import leaks
from tests.chaos.arrivals import SUBSCRIBERS
from tests.chaos.desk import Desk
from tests.chaos.faults import provider, temporal
from tests.chaos.faults.disk import Disk
from tests.chaos.faults.failover import Cluster
from tests.chaos.faults.network import DATABASE_EDGES, Network
from tests.chaos.forking import launch_quickly
from tests.chaos.leaks import Sample
from tests.chaos.plan import Kind, Plan
from tests.chaos.profile import PROCESSES
from tests.chaos.proxy.proxy import FaultProxy

WORKERS = ("worker", "worker-2")
SETTLEMENT_SECONDS = 5
PAYOUT_SECONDS = 60
"""Between two payouts in one currency. Providers pay daily, and the import takes one payout after the other."""
ACTION_WINDOW_SECONDS = 20
REQUESTS_AT_ONCE = 40
"""Of one merchant: fewer than a rush brings, more than one has open on a bad day."""
AT_ONCE = 100
REQUEST_SECONDS = 20.0
PATIENCE_SECONDS = 1_800.0
"""A shop that gives up leaves an authorised payment behind, which nobody will capture or cancel. Its requests also wait
for their turn here: after a restoration of two minutes they are some hundreds."""
HEALS_WITHIN_SECONDS = 40.0
RESTART_GRACE_SECONDS = 6.0
SESSION_ENDS_WITHIN_SECONDS = 20.0
TELLS_WITHIN_SECONDS = 1.0
_NOTHING: Mapping[str, int] = MappingProxyType({})


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
        requests_at_once=REQUESTS_AT_ONCE,
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
        "api-provider": sandbox,
    }
    for name in WORKERS:
        found |= {f"{name}-temporal": temporal, f"{name}-provider": sandbox}
    if settings.database_url is not None:
        address = settings.database.rpartition("@")[2].partition("/")[0]
        found |= {f"{name}-database": address for name in ("api", *WORKERS)}
    return found


def apart(
    settings: Settings,
    ways: Mapping[str, str],
    skews: Mapping[str, int],
    builds: Apart | None = None,
    telling: Mapping[str, int] = _NOTHING,
) -> Apart:
    """What each process is told of its own: the ways it takes, how wrong its clock is, which build it runs, and at
    which port it tells its measurements.
    """
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
        if name in telling:
            own["CORRIDOR_METRICS_PORT"] = str(telling[name])
        if skews.get(name):
            own["CORRIDOR_CLOCK_OFFSET_SECONDS"] = str(skews[name])
        if name in WORKERS:
            # Two builds run side by side here, so the choice between them is the operator's, as on a cluster.
            own["CORRIDOR_WORKER_TAKES_OVER"] = "false"
        found[name] = own | dict((builds or {}).get(name, {}))
    return found


class Stand:
    """The stack, everybody's way to it, the merchants, and what can be done to them. Used as a context."""

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        proxy: FaultProxy,
        disk: Disk,
        postgres: Cluster | None,
        say: Callable[[str], None],
    ) -> None:
        self.settings, self.disk, self.postgres = settings, disk, postgres
        self.skews = {
            act.target: int(act.words["seconds"]) for act in plan.acts if act.kind is Kind.CLOCK_SKEW
        }
        self.builds: dict[str, Mapping[str, str]] = {}
        self.source = SOURCE
        """The code of the build that workflows may be on in the end; all that was begun on earlier ones fits it."""
        self.lost_with_temporal: set[str] = set()
        """Ids of what had ended before Temporal's store was lost: nothing gives those a history again."""
        self.desk = Desk()
        self.resumes = temporal.resumes_of(self)
        self._hands, self._sessions = threading.Lock(), threading.Lock()
        self.network = Network(proxy, targets(settings))
        if postgres is not None:
            postgres.leads(*DATABASE_EDGES)
        loops = ("api", *WORKERS)
        self._telling = dict(zip(loops, ports.free_ports(len(loops), settings.host), strict=True))
        self.lives: dict[str, list[Sample]] = defaultdict(list)
        """Each process just before it was killed."""
        own = apart(settings, self.network.addresses, self.skews, telling=self._telling)
        self.stack = Stack(settings, say=say, apart=own, launch=launch_quickly)
        self.api = InTurn(f"http://{self.network.addresses['client-api']}", AT_ONCE, REQUEST_SECONDS)
        self.sandbox = InTurn(settings.sandbox_address, AT_ONCE, REQUEST_SECONDS)
        self.database = Database(settings.database, deadlines=UNHURRIED)
        self.keys = Keys({}, {}, "")
        self.shops: dict[str, Shop] = {}
        self.operators: tuple[Shop, Shop] = (Shop("operator", self.api, ""), Shop("colleague", self.api, ""))

    async def open(self) -> None:
        """Merchants with keys, and webhook endpoints behind the edge to the receivers."""
        self.keys = await installation.seed(self.database, self.settings)
        self.shops = {
            name: Shop(name, self.api, key, patience_seconds=PATIENCE_SECONDS)
            for name, key in self.keys.api_keys.items()
        }
        for operator in self.operators:
            operator.api_key = self.keys.operator
        receiver = f"http://{self.network.addresses['worker-merchant']}"
        async with httpx.AsyncClient(base_url=receiver, timeout=REQUEST_SECONDS, trust_env=False) as way:
            await installation.register_endpoints([self.shops[name] for name in SUBSCRIBERS], way)

    def lift(self) -> None:
        """The last fault of ours is over: the disk has room again, and every edge passes everything."""
        self.disk.clear()
        self.network.clear()

    async def until_up(self) -> None:
        """What is down is coming up by itself, nothing is restarted; then the provider too misbehaves no more."""
        await asyncio.to_thread(
            self.stack.wait_ready, "temporal", "sandbox", timeout_seconds=HEALS_WITHIN_SECONDS
        )
        await provider.clear(self.sandbox, SUBSCRIBERS)

    def set_clock_right(self, name: str) -> None:
        """Restart a process whose clock is wrong without that setting."""
        self.skews.pop(name, None)
        self._restart(name)

    def run_build(self, name: str, environment: Mapping[str, str]) -> None:
        """Restart a worker as another build; whoever kills it from now on gets that build back."""
        self.builds[name] = environment
        self._restart(name)

    def _restart(self, name: str) -> None:
        """Politely, as a deploy would. Other faults may keep the successor from getting ready for a while."""
        with self._hands:
            own = apart(self.settings, self.network.addresses, self.skews, self.builds, self._telling)
            self.stack._apart[name] = own[name]
            self.stack._supervisor.stop([name], RESTART_GRACE_SECONDS)
            self._start(name)
        with contextlib.suppress(ChildFailed):
            self.stack.wait_ready(name)

    def _start(self, *names: str) -> None:
        for program in self.stack._programs():
            if program.name in names:
                self.stack._supervisor.add(program)

    @contextlib.asynccontextmanager
    async def fenced(
        self,
        names: Collection[str] = ("api", *WORKERS),
        once_closed: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncIterator[None]:
        """Killed, and nothing of them runs inside the block; they start as it is left.

        The API goes first, and `once_closed` is awaited while nobody accepts anything and the workers still work.
        """
        await asyncio.to_thread(self._hands.acquire)
        try:
            if once_closed is not None:
                await asyncio.to_thread(self.stack._supervisor.stop, ["api"], 0.0)
                await once_closed()
            await asyncio.to_thread(self.stack._supervisor.stop, list(names), 0.0)
            yield
        finally:
            self._start(*names)
            self._hands.release()

    def pid(self, name: str) -> int | None:
        """Process id of one of the stack's, of the `database` server, or of one of its sessions; None while down."""
        if not name.startswith("database"):
            return self.stack.pid(name)
        if self.postgres is None or name == "database":
            return None if self.postgres is None else self.postgres.pid
        return _oldest_session(self.postgres.pid)

    def kill(self, name: str, pid: int) -> bool:
        """SIGKILL. All of them come back by themselves, the database server when it has recovered. False: gone before."""
        if not name.startswith("database"):
            seen = leaks.of(pid, self._tasks(name))
            is_killed = self.stack._supervisor.kill(name, pid)
            if is_killed and seen is not None:
                self.lives[name].append(seen)
            return is_killed
        if name == "database":
            return self.postgres is not None and self.postgres.crash(pid)
        with self._sessions:
            return _ended(pid)

    def pids(self) -> dict[str, int | None]:
        """The processes whose resources are looked at."""
        return {name: self.stack.pid(name) for name in PROCESSES}

    def tasks(self) -> dict[str, int]:
        """How many asyncio tasks each of those counts that has a loop of ours and answers."""
        told = {name: self._tasks(name) for name in self._telling}
        return {name: count for name, count in told.items() if count is not None}

    def _tasks(self, name: str) -> int | None:
        if name not in self._telling:
            return None
        address = f"http://{self.settings.host}:{self._telling[name]}/metrics"
        try:
            page = httpx.get(address, timeout=TELLS_WITHIN_SECONDS, trust_env=False, verify=NO_TLS)
        except httpx.HTTPError:  # it is paused, or comes up
            return None
        return leaks.tasks_told(page.text)

    def directories(self) -> list[Path]:
        """Everything at rest that must hold no secret in clear."""
        return [self.settings.data_dir, *([self.postgres.directory] if self.postgres else [])]

    @property
    def database_file(self) -> Path | None:
        """None where a server keeps the database."""
        return Path(self.settings.database.removeprefix("sqlite:///")) if self.postgres is None else None

    def skipped(self) -> list[str]:
        """Kinds of faults this machine or database cannot have, and why."""
        return self.disk.skipped()

    async def close(self) -> None:
        await self.api.aclose()
        await self.sandbox.aclose()
        await self.database.close()


def _ended(session_pid: int) -> bool:
    """Whether it was there to be killed. Returns when it is gone, so that nobody takes it for alive."""
    try:
        session = psutil.Process(session_pid)
        if session.status() == psutil.STATUS_ZOMBIE:
            return False
        session.kill()
    except psutil.NoSuchProcess:
        return False
    # It is dead by now; the server buries it as soon as it can.
    with contextlib.suppress(psutil.TimeoutExpired, psutil.NoSuchProcess):
        session.wait(SESSION_ENDS_WITHIN_SECONDS)
    return True


def _oldest_session(server_pid: int) -> int | None:
    """PostgreSQL's processes tell by their title what they are; those with an address serve a client."""
    try:
        for process in psutil.Process(server_pid).children():
            if "127.0.0.1(" in " ".join(process.cmdline()):
                return int(process.pid)
    except psutil.NoSuchProcess:
        return None
    return None
