"""How our HTTP processes run uvicorn: our own logs, no banner, no version header, a bounded farewell."""

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from corridor.runtime.settings import Settings

GRACE_SECONDS = 4
"""Requests under way get this long when the process is asked to stop; open streams end with it."""
LEAVE_AFTER_SECONDS = 2.0
"""Half of it: then whoever waits for a workflow is answered with what there is, while there is time to answer."""


class Server(uvicorn.Server):
    """uvicorn, which tells before it cuts requests off. `leave` is called in time to answer them instead."""

    def __init__(self, config: uvicorn.Config, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._leave = leave

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(LEAVE_AFTER_SECONDS, self._leave)
        await super().shutdown(sockets)


def server_of(
    app: ASGIApp, settings: Settings, port: int, leave: Callable[[], None] = lambda: None
) -> uvicorn.Server:
    """A server of `app`; `leave` ends what its requests wait for."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return Server(config, leave)
