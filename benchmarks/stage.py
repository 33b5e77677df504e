"""The stage of one run: the stack as `corridor up` starts it, and beside it a namespace and a worker per contender."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from api import credentials
from benchmarks.contenders import Bare, OverHttp, Payment
from corridor.domain.ids import Prefix, new_id
from corridor.fx.ecb import EcbRates
from corridor.runtime import keys, temporal_server
from corridor.runtime.converter import make_converter
from corridor.runtime.ports import on_free_ports
from corridor.runtime.process import Program, Supervisor
from corridor.runtime.settings import Settings, load
from corridor.runtime.stack import Stack
from corridor.storage import merchants
from corridor.storage.database import Database
from corridor.storage.merchants import NewMerchant
from corridor.storage.migrate import upgrade

READY_SECONDS = 40.0
MERCHANT = NewMerchant(
    id=new_id(Prefix.MERCHANT, datetime.now(UTC)), name="Lantern & Loom", country="CN", settle_currency="CNY",
    fee_bps=100, fx_markup_bps=40,
)  # fmt: skip
WORKERS = {"bare": "bare", "sealed": "sealed", "payment": "payment"}
"""Contender → what its worker process serves; the others are served by the stack's own worker."""


@dataclass(frozen=True)
class Stage:
    """Everything that runs; `settings` are the stack's, `instant_settings` those of the contender `payment`."""

    settings: Settings
    instant_settings: Settings
    stack: Stack
    workers: Supervisor
    api_key: str


@contextlib.contextmanager
def stage(directory: Path, say: Callable[[str], None]) -> Iterator[Stage]:
    """Start everything on free ports in `directory`; stop all of it at the end."""
    settings = on_free_ports(
        load(data_dir=directory / "stack", log_level="warning", market_day=EcbRates().newest_day())
    )
    with Stack(settings, say=say) as stack:
        instant = settings.model_copy(update={"data_dir": directory / "instant", "database_url": None})
        keys.save(keys.load(settings), keys.ring_path(instant))
        upgrade(instant.database)
        api_key = asyncio.run(_seed(settings, instant))
        workers = Supervisor(directory / "run", say)
        workers.open()
        try:
            for name in WORKERS:
                workers.add(_worker(name, instant, directory))
            workers.wait_ready(WORKERS, READY_SECONDS)
            yield Stage(settings, instant, stack, workers, api_key)
        finally:
            workers.stop(workers.names(), 6.0)
            workers.close()


@contextlib.asynccontextmanager
async def contenders(on: Stage) -> AsyncIterator[tuple[Bare, Bare, Payment, Payment, OverHttp]]:
    """Clients and databases of this process for all of them: bare, sealed, payment, sandbox, api."""
    own, stacks = Database(on.instant_settings.database), Database(on.settings.database)
    own_client, stacks_client = await client_of(on, "payment"), await client_of(on, "default")
    headers = {"Authorization": f"Bearer {on.api_key}"}
    async with httpx.AsyncClient(base_url=on.settings.api_address, headers=headers, timeout=60) as http:
        yield (
            Bare("bare", await client_of(on, "bare", sealed=False)),
            Bare("sealed", await client_of(on, "sealed")),
            Payment("payment", own_client, own, MERCHANT.id),
            Payment("sandbox", stacks_client, stacks, MERCHANT.id),
            OverHttp("api", stacks_client, stacks, http),
        )
    await own.close()
    await stacks.close()


def process_ids(on: Stage) -> dict[str, int | None]:
    """Who may use the processor in this run, ourselves (`caller`) included."""
    stacks = {name: on.stack.pid(name) for name in ("temporal", "sandbox", "api")}
    own = {f"worker {name}": on.workers.pid(name) for name in WORKERS}
    return {**stacks, **own, "worker stack": on.stack.pid("worker"), "caller": os.getpid()}


async def client_of(on: Stage, contender: str, *, sealed: bool = True) -> Client:
    """A client of the contender's namespace; `default` is the stack's."""
    namespace = contender if contender == "default" else _namespace(contender)
    address = f"{on.settings.host}:{on.settings.temporal_port}"
    if not sealed:
        return await Client.connect(address, namespace=namespace)
    converter = make_converter(keys.load(on.settings), namespace)
    return await Client.connect(address, namespace=namespace, data_converter=converter)


def _namespace(contender: str) -> str:
    return f"bench-{contender}"


async def _seed(settings: Settings, instant: Settings) -> str:
    """Register the namespaces; put one merchant into both databases; return its API key for the stack."""
    client = await Client.connect(f"{settings.host}:{settings.temporal_port}")
    for contender in WORKERS:
        await _register(client, _namespace(contender))
    now = datetime.now(UTC)
    text, key = credentials.mint(
        merchant_id=MERCHANT.id, role="merchant", mode="test", pepper=settings.api_key_pepper, now=now
    )
    for url in (settings.database, instant.database):
        database = Database(url)
        await database.write(merchants.seed, MERCHANT, key, now)
        await database.close()
    return text


async def _register(client: Client, namespace: str) -> None:
    """A namespace with our search attributes; the server takes some seconds until it knows it everywhere."""
    life = Duration(seconds=86_400)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=namespace, workflow_execution_retention_period=life)
    )
    kinds = {
        name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind.upper()}")
        for name, kind in temporal_server.SEARCH_ATTRIBUTES.items()
    }
    wanted = AddSearchAttributesRequest(namespace=namespace, search_attributes=kinds)
    async with asyncio.timeout(READY_SECONDS):
        while not await _added(client, wanted):  # noqa: ASYNC110 — another process
            await asyncio.sleep(0.2)


async def _added(client: Client, wanted: AddSearchAttributesRequest) -> bool:
    try:
        await client.operator_service.add_search_attributes(wanted)
    except RPCError:
        return False
    return True


def _worker(name: str, settings: Settings, directory: Path) -> Program:
    ready_file = directory / "run" / f"{name}.ready"
    own = settings.model_copy(update={"ready_file": ready_file})
    environment = {
        **os.environ,
        **own.environment(),
        **temporal_server.own_environment(settings, _namespace(name)),
    }
    environment.pop("DATABASE_URL", None)
    return Program(
        name=name,
        argv=[sys.executable, "-m", "benchmarks.worker", WORKERS[name]],
        environment=environment,
        log=directory / "logs" / f"{name}.log",
        is_ready=ready_file.exists,
        ready_file=ready_file,
    )
