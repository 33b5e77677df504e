"""Connection-level faults that are real on the wire, done on the socket under uvicorn.

How: `SandboxProtocol` is uvicorn's own HTTP/1.1 protocol which adds its asyncio transport to each request's
scope. A fault is then an ordinary Starlette response whose "sending" is something no HTTP answer can express:

* `ResetConnection` sets SO_LINGER(1, 0) and aborts, so the kernel sends RST: the client reads ECONNRESET.
* `DropConnection` closes without a byte of answer (FIN): the client reads an empty reply.
* `WithholdAnswer` keeps the connection open and silent (half-open seen from the client) until the client's own
  timeout closes it or the hold time ends, then resets it.
"""

import asyncio
import socket
import struct
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

TRANSPORT = "corridor.sandbox.transport"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class SandboxProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, with the connection's transport visible to the application."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give every request of this connection a scope that carries its transport."""
        super().connection_made(transport)
        application = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            scope[TRANSPORT] = transport
            await application(scope, receive, send)

        self.app = with_transport


class ResetConnection(Response):
    """The connection breaks with RST and no answer."""

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        """Abort now."""
        _reset(_transport(scope))
        await _until_disconnected(receive)


class DropConnection(Response):
    """The connection ends with FIN and no answer."""

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        """Close now."""
        _transport(scope).close()
        await _until_disconnected(receive)


class WithholdAnswer(Response):
    """The connection stays open and silent."""

    def __init__(self, hold_seconds: int) -> None:
        super().__init__()
        self.hold_seconds = hold_seconds

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        """Wait for the client to give up; reset when it outlasts the hold."""
        transport = _transport(scope)
        try:
            async with asyncio.timeout(self.hold_seconds):
                await _until_disconnected(receive)
        except TimeoutError:
            _reset(transport)
            await _until_disconnected(receive)


def _transport(scope: Scope) -> asyncio.Transport:
    transport = scope.get(TRANSPORT)
    if not isinstance(transport, asyncio.Transport):
        raise RuntimeError("connection faults need the sandbox's own server (python -m corridor.sandbox)")
    return transport


def _reset(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
