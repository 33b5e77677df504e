"""Lost acknowledgements: each step happens, its answer never arrives, and whoever waited finds out without doing it twice.

On PostgreSQL, with a fault proxy on every edge of an API process and a worker process. The table says which answer
is lost for which crash point; a point without one fails `test_no_point_is_missing_from_the_sweep`.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import pytest_asyncio
from sqlalchemy import Connection, update
from temporalio.testing import WorkflowEnvironment

from corridor.runtime.keys import KeyRing
from corridor.runtime.settings import Settings
from corridor.storage.tables import webhook_endpoints
from tests.chaos.proxy.fault import Edge, Fault, FaultKind, Framing
from tests.chaos.proxy.proxy import FaultProxy
from tests.chaos.sweep.cells import AT_A_COMMAND, AT_A_SALE, IN_THE_API, LOST, Lost, Way
from tests.chaos.sweep.processes import Processes
from tests.chaos.sweep.shop import Shop, open_shop
from tests.chaos.sweep.traffic import (
    MET_WITHIN_SECONDS,
    SALES,
    TO_CANCEL,
    TO_CAPTURE,
    TO_DECIDE,
    accepted,
    everything_ends,
    give_commands,
    go_round,
    wait_for_commands,
)
from tests.workflows.conftest import installation
from tests.workflows.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROVIDER_TIMEOUT_SECONDS = 1.0
_COMMANDED = {"declaration": TO_CAPTURE, "decision": TO_DECIDE, "move": TO_CANCEL}
"""Orders whose command passes these points and, of what writes the same tables, no other."""
FRAMING = {
    Way.API_DATABASE: Framing.POSTGRES,
    Way.API_TEMPORAL: Framing.GRPC,
    Way.WORKER_DATABASE: Framing.POSTGRES,
    Way.WORKER_TEMPORAL: Framing.GRPC,
}


class Ways:
    """The proxy with an edge for each way, and the environment that leads a process over its own."""

    def __init__(self, proxy: FaultProxy, settings: Settings, temporal: str, sandbox: str) -> None:
        self._proxy = proxy
        self._wanted: Counter[tuple[Way, str]] = Counter()
        self._database = urlsplit(settings.database)
        self._stripe = urlsplit(settings.stripe_address)
        for way in (Way.API_DATABASE, Way.WORKER_DATABASE):
            self.open(way, self._database.netloc.rpartition("@")[2])
        for way in (Way.API_TEMPORAL, Way.WORKER_TEMPORAL):
            self.open(way, temporal)
        for way in (Way.WORKER_PROVIDER, Way.WORKER_MERCHANT):
            self.open(way, urlsplit(sandbox).netloc)

    def open(self, way: Way, address: str) -> str:
        """Returns the address that leads there through the proxy."""
        host, _, port = address.rpartition(":")
        self._proxy.open(Edge(way, host, int(port), FRAMING.get(way, Framing.HTTP)))
        return self.address(way)

    def address(self, way: Way) -> str:
        return f"127.0.0.1:{self._proxy.port(way)}"

    def environment(self, database: Way, temporal: Way) -> dict[str, str]:
        user = self._database.netloc.rpartition("@")[0]
        netloc = f"{user}@{self.address(database)}" if user else self.address(database)
        return {
            "DATABASE_URL": urlunsplit(self._database._replace(netloc=netloc)),
            "TEMPORAL_ADDRESS": self.address(temporal),
            "CORRIDOR_STRIPE_URL": urlunsplit(
                self._stripe._replace(netloc=self.address(Way.WORKER_PROVIDER))
            ),
        }

    def lose(self, lost: Lost) -> None:
        """Lose one more answer of this kind."""
        self._wanted[lost.way, lost.matching] += 1
        self._plant(lost)

    def _plant(self, lost: Lost) -> None:
        fault = Fault(FaultKind.DROP_RESPONSE_AFTER_FORWARD, matching=lost.matching, then=lost.then)
        self._proxy.plant(lost.way, fault)

    def is_waiting(self, lost: Lost) -> bool:
        """Until all of this kind were lost; one whose sender gave up before there was an answer is asked for again."""
        met = sum(lost.matching in record.about for record in self._proxy.fired(lost.way))
        if met >= self._wanted[lost.way, lost.matching]:
            return False
        if self._proxy.planted(lost.way) == 0:
            self._plant(lost)
        return True


@dataclass(frozen=True)
class Sweep:
    """The world, the ways between its processes, and the merchant's backend."""

    world: World
    ways: Ways
    shop: Shop
    provider_address: str
    """Where the provider reaches the API."""


@pytest_asyncio.fixture
async def here(
    temporal_env: WorkflowEnvironment,
    key_ring: KeyRing,
    postgres_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Sweep]:
    """One API and one worker, each of whose connections passes the proxy."""
    temporal = temporal_env.client.service_client.config.target_host
    with (
        installation(postgres_database, key_ring, tmp_path, monkeypatch) as (given, sandbox),
        FaultProxy() as proxy,
    ):
        settings = given.model_copy(update={"provider_timeout_seconds": PROVIDER_TIMEOUT_SECONDS})
        processes = Processes(settings, temporal, tmp_path)
        ways = Ways(proxy, settings, temporal, sandbox)
        async with world(temporal_env.client, settings, sandbox, with_workers=False) as opened:
            await opened.subscribe(("payment.captured",))
            receiver = f"http://{ways.address(Way.WORKER_MERCHANT)}/merchant/webhooks/shop"
            await opened.database.write(_deliver_to, receiver)
            processes.worker(environment=ways.environment(Way.WORKER_DATABASE, Way.WORKER_TEMPORAL))
            api = processes.api(environment=ways.environment(Way.API_DATABASE, Way.API_TEMPORAL))
            client = f"http://{ways.open(Way.CLIENT_API, urlsplit(api.url).netloc)}"
            provider = f"http://{ways.open(Way.PROVIDER_API, urlsplit(api.url).netloc)}"
            try:
                await processes.all_ready()
                yield Sweep(opened, ways, await open_shop(opened, settings, client), provider)
            finally:
                await processes.leave(temporal_env.client)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_no_lost_acknowledgement_makes_an_effect_twice_or_loses_a_payment(here: Sweep) -> None:
    for point in IN_THE_API:
        for lost in LOST[point]:
            at = here.provider_address if point.startswith("webhook.") else here.shop.sure
            await here.shop.meet(point, at, partial(here.ways.lose, lost))
            await _until_lost(here, lost, point, at)
    waiting = [lost for point in AT_A_SALE for lost in LOST[point]]
    for lost in waiting:
        here.ways.lose(lost)
    rounds = 0
    async with asyncio.timeout(MET_WITHIN_SECONDS):
        while _left(here, waiting):
            await go_round(here.world, rounds)
            rounds += 1
            await asyncio.sleep(1)
    commanded = await _lose_those_of_commands(here)
    await everything_ends(here.world)
    made = len(SALES) * rounds + commanded
    assert await here.world.database.read(accepted) == here.shop.orders + made


async def _lose_those_of_commands(here: Sweep) -> int:
    """One after the other, and planted when nothing but the one kind of command is left to give: from outside, the
    steps of a sale or of another command look the same. Returns how many orders there were.
    """
    made = 0
    for point in AT_A_COMMAND:
        orders = _COMMANDED[point.partition(".")[0]]
        for lost in LOST[point]:
            await wait_for_commands(here.world, orders)
            made += len(orders)
            here.ways.lose(lost)
            async with asyncio.timeout(MET_WITHIN_SECONDS):
                while _left(here, [lost]):
                    await give_commands(here.world)
                    await asyncio.sleep(0.5)
    return made


def _left(here: Sweep, waiting: Sequence[Lost]) -> list[Lost]:
    """Each is asked: asking plants it again."""
    return [lost for lost in waiting if here.ways.is_waiting(lost)]


async def _until_lost(here: Sweep, lost: Lost, point: str, at: str) -> None:
    """A request whose sender gave up before there was an answer to lose is made once more."""
    try:
        async with asyncio.timeout(60):
            for look in itertools.count(1):
                if not here.ways.is_waiting(lost):
                    return
                if look % 100 == 0:
                    await here.shop.meet(point, at)
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"{point}: nothing was asked that {lost} answers")


def _deliver_to(connection: Connection, url: str) -> None:
    connection.execute(update(webhook_endpoints).values(url=url))
