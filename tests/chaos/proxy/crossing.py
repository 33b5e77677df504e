"""One edge as it runs: its listener, its connections, and the faults that wait there. Lives on the proxy's loop."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from tests.chaos.proxy import http2
from tests.chaos.proxy.fault import (
    AT_CONNECT,
    SHAPING,
    Edge,
    Fault,
    FaultKind,
    Fired,
    Framing,
    Then,
    Traffic,
)
from tests.chaos.proxy.http1 import MessageFramer
from tests.chaos.proxy.http_link import HttpLink
from tests.chaos.proxy.link import ClientSide, GrpcLink, Link, ServerSide
from tests.chaos.proxy.postgres import PostgresLink, written

LOOPBACK = "127.0.0.1"
BACKLOG = 512
COPY_WAITS_SECONDS = 30.0
_LINKS: dict[Framing, Callable[["Crossing", int], Link]] = {
    Framing.HTTP: HttpLink,
    Framing.GRPC: GrpcLink,
    Framing.POSTGRES: PostgresLink,
    Framing.OPAQUE: Link,
}


@dataclass
class Planted:
    """A fault for the next `left` occasions."""

    fault: Fault
    left: int


class Crossing:
    """Decides which fault an occasion meets, and keeps count."""

    def __init__(self, edge: Edge, loop: asyncio.AbstractEventLoop, seed: int, records: list[Fired]) -> None:
        self.edge = edge
        self.loop = loop
        self.random = Random(f"{seed} {edge.name}")  # noqa: S311 — repeatable, not secret
        self.standing: Fault | None = None
        self.planted: list[Planted] = []
        self.clients: set[Link] = set()
        self.held: set[HttpLink] = set()
        self.upstream_open = 0
        self._records = records
        self._accepted = 0
        self._is_met = False
        self._retired_bytes = (0, 0)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # Bound and never listening: the port stays ours while the listener is closed, and a connection is refused.
        self._reserved = _bound(edge.listen_port)
        self.port: int = self._reserved.getsockname()[1]

    # --- faults ---

    @property
    def is_quiet(self) -> bool:
        return self.standing is None and not self.planted

    @property
    def is_frozen(self) -> bool:
        return self.standing is not None and self.standing.kind is FaultKind.PARTITION

    @property
    def standing_shape(self) -> Fault | None:
        return self.standing if self.standing is not None and self.standing.kind in SHAPING else None

    @property
    def connected(self) -> list[Link]:
        """Those that a cut would be felt by: who fell silent before waits for nothing."""
        return [link for link in self.clients if not link.is_silent]

    def meet(self, content: bytes | None = b"", *, at_connect: bool = False) -> Fault | None:
        """The fault for this occasion: the first planted one that fits is used up, else the standing one.

        `content` is None where bytes come by that are no request of their own, so that no acknowledgement follows.
        """
        for planted in self.planted:
            if self._fits(planted.fault, content, at_connect):
                planted.left -= 1
                if not planted.left:
                    self.planted.remove(planted)
                return planted.fault
        if self.standing is not None and self._fits(self.standing, content, at_connect):
            return self.standing
        return None

    def _fits(self, fault: Fault, content: bytes | None, at_connect: bool) -> bool:
        if fault.kind is FaultKind.PARTITION or (fault.kind in AT_CONNECT) != at_connect:
            return False
        if at_connect:
            return True
        wanted = fault.matching
        if content is None:
            return not (wanted or fault.only_changes or fault.kind is FaultKind.DROP_RESPONSE_AFTER_FORWARD)
        if fault.only_changes and not _CHANGES[self.edge.framing](content):
            return False
        if not wanted:
            return True
        # The name of a call is sent compressed, or plainly by clients that do not bother.
        compressed = self.edge.framing is Framing.GRPC and http2.encoded(wanted) in content
        return compressed or wanted.encode() in content

    async def stand(self, fault: Fault) -> None:
        """Put a mode in force in place of the one before.

        A port that refuses also cuts what is connected: who holds one connection for hours would not notice it else.
        """
        await self._heal()
        self.standing = fault
        self._is_met = False
        if fault.kind is FaultKind.REFUSE or (fault.kind is FaultKind.PARTITION and fault.then is Then.RESET):
            self._stop_listening()
            self.divided(len(self.connected))
            self.cut()
        elif fault.kind is FaultKind.PARTITION:
            self.divided(len(self.connected))
            for link in list(self.clients):
                link.freeze()

    def cut(self) -> None:
        """Reset what is connected."""
        for link in list(self.clients):
            link.reset()

    def divided(self, connections: int) -> None:
        """So many were cut or frozen by what stands; that is one fault, and where nobody was connected it is none."""
        if self.standing is not None and connections and not self._is_met:
            self._is_met = True
            self.log(self.standing.kind, None, f"{connections} connections")

    async def clear(self) -> None:
        """Nothing stands, nothing is planted. Connections that fell silent stay so until their client gives up."""
        self.planted.clear()
        await self._heal()

    async def _heal(self) -> None:
        was_frozen, self.standing = self.is_frozen, None
        if was_frozen:
            for link in list(self.clients):
                link.thaw()
        if self._server is None:
            await self.listen()

    def log(self, kind: FaultKind, link: Link | None, about: str) -> None:
        record = Fired(
            monotonic=time.monotonic(),
            at=datetime.now(UTC),
            edge=self.edge.name,
            kind=kind,
            connection=link.number if link else 0,
            bytes_from_client=link.bytes_from_client if link else 0,
            bytes_from_server=link.bytes_from_server if link else 0,
            about=about,
        )
        self._records.append(record)

    # --- connections ---

    async def listen(self) -> None:
        self._server = await self.loop.create_server(self._accept, sock=_bound(self.port), backlog=BACKLOG)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _accept(self) -> ClientSide:
        self._accepted += 1
        return ClientSide(_LINKS[self.edge.framing](self, self._accepted))

    def connect(self, link: Link) -> None:
        """To the server behind; where nobody listens the client is reset."""
        self._run(self._connect(link))

    async def _connect(self, link: Link) -> None:
        try:
            await self.loop.create_connection(lambda: ServerSide(link), self.edge.host, self.edge.port)
        except OSError:
            link.reset()

    def send_copy(self, request: bytes, after_seconds: float) -> None:
        """The same request on a connection of its own; its answer is read and thrown away."""
        self._run(self._send_copy(request, after_seconds))

    async def _send_copy(self, request: bytes, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        # Where the server has died meanwhile, the copy is lost as any packet could be.
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection(self.edge.host, self.edge.port)
            self.upstream_open += 1
            try:
                writer.write(request)
                await asyncio.wait_for(_read_answer(reader, request), COPY_WAITS_SECONDS)
            finally:
                self.upstream_open -= 1
                writer.close()

    def passed(self, link: HttpLink) -> None:
        """An exchange is over: whatever was held back for another to pass may go."""
        for held in [one for one in self.held if one is not link]:
            held.let_go(overtaken=True)

    def point(self, host: str, port: int) -> None:
        """Another server stands behind from now on; connections that are open keep theirs."""
        self.edge = Edge(self.edge.name, host, port, self.edge.framing, self.port)

    def retire(self, link: Link) -> None:
        """Its client is gone."""
        self.clients.discard(link)
        client, server = self._retired_bytes
        self._retired_bytes = (client + link.bytes_from_client, server + link.bytes_from_server)

    def traffic(self) -> Traffic:
        return Traffic(
            accepted=self._accepted,
            open=len(self.clients),
            upstream_open=self.upstream_open,
            bytes_from_client=self._retired_bytes[0] + sum(link.bytes_from_client for link in self.clients),
            bytes_from_server=self._retired_bytes[1] + sum(link.bytes_from_server for link in self.clients),
        )

    async def close(self) -> None:
        self._stop_listening()
        self._reserved.close()
        for link in list(self.clients):
            link.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.loop.shutdown_default_executor()

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_no_look_up(request: bytes) -> bool:
    return request.partition(b" ")[0] not in (b"GET", b"HEAD", b"OPTIONS")


_CHANGES: dict[Framing, Callable[[bytes], bool]] = {
    Framing.HTTP: _is_no_look_up,
    Framing.POSTGRES: lambda statements: bool(written(statements)),
}


async def _read_answer(reader: asyncio.StreamReader, request: bytes) -> None:
    framer = MessageFramer(answers=True)
    framer.method = request.partition(b" ")[0].decode("latin-1")
    while data := await reader.read(65536):
        if any(piece.ends for piece in framer.feed(data)):
            return


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((LOOPBACK, port))
    return made
