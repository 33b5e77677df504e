"""One client's connection and the connection behind it, as bytes; and what a fault does to both."""

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Protocol

from tests.chaos.proxy.fault import SHAPING, Fault, FaultKind, Then
from tests.chaos.proxy.http2 import DATA, HEADERS, FrameScanner
from tests.chaos.proxy.pipe import Pipe

if TYPE_CHECKING:
    from tests.chaos.proxy.crossing import Crossing

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Link:
    """Bytes between a client and the server behind the proxy; a link of its own for each client connection.

    A request is whatever the client sends next, and its answer whatever the server sends after that.
    """

    def __init__(self, crossing: "Crossing", number: int) -> None:
        self.crossing = crossing
        self.number = number
        self.bytes_from_client = 0
        self.bytes_from_server = 0
        self.up = Pipe(crossing.loop, crossing.random)
        self.down = Pipe(crossing.loop, crossing.random)
        self.client: asyncio.Transport | None = None
        self.server: asyncio.Transport | None = None
        self.is_silent = False
        """Whatever comes from now on is swallowed."""
        self._met: Fault | None = None
        """The fault that waits for the answer."""
        self._left = 0
        self._logged: Fault | None = None
        self._is_dialled = False

    # --- the two connections ---

    def client_connected(self, transport: asyncio.Transport) -> None:
        self.client = transport
        self.up.attach(source=transport)
        self.down.attach(sink=transport)
        fault = self.crossing.meet(at_connect=True)
        if fault is not None:
            self.fired(fault)
            if fault.kind is FaultKind.REFUSE:
                self.reset()
            else:
                self.is_silent = True
        elif self.crossing.is_frozen:
            self.crossing.divided(1)
            self.freeze()
        else:
            self._dial()

    def _dial(self) -> None:
        self._is_dialled = True
        self.crossing.connect(self)

    def server_connected(self, transport: asyncio.Transport) -> None:
        if self.is_silent:
            transport.abort()
            return
        self.server = transport
        self.down.attach(source=transport)
        self.up.attach(sink=transport)

    def client_gone(self, error: Exception | None) -> None:
        """What it sent still goes to the server; a reset goes there at once."""
        self.client = None
        self.is_silent = True
        self.down.discard()
        if error is None:
            self.up.finish(self._close_server)
        else:
            self.up.discard()
            _reset(self.server)

    def server_gone(self, error: Exception | None) -> None:
        """What it answered still goes to the client; a reset goes there at once."""
        self.server = None
        if self.is_silent:
            return
        if error is None:
            self.down.finish(self._close_client)
        else:
            self.reset()

    def freeze(self) -> None:
        self.up.freeze()
        self.down.freeze()

    def thaw(self) -> None:
        if not self._is_dialled and not self.is_silent:
            self._dial()
        self.up.thaw()
        self.down.thaw()

    # --- how a link ends ---

    def reset(self) -> None:
        """RST to both."""
        self.is_silent = True
        self.up.discard()
        self.down.discard()
        _reset(self.client)
        _reset(self.server)

    def fall_silent(self) -> None:
        """The client stays connected and is never answered."""
        self.is_silent = True
        self.up.discard()
        self.down.discard()
        _reset(self.server)

    def end(self, then: Then) -> None:
        if then is Then.RESET:
            self.reset()
        else:
            self.fall_silent()

    def cut_short(self) -> None:
        """FIN to the client behind what was sent so far, although there was more."""
        self.is_silent = True
        self.down.finish(self._close_client)
        _reset(self.server)

    def _close_client(self) -> None:
        if self.client is not None:
            self.client.close()

    def _close_server(self) -> None:
        if self.server is not None:
            self.server.close()

    # --- bytes ---

    def from_client(self, data: bytes) -> None:
        self.bytes_from_client += len(data)
        if self.is_silent:
            return
        fault = None if self.crossing.is_quiet or self._met else self.occasion(data)
        if fault is None:
            self.up.send(data)
        elif fault.kind in SHAPING:
            self._late(fault)
            self.up.send(data, fault)
        elif fault.kind is FaultKind.RST:
            self.fired(fault)
            self.reset()
        else:
            self._met, self._left = fault, fault.after_bytes
            self.up.send(data)

    def from_server(self, data: bytes) -> None:
        self.bytes_from_server += len(data)
        if self.is_silent:
            return
        fault = self._met
        if fault is None:
            self.down.send(data, self.crossing.standing_shape)
        elif fault.kind is FaultKind.DROP_RESPONSE_AFTER_FORWARD:
            if not self.is_answer(data):
                self.down.send(data)
                return
            self.fired(fault)
            self.end(fault.then)
        else:
            self.pass_up_to_limit(fault, data)

    def occasion(self, data: bytes) -> Fault | None:
        """The fault that these bytes of the client meet."""
        return self.crossing.meet(data)

    def is_answer(self, data: bytes) -> bool:
        """Whether the server answers, with these bytes, what met the fault."""
        return bool(data)

    def pass_up_to_limit(self, fault: Fault, data: bytes) -> None:
        """Truncate and stall_after: the first bytes of an answer, and no more."""
        if self._left:
            self.down.send(data[: self._left])
        if len(data) <= self._left:
            self._left -= len(data)
            return
        self.fired(fault)
        if fault.kind is FaultKind.TRUNCATE:
            self.cut_short()
        else:
            self.is_silent = True
            _reset(self.server)

    def limit(self, count: int) -> None:
        self._left = count

    # --- the log ---

    def fired(self, fault: Fault, about: str = "") -> None:
        self.crossing.log(fault.kind, self, about or fault.matching)

    def _late(self, fault: Fault) -> None:
        """A standing delay of a stream is one fault of this connection, however many chunks it holds up."""
        is_standing = fault is self.crossing.standing
        if not is_standing or self._logged is not fault:
            self.fired(fault)
        self._logged = fault if is_standing else self._logged


class GrpcLink(Link):
    """Knows which stream of HTTP/2 a fault has met, so that an answer is lost and not just any frame."""

    def __init__(self, crossing: "Crossing", number: int) -> None:
        super().__init__(crossing, number)
        self._calls = FrameScanner(preface=True)
        self._answers = FrameScanner(preface=False)
        self._opened: list[tuple[int, bytes]] = []
        self._answered: set[int] = set()
        self._stream = 0

    def from_client(self, data: bytes) -> None:
        self._opened = [
            (frame.stream, frame.payload) for frame in self._calls.feed(data) if frame.kind == HEADERS
        ]
        super().from_client(data)

    def from_server(self, data: bytes) -> None:
        self._answered = {frame.stream for frame in self._answers.feed(data) if frame.kind in (DATA, HEADERS)}
        super().from_server(data)

    def occasion(self, data: bytes) -> Fault | None:
        for stream, head in self._opened:
            fault = self.crossing.meet(head)
            if fault is not None:
                self._stream = stream
                return fault
        return None

    def is_answer(self, data: bytes) -> bool:
        return self._stream in self._answered


class _Receiver(Protocol):
    def __call__(self, data: bytes) -> None: ...


class ClientSide(asyncio.Protocol):
    """The connection that a client made to the proxy."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.data_received: _Receiver = link.from_client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._link.crossing.clients.add(self._link)
        self._link.client_connected(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.crossing.retire(self._link)
        self._link.client_gone(exc)

    def pause_writing(self) -> None:
        self._link.down.sink_full(True)

    def resume_writing(self) -> None:
        self._link.down.sink_full(False)


class ServerSide(asyncio.Protocol):
    """The connection that the proxy made to the server behind it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.data_received: _Receiver = link.from_server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._link.crossing.upstream_open += 1
        self._link.server_connected(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.crossing.upstream_open -= 1
        self._link.server_gone(exc)

    def pause_writing(self) -> None:
        self._link.up.sink_full(True)

    def resume_writing(self) -> None:
        self._link.up.sink_full(False)


def _reset(transport: asyncio.Transport | None) -> None:
    if transport is None:
        return
    if not transport.is_closing():
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
