"""Faults on the wire (F6, F7): what a plan may ask of which edge, and doing it through the proxy."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from tests.chaos.proxy.fault import AT_CONNECT, Edge, Fault, FaultKind, Framing, Then
from tests.chaos.proxy.proxy import FaultProxy

Json = dict[str, Any]

HTTP_EDGES = (
    "client-api", "api-provider", "worker-provider", "worker-2-provider", "provider-api", "worker-merchant",
)  # fmt: skip
"""The API asks liquidity providers for a merchant's quote; all else that providers are asked, workers ask."""
GRPC_EDGES = ("api-temporal", "worker-temporal", "worker-2-temporal")
DATABASE_EDGES = ("api-database", "worker-database", "worker-2-database")
MEETS_WITHIN_SECONDS = 15.0
"""Planted, a fault harms nobody until it is met; on the quietest edges that takes so long while all else is broken too."""
LOOK_SECONDS = 0.2

_SERVICE = "/temporal.api.workflowservice.v1.WorkflowService/"
_CALLS = {
    "api-temporal": ("ExecuteMultiOperation",),
    "worker-temporal": ("RespondActivityTaskCompleted", "RespondWorkflowTaskCompleted"),
    "worker-2-temporal": ("RespondActivityTaskCompleted", "RespondWorkflowTaskCompleted"),
}
"""Calls whose acknowledgement is worth losing: the effect has happened, and the caller does not know."""

# Kind and words. With seconds it stands so long, without it the next request meets it. An answer that is lost is the
# answer to what changed something: to a POST, to a commit that wrote, to one of the calls above.
_EVERYWHERE: tuple[Json, ...] = (
    {"fault": "rst"},
    {"fault": "partition", "then": "reset", "seconds": 2.0},
    {"fault": "partition", "then": "stall", "seconds": 3.0},
    {"fault": "delay", "milliseconds": 150, "seconds": 3.0},
    {"fault": "jitter", "milliseconds": 250, "seconds": 3.0},
    {"fault": "throttle", "bytes_per_second": 20_000, "seconds": 2.0},
    {"fault": "refuse", "seconds": 2.0},
    {"fault": "drop_response_after_forward", "then": "reset"},
    {"fault": "drop_response_after_forward", "then": "stall"},
    {"fault": "half_open"},
    {"fault": "truncate", "after_bytes": 60},
    {"fault": "stall_after", "after_bytes": 20},
)
_ON_HTTP: tuple[Json, ...] = (
    {"fault": "drop_request"},
    {"fault": "duplicate"},
    {"fault": "duplicate", "milliseconds": 700},
    {"fault": "reorder", "milliseconds": 800},
)
_MET_BY_WHO_IS_CONNECTED = (FaultKind.PARTITION, FaultKind.REFUSE)
"""Nobody hears of a connection that a closed port refuses, so these begin when there is one to be cut."""


def edges(database: str) -> tuple[str, ...]:
    """Every edge that exists with this database; SQLite is a file, not a server."""
    return HTTP_EDGES + GRPC_EDGES + (DATABASE_EDGES if database == "postgresql" else ())


def draw(random: Random, number: int, database: str) -> tuple[str, Json]:
    """Edges in turn, and on each every fault it can carry in turn; neighbours do not meet the same at once."""
    names = edges(database)
    place, round_number = number % len(names), number // len(names)
    edge = names[place]
    choices = _choices(edge)
    words = dict(choices[(round_number + 5 * place) % len(choices)])
    if words["fault"] == "drop_response_after_forward":
        words |= {"call": random.choice(_CALLS[edge])} if edge in _CALLS else {"only": "changes"}
    return edge, words


def kinds(edge: str) -> frozenset[FaultKind]:
    """Everything that a plan may ask of this edge: all that its framing can carry."""
    return frozenset(FaultKind(words["fault"]) for words in _choices(edge))


def _choices(edge: str) -> tuple[Json, ...]:
    return _EVERYWHERE + (_ON_HTTP if edge in HTTP_EDGES else ())


class Network:
    """The proxy on every edge. One fault at a time on each edge, so that each is known to have met its target."""

    def __init__(self, proxy: FaultProxy, targets: Mapping[str, str]) -> None:
        self._proxy = proxy
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.addresses = {name: f"127.0.0.1:{self._open(name, target)}" for name, target in targets.items()}

    async def plant(self, edge: str, words: Mapping[str, str | int | float]) -> tuple[bool, str]:
        """Put one fault on an edge and wait until it has passed: (it met something, what)."""
        fault, seconds = _fault(words), float(words.get("seconds", 0))
        async with self._turns[edge]:
            before = len(self._proxy.fired(edge, fault.kind))
            if fault.kind in _MET_BY_WHO_IS_CONNECTED:
                await _until(lambda: self._proxy.connected(edge) > 0)
            (self._proxy.set if seconds else self._proxy.plant)(edge, fault)
            if fault.kind in AT_CONNECT and not seconds and edge not in HTTP_EDGES:
                # Whoever holds one connection for hours would not make the new one that is to meet this.
                self._proxy.cut(edge)
            await asyncio.sleep(seconds)
            if fault.kind not in _MET_BY_WHO_IS_CONNECTED:
                await _until(lambda: len(self._proxy.fired(edge, fault.kind)) > before)
            self._proxy.clear(edge)
            met = self._proxy.fired(edge, fault.kind)[before:]
        return bool(met), met[0].about if met else "nothing came by"

    def clear(self) -> None:
        """Every edge passes everything again."""
        self._proxy.clear()

    def fired(self) -> Counter[str]:
        """What happened on the wire, by fault."""
        return Counter(str(record.kind) for record in self._proxy.fired())

    def _open(self, name: str, target: str) -> int:
        host, _, port = target.rpartition(":")
        framing = (
            Framing.GRPC
            if name in GRPC_EDGES
            else Framing.POSTGRES
            if name in DATABASE_EDGES
            else Framing.HTTP
        )
        return self._proxy.open(Edge(name, host, int(port), framing))


async def _until(is_so: Callable[[], bool]) -> None:
    """Or until it is too late; the caller looks which."""
    deadline = time.monotonic() + MEETS_WITHIN_SECONDS
    while not is_so() and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_SECONDS)


def _fault(words: Mapping[str, str | int | float]) -> Fault:
    return Fault(
        kind=FaultKind(str(words["fault"])),
        milliseconds=int(words.get("milliseconds", 0)),
        bytes_per_second=int(words.get("bytes_per_second", 0)),
        after_bytes=int(words.get("after_bytes", 0)),
        then=Then(str(words.get("then", "reset"))),
        matching=f"{_SERVICE}{words['call']}" if "call" in words else "",
        only_changes=words.get("only") == "changes",
    )
