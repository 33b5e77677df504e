"""The proxy as tests and the harness hold it: a thread with a loop of its own, and calls that wait for nothing long."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Self, TypeVar

from tests.chaos.proxy.crossing import Crossing, Planted
from tests.chaos.proxy.fault import Edge, Fault, FaultDoesNotFit, FaultKind, Fired, Traffic

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")
CALL_SECONDS = 10.0


class FaultProxy:
    """Every edge passes here. All methods may be called from any thread, also from a running event loop's.

    A context manager: on leaving it every connection is reset and every port is free.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._crossings: dict[str, Crossing] = {}
        self._records: list[Fired] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_SECONDS)
        self._loop.close()

    def open(self, edge: Edge) -> int:
        """Listen on 127.0.0.1 for this edge; returns the port that the client is to be pointed at."""
        if edge.name in self._crossings:
            raise ValueError(f"edge {edge.name} is open already")
        return self._call(self._open(edge))

    def port(self, edge_name: str) -> int:
        return self._crossings[edge_name].port

    def set(self, edge_name: str, fault: Fault) -> None:
        """Put a standing mode in force, in place of the one before, until it is cleared."""
        crossing = self._crossings[edge_name]
        crossing.edge.accepts(fault, planted=False)
        self._call(crossing.stand(fault))

    def plant(self, edge_name: str, fault: Fault, count: int = 1) -> None:
        """The next `count` occasions meet it: connections for refuse and half_open, else requests.

        On edges that are not HTTP a request is the client's next call (gRPC) or its next bytes, on any connection.
        """
        crossing = self._crossings[edge_name]
        crossing.edge.accepts(fault, planted=True)
        if count < 1:
            raise FaultDoesNotFit("a fault is planted at least once")
        self._call(_now(crossing.planted.append, Planted(fault, count)))

    def clear(self, edge_name: str | None = None) -> None:
        """The edge, or every edge, passes everything again: neither a standing nor a planted fault is left."""
        for name in [edge_name] if edge_name else list(self._crossings):
            self._call(self._crossings[name].clear())

    def point(self, edge_name: str, host: str, port: int) -> None:
        """New connections go to another server from now on; those that are open keep theirs."""
        self._call(_now(self._crossings[edge_name].point, host, port))

    def cut(self, edge_name: str) -> None:
        """Reset what is connected to this edge, so that its clients connect anew."""
        self._call(_now(self._crossings[edge_name].cut))

    def connected(self, edge_name: str) -> int:
        """Clients that are connected now and not yet given up on."""
        return self._call(_now(lambda: len(self._crossings[edge_name].connected)))

    def planted(self, edge_name: str) -> int:
        """Occasions that are still to meet a planted fault."""
        return self._call(_now(lambda: sum(one.left for one in self._crossings[edge_name].planted)))

    def fired(self, edge_name: str | None = None, kind: FaultKind | None = None) -> list[Fired]:
        """Everything that fired so far, in order."""
        return [
            record
            for record in list(self._records)
            if edge_name in (None, record.edge) and kind in (None, record.kind)
        ]

    def traffic(self, edge_name: str) -> Traffic:
        return self._call(_now(self._crossings[edge_name].traffic))

    async def _open(self, edge: Edge) -> int:
        crossing = Crossing(edge, self._loop, self._seed, self._records)
        await crossing.listen()
        self._crossings[edge.name] = crossing
        return crossing.port

    async def _close(self) -> None:
        for crossing in self._crossings.values():
            await crossing.close()
        # What was reset is closed by the loop's next turns.
        while any(crossing.clients or crossing.upstream_open for crossing in self._crossings.values()):
            await asyncio.sleep(0.01)

    def _call(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)


async def _now(
    function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Result:
    return function(*args, **kwargs)
