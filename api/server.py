"""How our HTTP processes run uvicorn: our own logs, no banner, no version header, a bounded farewell."""

import uvicorn
from starlette.types import ASGIApp

from corridor.runtime.settings import Settings

GRACE_SECONDS = 4
"""Requests under way get this long when the process is asked to stop; open streams end with it."""


def server_of(app: ASGIApp, settings: Settings, port: int) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
