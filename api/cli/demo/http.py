"""The HTTP clients that drive an installation: hundreds of requests at once over a bounded number of connections."""

import asyncio
from typing import Any

import httpx


class InTurn(httpx.AsyncClient):
    """A client of which at most `at_once` requests are under way; others wait their turn before the pool sees them.

    The pool looks at every connection for every request that waits in it, each time one comes or goes: a few hundred
    of both keep a core busy with nothing else. Streams are opened at once and need connections beyond `at_once`.
    """

    def __init__(self, base_url: str, at_once: int, timeout_seconds: float) -> None:
        limits = httpx.Limits(max_connections=2 * at_once, max_keepalive_connections=at_once)
        super().__init__(base_url=base_url, limits=limits, timeout=timeout_seconds, trust_env=False)
        self._free = asyncio.Semaphore(at_once)

    async def request(self, *args: Any, **options: Any) -> httpx.Response:
        """As of any client, in turn; the timeout counts from the turn."""
        async with self._free:
            return await super().request(*args, **options)
