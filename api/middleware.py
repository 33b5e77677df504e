"""What happens to every request: an id, a span, limits before anything else, problems instead of exceptions."""

import asyncio
import time
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.propagate import extract
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import crowd, limits
from api.problems import Problem
from corridor.domain.ids import Prefix, new_id
from corridor.runtime import metrics

VERSION = "2026-11-01"
"""The one dated version there is; clients may pin it with `Corridor-Version`."""

log = structlog.get_logger(__name__)
_tracer = trace.get_tracer("corridor.api")


class Edge:
    """The outermost layer. Bodies, queries and headers never reach the log; only route, status and ids do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        clock = scope["app"].state.dependencies.clock
        request_id = new_id(Prefix.REQUEST, clock())
        scope.setdefault("state", {}).update(request_id=request_id, document=None)
        reply = _Reply(send, request_id)
        parent = extract(dict(Headers(scope=scope)))
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            _tracer.start_as_current_span(scope["method"], parent, trace.SpanKind.SERVER) as span,
        ):
            begun = time.monotonic()
            try:
                await self._answer(scope, receive, reply)
            finally:
                crowd.leave(scope)
            _tell(scope, span, reply.status, time.monotonic() - begun)

    async def _answer(self, scope: Scope, receive: Receive, reply: "_Reply") -> None:
        try:
            await self._app(scope, await _checked(scope, receive), reply)
        except Problem as problem:
            await _send(problem, scope, receive, reply)
        except asyncio.CancelledError:
            # Only a server that stops cuts a request off; whether it was carried out, its key finds out.
            if not reply.status:
                ours = Problem("unavailable", "this server is stopping; repeat it", money_state="unknown")
                await _send(ours, scope, receive, reply)
            raise
        except Exception:
            log.exception("request failed")
            if not reply.status:
                ours = Problem("internal_error", "this is our error; it was recorded")
                await _send(ours, scope, receive, reply)


class _Reply:
    """Sends, notes the status, and adds the headers every answer has."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["Request-Id"] = self._request_id
            headers["Corridor-Version"] = VERSION
            headers["Cache-Control"] = "no-store"
            headers["X-Content-Type-Options"] = "nosniff"
        await self._send(message)


async def _checked(scope: Scope, receive: Receive) -> Receive:
    """Read and judge the body once; the application gets the same bytes again."""
    limits.check_target(scope)
    wanted = Headers(scope=scope).get("corridor-version", VERSION)
    if wanted != VERSION:
        raise Problem("unsupported_version", f"the only version is {VERSION}")
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return receive
    body = await limits.read_body(scope, receive)
    scope["state"]["document"] = limits.check_json(scope, body)
    return limits.replay_of(body, receive)


async def _send(problem: Problem, scope: Scope, receive: Receive, reply: _Reply) -> None:
    # A path that holds a card number is not sent back.
    instance = "/" if problem.code == "account_data_not_accepted" else scope["path"]
    response = problem.response(instance, scope["state"]["request_id"])
    await response(scope, receive, reply)


def _tell(scope: Scope, span: trace.Span, status: int, seconds: float) -> None:
    route: Any = scope.get("route")
    template = getattr(route, "path", "(none)")
    span.update_name(f"{scope['method']} {template}")
    span.set_attributes(
        {"http.request.method": scope["method"], "http.route": template, "http.response.status_code": status}
    )
    metrics.request_answered(scope["method"], template, status)
    log.info("request", method=scope["method"], route=template, status=status, seconds=round(seconds, 4))
