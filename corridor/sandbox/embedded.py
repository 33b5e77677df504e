"""A sandbox inside the running process, on a thread and a free port: for tests and short scripts."""

import asyncio
import threading
import time
from types import TracebackType

from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.server import build_server

START_SECONDS = 10


class EmbeddedSandbox:
    """`with EmbeddedSandbox(config) as sandbox: httpx.get(sandbox.url + "/control/health")`."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self._server = build_server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()), daemon=True)

    @property
    def port(self) -> int:
        """The port it really listens on."""
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Base of all sandbox addresses; the Stripe adapter's base is this plus `/stripe`."""
        return f"http://{self.config.host}:{self.port}"

    def __enter__(self) -> "EmbeddedSandbox":
        """Serve, and return once it accepts connections."""
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError("the sandbox did not start")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop and close the books."""
        self._server.should_exit = True
        self._thread.join()
