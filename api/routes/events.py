"""Events: of one payment without gaps, of a merchant in feed order, and as a stream that resumes where it broke."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from api import crowd
from api.auth import AsMerchant
from api.dependencies import ApiDependencies, Deps
from api.feed import Feed, bounds
from api.paging import Limit, listing
from api.problems import FieldError, Problem
from api.responses import ok
from api.schemas.event import EventList
from api.schemas.problem import problems
from corridor.domain.ids import Prefix, checked
from corridor.storage import events, payments, refunds
from corridor.storage.payments import render

HEARTBEAT_SECONDS = 15
SLOW_READER_SECONDS = 10
"""A client that does not take a chunk for this long is disconnected; it resumes by Last-Event-ID."""
RETRY_MILLISECONDS = 3000
PAGE = 100
MAX_POSITION = 2**53

Sequence = Annotated[int, Query(ge=0, le=MAX_POSITION)]
Position = Annotated[int, Query(ge=0, le=MAX_POSITION)]

router = APIRouter(tags=["events"])


@router.get("/v1/payments/{payment_id}/events", responses={200: {"model": EventList}, **problems()})
async def list_payment_events(
    payment_id: str, merchant: AsMerchant, deps: Deps, after_sequence: Sequence = 0, limit: Limit = 100
) -> Response:
    """The payment's events after `after_sequence`, without gaps."""
    await deps.database.read(payments.owned, merchant.id, checked(payment_id, Prefix.PAYMENT))
    return await _of_object(deps, merchant.id, payment_id, after_sequence, limit)


@router.get("/v1/refunds/{refund_id}/events", responses={200: {"model": EventList}, **problems()})
async def list_refund_events(
    refund_id: str, merchant: AsMerchant, deps: Deps, after_sequence: Sequence = 0, limit: Limit = 100
) -> Response:
    """The refund's events after `after_sequence`, without gaps."""
    await deps.database.read(refunds.owned, merchant.id, checked(refund_id, Prefix.REFUND))
    return await _of_object(deps, merchant.id, refund_id, after_sequence, limit)


@router.get("/v1/events", responses={200: {"model": EventList}, **problems(410)})
async def list_events(
    merchant: AsMerchant, deps: Deps, after_position: Position = 0, limit: Limit = 100
) -> Response:
    """The merchant's feed after `after_position`; nothing is ever skipped."""
    await _require_kept(deps, after_position)
    found = await deps.database.read(events.feed, merchant.id, after_position, limit + 1)
    cursor = str(found[limit - 1]["position"]) if len(found) > limit else None
    return ok(listing(found[:limit], len(found) > limit, cursor))


@router.get(
    "/v1/events/stream",
    response_class=EventSourceResponse,
    responses={
        200: {"description": "`id` is the position, `event` the type", "content": {"text/event-stream": {}}},
        **problems(410),
    },
)
async def stream_events(
    request: Request,
    merchant: AsMerchant,
    deps: Deps,
    after_position: Position = 0,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=20)] = None,
) -> EventSourceResponse:
    """The feed as it grows. A broken connection resumes after `Last-Event-ID`."""
    position = _read_position(last_event_id) if last_event_id else after_position
    await _require_kept(deps, position)
    crowd.leave(request.scope)  # it will be open for minutes, and has places of its own
    request.app.state.streams.enter(merchant.id, request.scope)
    return EventSourceResponse(
        _stream(deps, request.app.state.feed, merchant.id, position),
        ping=HEARTBEAT_SECONDS,
        ping_message_factory=lambda: ServerSentEvent(comment="still here"),
        send_timeout=SLOW_READER_SECONDS,
    )


async def _stream(
    deps: ApiDependencies, feed: Feed, merchant_id: str, position: int
) -> AsyncIterator[ServerSentEvent]:
    """Read after every wake-up; end after the stream's life, when a client reconnects anyway."""
    loop = asyncio.get_running_loop()
    until = loop.time() + deps.stream_life.total_seconds()
    with feed.listening(merchant_id) as grown:
        while (left := until - loop.time()) > 0 and not feed.stopping.is_set():
            grown.clear()
            found = await deps.database.read(events.feed, merchant_id, position, PAGE)
            for event in found:
                position = event["position"]
                yield ServerSentEvent(
                    render(event), event=event["type"], id=str(position), retry=RETRY_MILLISECONDS
                )
            if len(found) < PAGE:
                await _woken(grown, left)


async def _woken(grown: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await grown.wait()
    except TimeoutError:
        return


async def _of_object(
    deps: ApiDependencies, merchant_id: str, object_id: str, after_sequence: int, limit: int
) -> Response:
    found = await deps.database.read(events.of_object, merchant_id, object_id, after_sequence, limit + 1)
    cursor = str(found[limit - 1]["sequence"]) if len(found) > limit else None
    return ok(listing(found[:limit], len(found) > limit, cursor))


async def _require_kept(deps: ApiDependencies, position: int) -> None:
    """A position nobody was given is not ours (a feed restored from a backup may be shorter): start over."""
    oldest, newest = await deps.database.read(bounds)
    if position > newest:
        raise Problem(
            "event_cursor_expired",
            f"this feed ends at position {newest}; read it again from the oldest",
            facts={"oldest_position": oldest},
        )


def _read_position(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_POSITION):
        detail = "Last-Event-ID is the id of an event of this stream"
        raise Problem(
            "invalid_parameter", detail, [FieldError("header/Last-Event-ID", "invalid_parameter", detail)]
        )
    return int(text)
