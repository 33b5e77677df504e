"""Refunds: create, get, list. Accepted in a transaction, reserved and sent by the refund's own workflow."""

from datetime import datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from api import commands, idempotency
from api.auth import AsMerchant, Merchant
from api.dependencies import ApiDependencies, Deps
from api.idempotency import AsOnce, Once, answer_while_down, answered, claiming
from api.paging import Cursors, Limit, Position, StartingAfter, listing
from api.problems import of_refusal
from api.responses import accepted, object_of, ok
from api.schemas.problem import problems
from api.schemas.refund import RefundInput, RefundList, RefundView
from corridor.domain.accepted import NewRefund
from corridor.domain.failure import Refusal, Refused
from corridor.domain.ids import Prefix, checked, new_id
from corridor.domain.payment import RefundStatus
from corridor.runtime.crash import crash_point
from corridor.storage import idempotency as stored
from corridor.storage import payments, refunds
from corridor.storage.database import DatabaseUnavailable
from corridor.storage.idempotency import Replay
from corridor.storage.refunds import RefundRow
from workflows.messages import RefundAnswer

router = APIRouter(tags=["refunds"])
log = structlog.get_logger(__name__)


@router.post(
    "/v1/refunds",
    status_code=201,
    responses={
        201: {"model": RefundView, "description": "Where the refund stands; a provider's no is a result"},
        202: {"model": RefundView, "description": "Accepted; ask `Location` for the result"},
        **problems(409, 422),
    },
)
async def create_refund(
    request: Request, body: RefundInput, merchant: AsMerchant, once: AsOnce, deps: Deps
) -> Response:
    """Return money to the buyer, all or part of it, as often as something is left."""
    if (known := await answer_while_down(deps, once)) is not None:
        return known
    refund_id = new_id(Prefix.REFUND, deps.clock())
    await deps.outages.refresh()
    found = await claiming(deps, _accept, once, body, refund_id, merchant, deps, deps.clock())
    if isinstance(found, Replay):
        return answered(found, replayed=True)
    crash_point("refund.accepted")
    result = await deps.gateway.start_refund(found, deps.settings.answer_deadline_seconds)
    crash_point("refund.started")
    return await _answer(request, found, result, deps)


@router.get("/v1/refunds/{refund_id}", responses={200: {"model": RefundView}, **problems()})
async def get_refund(refund_id: str, merchant: AsMerchant, deps: Deps) -> Response:
    row = await deps.database.read(refunds.owned, merchant.id, checked(refund_id, Prefix.REFUND))
    return object_of(refunds.snapshot(row), row.sequence)


@router.get("/v1/refunds", responses={200: {"model": RefundList}, **problems()})
async def list_refunds(
    request: Request,
    merchant: AsMerchant,
    deps: Deps,
    limit: Limit = 25,
    starting_after: StartingAfter = None,
    payment: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[
        list[RefundStatus] | None, Query(alias="status[in]", max_length=len(RefundStatus))
    ] = None,
) -> Response:
    """Newest first."""
    statuses = sorted(map(str, status or ()))
    filters = {"list": "refunds", "merchant": merchant.id, "status": statuses, "payment": payment}
    cursors: Cursors = request.app.state.cursors
    after = cursors.read(starting_after, filters)
    page = await deps.database.read(refunds.page, merchant.id, limit, after, payment, statuses)
    last: Position | None = (page.rows[-1].created_at, page.rows[-1].id) if page.has_more else None
    cursor = cursors.write(last, filters) if last else None
    return ok(listing([refunds.snapshot(row) for row in page.rows], page.has_more, cursor))


async def _answer(
    request: Request, row: RefundRow, result: RefundAnswer | None, deps: ApiDependencies
) -> Response:
    """The frozen answer, the refusal, or 202: also when the database is lost now, for the refund is accepted."""
    try:
        answer = await deps.database.read(stored.answer_of, row.id)
        if answer is None and (refused := await _refused(row.id, result, deps)) is not None:
            answer = await deps.database.write(commands.freeze, row.id, _refusal(request, row.id, refused))
        if answer is not None:
            return answered(answer, replayed=False)
        await idempotency.release(deps, row.id)
        row = await deps.database.read(refunds.load, row.id)
    except DatabaseUnavailable:
        log.warning("answer not read in time", refund_id=row.id)
    return accepted(refunds.snapshot(row), f"/v1/refunds/{row.id}")


async def _refused(refund_id: str, result: RefundAnswer | None, deps: ApiDependencies) -> Refusal | None:
    """Why the workflow refused, if it did; from the row where its answer was lost with the request that waited."""
    if result is not None:
        return None if result.refused is None else Refusal(result.refused)
    row = await deps.database.read(refunds.load, refund_id)
    is_refusal = row.status == RefundStatus.FAILED and row.status_reason in set(Refusal)
    return Refusal(row.status_reason) if is_refusal else None


def _refusal(request: Request, refund_id: str, code: Refusal) -> Replay:
    """The answer to a refund that another one left no room for: nothing was reserved or sent."""
    problem = of_refusal(
        Refused(code, "not that much of the payment is left to refund", {"resource_id": refund_id})
    )
    return Replay(problem.kind.status, None, problem.text(request.url.path, request.state.request_id))


def _accept(
    connection: Connection,
    once: Once,
    body: RefundInput,
    refund_id: str,
    merchant: Merchant,
    deps: ApiDependencies,
    now: datetime,
) -> RefundRow | Replay:
    """Claim the key and write the refund, or find the one this key made."""
    claim = once.claim(connection, refund_id, now)
    if isinstance(claim, Replay):
        return claim
    if claim.resumed:
        return refunds.load(connection, claim.resource_id)
    payment = payments.owned(connection, merchant.id, checked(body.payment, Prefix.PAYMENT))
    amount = body.amount.money() if body.amount is not None else payments.refundable(payment)
    refunds.check(payment, amount)
    deps.outages.require_one([payment.provider] if payment.provider is not None else [])
    new = NewRefund(
        id=refund_id,
        payment_id=payment.id,
        merchant_id=merchant.id,
        amount=amount,
        reason=body.reason,
        metadata=body.metadata,
        asked=once.as_asked,
    )
    return refunds.accept(connection, new, now)
