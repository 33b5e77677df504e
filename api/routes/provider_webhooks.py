"""Webhooks of providers: verify the raw bytes, store them, then say 2xx. What they mean is looked up later."""

from datetime import datetime

import structlog
from fastapi import APIRouter, Request, Response

from api.dependencies import ApiDependencies, Deps
from api.problems import Problem
from api.responses import ok
from api.schemas.problem import problems
from corridor.domain.failure import Refused
from corridor.domain.ids import Prefix, new_id
from corridor.providers.port import PaymentProvider, ProviderEvent, SignatureInvalid
from corridor.runtime import metrics
from corridor.runtime.crash import crash_point
from corridor.storage import inbox
from corridor.storage.inbox import NewProviderEvent

router = APIRouter(tags=["provider webhooks"])
log = structlog.get_logger(__name__)


@router.post(
    "/v1/provider_webhooks/{provider}",
    responses={200: {"description": "Stored, or stored before"}, **problems()},
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": {}}}}},
)
async def receive_provider_webhook(provider: str, request: Request, deps: Deps) -> Response:
    """Called by providers only; authenticated by the provider's own signature."""
    adapter = _adapter(deps, provider)
    body = await request.body()
    now = deps.clock()
    try:
        event = adapter.read_webhook(request.headers, body, now)
    except SignatureInvalid:
        metrics.provider_webhook_refused(adapter.capabilities.provider)
        log.warning("provider webhook refused", provider=adapter.capabilities.provider)
        raise Problem("signature_invalid", "the signature does not verify; nothing was stored") from None
    metrics.webhook_received((now - event.created_at).total_seconds(), provider)
    crash_point("webhook.before_store")
    is_new = await deps.database.write(inbox.store, _sealed(deps, provider, event, body, now), now)
    crash_point("webhook.stored")
    return ok({"received": event.provider_event_id, "duplicate": not is_new})


def _adapter(deps: ApiDependencies, provider: str) -> PaymentProvider:
    try:
        return deps.registry[provider]
    except Refused:
        raise Problem("not_found", "no such provider") from None


def _sealed(
    deps: ApiDependencies, provider: str, event: ProviderEvent, body: bytes, now: datetime
) -> NewProviderEvent:
    event_id = new_id(Prefix.PROVIDER_EVENT, now)
    return NewProviderEvent(
        id=event_id,
        provider=provider,
        provider_event_id=event.provider_event_id,
        type=event.type,
        payment_id=event.payment_id,
        effect_key=event.effect_key,
        provider_reference=event.provider_reference,
        body_sealed=deps.sealer.seal(body, inbox.place(event_id)),
        created_at=event.created_at,
        is_setback=event.is_setback,
        shows_money=event.shows_money,
    )
