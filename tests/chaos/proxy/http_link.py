"""One client's HTTP/1.1 connection, request by request: each is held until it is whole, its answer streams."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.chaos.proxy.fault import SHAPING, Fault, FaultKind
from tests.chaos.proxy.http1 import MessageFramer, NotHttp, Piece
from tests.chaos.proxy.link import Link

if TYPE_CHECKING:
    from tests.chaos.proxy.crossing import Crossing

REORDER_WAITS_MILLISECONDS = 1000


@dataclass(frozen=True)
class Request:
    """One whole request as it came."""

    data: bytes

    @property
    def line(self) -> str:
        return self.data.partition(b"\r\n")[0].decode("latin-1")

    @property
    def method(self) -> str:
        return self.line.partition(" ")[0]


class HttpLink(Link):
    """One exchange at a time. What is no HTTP/1.1 passes as it is, so that hostile input arrives as it was sent."""

    def __init__(self, crossing: "Crossing", number: int) -> None:
        super().__init__(crossing, number)
        self._requests = MessageFramer(answers=False)
        self._answers = MessageFramer(answers=True)
        self._part = bytearray()
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._release: asyncio.TimerHandle | None = None
        self._is_raw = False

    def from_client(self, data: bytes) -> None:
        self.bytes_from_client += len(data)
        if self.is_silent:
            return
        if self._is_raw:
            self.up.send(data)
            return
        try:
            self._collect(data)
        except NotHttp:
            self._is_raw = True
            self.up.send(bytes(self._part) + self._requests.rest())
        self._next()

    def _collect(self, data: bytes) -> None:
        for piece in self._requests.feed(data):
            self._part += piece.data
            if piece.ends:
                self._waiting.append(Request(bytes(self._part)))
                self._part.clear()

    def _next(self) -> None:
        if self._current is not None or not self._waiting or self.is_silent:
            return
        self._current = request = self._waiting.popleft()
        self._answers.method = request.method
        self._met = fault = self.crossing.meet(request.data)
        if fault is None:
            self.up.send(request.data)
        else:
            self._meet(fault, request)

    def _meet(self, fault: Fault, request: Request) -> None:
        match fault.kind:
            case FaultKind.RST:
                self.fired(fault, request.line)
                self.reset()
            case FaultKind.DROP_REQUEST:
                self.fired(fault, request.line)
                self.is_silent = True
                self._close_server()
            case FaultKind.REORDER:
                wait = fault.milliseconds or REORDER_WAITS_MILLISECONDS
                self.crossing.held.add(self)
                self._release = self.crossing.loop.call_later(wait / 1000, self.let_go)
            case FaultKind.DUPLICATE:
                self.fired(fault, request.line)
                self.up.send(request.data)
                self.crossing.send_copy(request.data, fault.milliseconds / 1000)
            case kind if kind in SHAPING:
                self.fired(fault, request.line)
                self.up.send(request.data, fault)
            case _:
                self.limit(fault.after_bytes)
                self.up.send(request.data)

    def let_go(self, *, overtaken: bool = False) -> None:
        """Send the held request: another has overtaken it, or none came in time, which reorders nothing."""
        self.crossing.held.discard(self)
        if self._release is not None:
            self._release.cancel()
        if self._current is None or self._met is None or self.is_silent:
            return
        if overtaken:
            self.fired(self._met, self._current.line)
        self.up.send(self._current.data)

    def from_server(self, data: bytes) -> None:
        self.bytes_from_server += len(data)
        if self._is_raw or self._current is None:
            if not self.is_silent:
                self.down.send(data)
            return
        try:
            for piece in self._answers.feed(data):
                self._answer(piece)
        except NotHttp:
            self._is_raw = True
            if not self.is_silent:
                self.down.send(self._answers.rest())

    def _answer(self, piece: Piece) -> None:
        fault, request = self._met, self._current
        if self.is_silent or request is None:
            return
        if fault is None or fault.kind in (FaultKind.DUPLICATE, FaultKind.REORDER):
            self.down.send(piece.data)
        elif fault.kind in SHAPING:
            self.down.send(piece.data, fault)
        elif fault.kind is not FaultKind.DROP_RESPONSE_AFTER_FORWARD:
            self.pass_up_to_limit(fault, piece.data)
        elif piece.ends:
            self._lose(fault, request)
        if piece.ends:
            self._ended()

    def _ended(self) -> None:
        self._current = self._met = None
        self.crossing.passed(self)
        self._next()

    def _lose(self, fault: Fault, request: Request) -> None:
        self.fired(fault, request.line)
        self.end(fault.then)

    def client_gone(self, error: Exception | None) -> None:
        self.crossing.held.discard(self)
        super().client_gone(error)

    def server_gone(self, error: Exception | None) -> None:
        """For some answers the end of the connection is their end."""
        if self._current is not None and self._answers.ends_at_close and not self.is_silent:
            if self._met is not None and self._met.kind is FaultKind.DROP_RESPONSE_AFTER_FORWARD:
                self._lose(self._met, self._current)
            self._current = None
            self.crossing.passed(self)
        super().server_gone(error)
