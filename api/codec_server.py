"""Temporal's remote codec: shows sealed payloads in the Temporal UI to those who may see them. `python -m api.codec_server`

Protocol: https://docs.temporal.io/production-deployment/data-encryption (`POST /decode`, `/encode`, protobuf JSON of
`Payloads`). With a token of the installation's own every call needs it. With the public sandbox token there is none,
and only this machine is answered: the peer, the `Host` and the page's origin must all be local, so that neither a
neighbour nor a web page that rebinds its name to 127.0.0.1 can read payments. Every call is logged without content.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NoReturn

import structlog
from cryptography.exceptions import InvalidTag
from fastapi import FastAPI, Request, Response
from google.protobuf import json_format
from starlette.middleware.cors import CORSMiddleware
from temporalio.api.common.v1 import Payload, Payloads

from api.server import server_of
from corridor.runtime import client, keys, logging
from corridor.runtime.converter import SealCodec
from corridor.runtime.settings import SANDBOX_SECRETS, Settings, load

MAX_BODY_BYTES = 8 * 1024 * 1024
"""Temporal's own limit for one history page is 4 MiB; base64 adds a third."""
_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

log = structlog.get_logger(__name__)

Code = Callable[[Sequence[Payload]], Awaitable[list[Payload]]]


class _Denied(Exception):
    """Not one of those who may see payloads."""


@dataclass(frozen=True)
class Door:
    """Who is let in: bearers of `token`, or, without one, this machine's own pages at `origins`."""

    token: str | None
    origins: tuple[str, ...]

    def check(self, request: Request) -> None:
        """Raises `_Denied`."""
        if self.token is not None:
            given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
            if not hmac.compare_digest(given, self.token.encode()):
                raise _Denied
            return
        origin = request.headers.get("origin")
        peer = request.client.host if request.client is not None else ""
        host = request.url.hostname or ""
        if (
            not _is_loopback(peer)
            or host not in _LOCAL_NAMES
            or (origin is not None and origin not in self.origins)
        ):
            raise _Denied


def door(settings: Settings) -> Door:
    """A token everybody knows is none."""
    token = settings.codec_token.get_secret_value()
    ours = token != SANDBOX_SECRETS["codec_token"]
    return Door(token if ours else None, origins(settings))


def origins(settings: Settings) -> tuple[str, ...]:
    """What the settings name, else the embedded Temporal UI under each name this machine has for itself."""
    if settings.codec_origins:
        return settings.codec_origins
    found = {settings.temporal_ui_address}
    if settings.host in _LOCAL_NAMES:
        found |= {f"http://{name}:{settings.temporal_ui_port}" for name in ("127.0.0.1", "localhost")}
    return tuple(sorted(found))


def create_codec_app(codec: SealCodec, namespace: str, who: Door) -> FastAPI:
    """The application; it opens payloads of `namespace` only, because they are sealed for it."""
    app = FastAPI(title="Corridor codec", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=who.origins,
        allow_methods=["POST"],
        allow_headers=["content-type", "x-namespace", "authorization"],
    )

    @app.get("/")
    async def serving() -> Response:
        return Response("corridor codec server\n", media_type="text/plain")

    @app.post("/decode")
    async def decode(request: Request) -> Response:
        return await _coded(request, who, namespace, codec, codec.decode)

    @app.post("/encode")
    async def encode(request: Request) -> Response:
        return await _coded(request, who, namespace, codec, codec.encode)

    return app


async def _coded(request: Request, who: Door, namespace: str, codec: SealCodec, code: Code) -> Response:
    verb = request.url.path.strip("/")
    peer = request.client.host if request.client is not None else "unknown"
    audit = log.bind(verb=verb, peer=peer, namespace=request.headers.get("x-namespace", namespace)[:80])
    try:
        who.check(request)
        payloads = await _payloads(request, namespace)
        coded = await code(payloads)
    except _Denied:
        audit.warning("codec call denied")
        return Response("not allowed\n", 403, media_type="text/plain")
    except (InvalidTag, KeyError):
        audit.warning("codec call failed", reason="sealed under another key or for another namespace")
        return Response("these payloads cannot be opened here\n", 400, media_type="text/plain")
    except (json_format.ParseError, ValueError):
        audit.warning("codec call failed", reason="not the codec protocol")
        return Response("send Payloads as protobuf JSON\n", 400, media_type="text/plain")
    audit.info("codec call", payloads=len(payloads), key_ids=sorted(codec.key_ids(payloads)))
    return Response(
        json_format.MessageToJson(Payloads(payloads=coded), indent=None), media_type="application/json"
    )


async def _payloads(request: Request, namespace: str) -> Sequence[Payload]:
    """The payloads of the body. Raises `ValueError` for anything a codec client would not send."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        # Also what keeps a web page from sending without a preflight, which CORS then refuses.
        _not_the_protocol()
    if request.headers.get("x-namespace", namespace) != namespace:
        _not_the_protocol()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            _not_the_protocol()
    parsed: Payloads = json_format.Parse(bytes(body), Payloads())
    return list(parsed.payloads)


def _not_the_protocol() -> NoReturn:
    raise ValueError("not the codec protocol")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = load()
    logging.configure(settings, "codec")
    namespace = client.namespace(settings)
    app = create_codec_app(SealCodec(keys.load(settings), namespace), namespace, door(settings))
    asyncio.run(server_of(app, settings, settings.codec_port).serve())


if __name__ == "__main__":
    main()
