"""Webhook endpoints: where a merchant wants its events. The secret is shown once and sealed at rest."""

import base64
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Response
from sqlalchemy import Connection

from api.auth import AsMerchant
from api.dependencies import ApiDependencies, Deps
from api.idempotency import AsOnce, Once, answered, claiming
from api.paging import listing
from api.problems import Problem
from api.responses import object_of, ok
from api.schemas.problem import problems
from api.schemas.webhook_endpoint import (
    EndpointChange,
    EndpointInput,
    EndpointList,
    EndpointView,
    NewEndpointView,
)
from corridor.domain.failure import Refusal, Refused
from corridor.domain.ids import Prefix, checked, new_id
from corridor.notify.outbound import Rules, checked_url
from corridor.notify.signing import new_secret
from corridor.storage import idempotency, webhook_endpoints
from corridor.storage.idempotency import Replay
from corridor.storage.payments import render

router = APIRouter(tags=["webhook endpoints"])

IfMatch = Annotated[
    str | None, Header(alias="If-Match", max_length=32, description="the ETag of the last read")
]


@router.post(
    "/v1/webhook_endpoints",
    status_code=201,
    responses={201: {"model": NewEndpointView}, **problems(409, 422)},
)
async def create_webhook_endpoint(
    body: EndpointInput, merchant: AsMerchant, once: AsOnce, deps: Deps
) -> Response:
    """The answer holds the secret that signs deliveries; afterwards nobody can read it here."""
    _require_url(deps, body.url)
    endpoint_id = new_id(Prefix.WEBHOOK_ENDPOINT, deps.clock())
    answer, is_new = await claiming(deps, _create, deps, once, merchant.id, endpoint_id, body, deps.clock())
    return answered(_opened(deps, once, answer), replayed=not is_new)


@router.get("/v1/webhook_endpoints", responses={200: {"model": EndpointList}, **problems()})
async def list_webhook_endpoints(merchant: AsMerchant, deps: Deps) -> Response:
    rows = await deps.database.read(webhook_endpoints.of_merchant, merchant.id)
    return ok(listing([webhook_endpoints.view(row) for row in rows], has_more=False, next_cursor=None))


@router.get("/v1/webhook_endpoints/{endpoint_id}", responses={200: {"model": EndpointView}, **problems()})
async def get_webhook_endpoint(endpoint_id: str, merchant: AsMerchant, deps: Deps) -> Response:
    checked(endpoint_id, Prefix.WEBHOOK_ENDPOINT)
    row = await deps.database.read(webhook_endpoints.owned, merchant.id, endpoint_id)
    return object_of(webhook_endpoints.view(row), row.version)


@router.patch(
    "/v1/webhook_endpoints/{endpoint_id}",
    responses={200: {"model": EndpointView}, **problems(412, 422, 428)},
)
async def change_webhook_endpoint(
    endpoint_id: str, body: EndpointChange, merchant: AsMerchant, deps: Deps, if_match: IfMatch = None
) -> Response:
    """Change what is sent in the body; a disabled endpoint is enabled again here."""
    checked(endpoint_id, Prefix.WEBHOOK_ENDPOINT)
    version = _version(if_match)
    if body.url is not None:
        _require_url(deps, body.url)
    changes = body.model_dump(exclude_none=True)
    try:
        row = await deps.database.write(webhook_endpoints.change, merchant.id, endpoint_id, version, changes)
    except webhook_endpoints.VersionMoved:
        raise _stale() from None
    return object_of(webhook_endpoints.view(row), row.version)


@router.delete(
    "/v1/webhook_endpoints/{endpoint_id}", status_code=204, responses={204: {}, **problems(412, 428)}
)
async def delete_webhook_endpoint(
    endpoint_id: str, merchant: AsMerchant, deps: Deps, if_match: IfMatch = None
) -> Response:
    checked(endpoint_id, Prefix.WEBHOOK_ENDPOINT)
    try:
        await deps.database.write(webhook_endpoints.remove, merchant.id, endpoint_id, _version(if_match))
    except webhook_endpoints.VersionMoved:
        raise _stale() from None
    return Response(status_code=204)


def _create(
    connection: Connection,
    deps: ApiDependencies,
    once: Once,
    merchant_id: str,
    endpoint_id: str,
    body: EndpointInput,
    now: datetime,
) -> tuple[Replay, bool]:
    """Claim, write and answer in one transaction. The stored answer holds the secret, so it is sealed too."""
    claim = once.claim(connection, endpoint_id, now)
    if isinstance(claim, Replay):
        return claim, False
    secret = new_secret()
    sealed = deps.sealer.seal(secret.encode(), webhook_endpoints.place(endpoint_id))
    row = webhook_endpoints.create(
        connection,
        endpoint_id=endpoint_id,
        merchant_id=merchant_id,
        url=body.url,
        event_types=body.events,
        secret_sealed=sealed,
        now=now,
    )
    text = render({**webhook_endpoints.view(row), "secret": secret})
    kept = base64.b64encode(deps.sealer.seal(text.encode(), _answer_place(once))).decode()
    answer = Replay(201, f"/v1/webhook_endpoints/{endpoint_id}", kept)
    idempotency.freeze_answer(connection, endpoint_id, answer.status_code, answer.location, answer.body)
    return answer, True


def _opened(deps: ApiDependencies, once: Once, answer: Replay) -> Replay:
    text = deps.sealer.open(base64.b64decode(answer.body), _answer_place(once)).decode()
    return Replay(answer.status_code, answer.location, text)


def _answer_place(once: Once) -> str:
    return f"idempotency_keys/{once.scope}/{once.key}"


def _require_url(deps: ApiDependencies, url: str) -> None:
    try:
        checked_url(url, Rules(private=deps.settings.webhook_allow_private))
    except Refused as refused:
        raise Refused(Refusal.WEBHOOK_URL_NOT_ALLOWED, refused.detail, pointer="/url") from None


def _version(if_match: str | None) -> int:
    """The version an ETag names. Raises `Problem` 428 or 412."""
    if if_match is None:
        raise Problem("if_match_required", "read the endpoint and send its ETag as If-Match")
    number = if_match.strip().strip('"')
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise _stale()
    return int(number)


def _stale() -> Problem:
    return Problem("etag_mismatch", "the endpoint was changed meanwhile; read it again, nothing was changed")
