"""HTTP to Stripe: one pool, pinned version, no redirects, bounded bodies; says whether bytes may have left."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr

from corridor.domain.effect import FrozenRequest
from corridor.providers.document import Document, parse

MAXIMUM_BODY_BYTES = 4 * 1024 * 1024
"""A page of 100 balance transactions with their charges is about 0.7 MB."""

CONNECT_SECONDS = 3.0
POOL_SECONDS = 2.0
LONGEST_RETRY_AFTER_SECONDS = 3600

Query = Sequence[tuple[str, str]]


class NeverSent(Exception):
    """No connection was made, so no byte of the request can have arrived."""


class MaybeSent(Exception):
    """The exchange broke after bytes may have left; its effect is unknown."""


@dataclass(frozen=True)
class Reply:
    """An HTTP answer. `document` is None when the body is no JSON object or exceeds the limit."""

    status: int
    document: Document | None
    request_id: str | None
    retry_after_seconds: int | None
    replayed: bool


class StripeClient:
    """Owns the connection pool. Its callers own the total deadline."""

    def __init__(
        self,
        base_url: str,
        secret_key: SecretStr,
        api_version: str,
        timeout_seconds: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._secret_key = secret_key
        self._http = httpx.AsyncClient(
            transport=transport,
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(
                timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds), pool=POOL_SECONDS
            ),
            # Idle connections are dropped before the other side does it: a send on a dying one would be "unknown".
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=20.0),
            headers={"Stripe-Version": api_version, "Accept-Encoding": "identity", "User-Agent": "corridor"},
        )

    async def post(self, request: FrozenRequest, effect_key: str) -> Reply:
        """Send the frozen bytes, once, under the effect key. Raises `NeverSent` or `MaybeSent`."""
        headers = {"Idempotency-Key": effect_key, "Content-Type": request.content_type}
        return await self._exchange(
            request.method, request.path, content=request.body.encode(), headers=headers
        )

    async def get(self, path: str, query: Query = ()) -> Reply:
        """Read; any query is already in wire form. Raises `NeverSent` or `MaybeSent`."""
        return await self._exchange("GET", path, params=httpx.QueryParams(list(query)) if query else None)

    async def close(self) -> None:
        await self._http.aclose()

    async def _exchange(self, method: str, path: str, **parts: Any) -> Reply:
        headers = {
            "Authorization": f"Bearer {self._secret_key.get_secret_value()}",
            **parts.pop("headers", {}),
        }
        try:
            async with self._http.stream(method, self._base_url + path, headers=headers, **parts) as response:
                return _reply(response, await _bounded(response))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            # Name resolution, TCP and the TLS handshake all end in these, before the request's first byte.
            raise NeverSent(type(error).__name__) from None
        except httpx.HTTPError as error:
            raise MaybeSent(type(error).__name__) from None


async def _bounded(response: httpx.Response) -> bytes | None:
    """The body, or None as soon as it exceeds the limit."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAXIMUM_BODY_BYTES:
            return None
    return bytes(body)


def _reply(response: httpx.Response, body: bytes | None) -> Reply:
    headers = Document(dict(response.headers))
    retry_after = headers.text("retry-after") or ""
    seconds = (
        int(retry_after)
        if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10
        else None
    )
    return Reply(
        status=response.status_code,
        document=None if body is None else parse(body),
        request_id=headers.word("request-id"),
        retry_after_seconds=None if seconds is None else min(seconds, LONGEST_RETRY_AFTER_SECONDS),
        replayed=headers.text("idempotent-replayed") == "true",
    )
