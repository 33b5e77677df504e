"""The sandbox's HTTP server: uvicorn with the protocol that can break connections."""

import uvicorn

from corridor.sandbox.app import create_app
from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.transport import SandboxProtocol

# Connections whose answer is withheld on purpose must not hold up a stop.
STOP_SECONDS = 1


def build_server(config: SandboxConfig) -> uvicorn.Server:
    """A server ready to run; opens the books."""
    return uvicorn.Server(
        uvicorn.Config(
            create_app(config),
            host=config.host,
            port=config.port,
            http=SandboxProtocol,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=STOP_SECONDS,
            timeout_keep_alive=75,
            backlog=512,
        )
    )
