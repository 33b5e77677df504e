"""How our HTTP processes run uvicorn: our own logs, no banner, no version header, a bounded farewell."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from corridor.runtime.settings import Settings

GRACE_SECONDS = 4
"""Requests under way get this long when the process is asked to stop; open streams end with it."""
LEAVE_AFTER_SECONDS = 2.0
"""Half of it: then whoever waits for a workflow is answered with what there is, while there is time to answer."""
LOOK_SECONDS = 0.1
GONE_AFTER_MILLISECONDS = 30_000
"""A client whose machine no longer acknowledges what it is sent is gone. By itself the kernel takes a quarter of an
hour to say so, and an event stream would keep its place as long."""


@dataclass(frozen=True)
class Farewell:
    """What a server does between the signal and its end.

    `close` is called at once, then the server goes on for `drain_seconds`: load balancers learn from `/readyz` that it
    closes, and send their requests elsewhere before they would be refused. `leave` is called in time to answer the
    requests that are still under way.
    """

    drain_seconds: float = 0.0
    close: Callable[[], None] = lambda: None
    leave: Callable[[], None] = lambda: None


AT_ONCE = Farewell()


class Server(uvicorn.Server):
    """uvicorn, with a farewell before it closes its listener and before it cuts requests off."""

    def __init__(self, config: uvicorn.Config, farewell: Farewell) -> None:
        super().__init__(config)
        self._farewell = farewell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in (it for server in self.servers for it in server.sockets):
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_AFTER_MILLISECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._farewell.close()
        await self._drain()
        asyncio.get_running_loop().call_later(LEAVE_AFTER_SECONDS, self._farewell.leave)
        await super().shutdown(sockets)

    async def _drain(self) -> None:
        for _ in range(round(self._farewell.drain_seconds / LOOK_SECONDS)):
            if self.force_exit:  # a second Ctrl-C
                return
            await asyncio.sleep(LOOK_SECONDS)


def server_of(app: ASGIApp, settings: Settings, port: int, farewell: Farewell = AT_ONCE) -> uvicorn.Server:
    """A server of `app`."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return Server(config, farewell)
