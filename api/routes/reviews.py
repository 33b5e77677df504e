"""Reviews, for operators: what workflows wait for a person to decide, and the decision."""

import hashlib

import rfc8785
from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection

from api import commands
from api.auth import AsOperator
from api.dependencies import Deps
from api.idempotency import AsOnce
from api.paging import Cursors, Limit, Position, StartingAfter, listing
from api.responses import ok
from api.schemas.problem import problems
from api.schemas.review import DecisionInput, ReviewList, ReviewView
from corridor.domain.failure import Refusal, Refused
from corridor.domain.ids import Prefix, checked, is_id
from corridor.storage import reviews
from corridor.storage.records import Json
from workflows import names
from workflows.messages import ReviewCommand

router = APIRouter(tags=["reviews"])


@router.get("/v1/reviews", responses={200: {"model": ReviewList}, **problems()})
async def list_open_reviews(
    request: Request,
    operator: AsOperator,
    deps: Deps,
    limit: Limit = 25,
    starting_after: StartingAfter = None,
) -> Response:
    """Open reviews of all merchants, oldest first: the order to work them off in."""
    filters = {"list": "open reviews"}
    cursors: Cursors = request.app.state.cursors
    page = await deps.database.read(reviews.page_of_open, limit, cursors.read(starting_after, filters))
    last: Position | None = (page.rows[-1].created_at, page.rows[-1].id) if page.has_more else None
    cursor = cursors.write(last, filters) if last else None
    return ok(listing([reviews.view(row) for row in page.rows], page.has_more, cursor))


@router.get("/v1/reviews/{review_id}", responses={200: {"model": ReviewView}, **problems()})
async def get_review(review_id: str, operator: AsOperator, deps: Deps) -> Response:
    return ok(await deps.database.read(_view, checked(review_id, Prefix.REVIEW)))


@router.post(
    "/v1/reviews/{review_id}:decide",
    responses={200: {"model": ReviewView}, 202: {"model": ReviewView}, **problems(409, 422)},
)
async def decide_review(
    request: Request, review_id: str, body: DecisionInput, operator: AsOperator, once: AsOnce, deps: Deps
) -> Response:
    """Decide a review; the workflow goes on from there. The same decision again, under any key, is the same update."""
    row = await deps.database.read(reviews.get, checked(review_id, Prefix.REVIEW))
    is_refund = is_id(row.object_id, Prefix.REFUND)
    workflow_id = names.refund_workflow_id if is_refund else names.payment_workflow_id
    asked = ReviewCommand(
        review_id=review_id,
        decision=body.decision,
        decided_by=operator.key_id,
        note=body.note,
        provider_reference=body.provider_reference,
    )
    command = commands.Command(
        workflow_id=workflow_id(row.object_id),
        update=names.DECIDE_REVIEW,
        update_id=f"{review_id}-{_digest(asked)}",
        argument=asked,
        location=f"/v1/reviews/{review_id}",
        view=lambda connection: _view(connection, review_id),
        is_done=lambda view: _is_as_asked(view, asked),
        overtaken=lambda view: _overtaken(view, asked),
    )
    return await commands.carry_out(request, deps, once, command)


def _digest(asked: ReviewCommand) -> str:
    """Of all that the decision says: two that differ in a note or a reference are two updates, and one of them loses."""
    return hashlib.sha256(rfc8785.dumps(asked.model_dump(mode="json"))).hexdigest()[:32]


def _is_as_asked(view: Json, asked: ReviewCommand) -> bool:
    """Whether this very decision is on record. Without a reference of its own it takes the one that was known."""
    said = (asked.decision, asked.decided_by, asked.note)
    return (
        view["status"] == "decided"
        and (view["decision"], view["decided_by"], view["note"]) == said
        and (asked.decision != "found" or asked.provider_reference in (None, view["provider_reference"]))
    )


def _overtaken(view: Json, asked: ReviewCommand) -> Refused | None:
    if view["status"] == "open" or _is_as_asked(view, asked):
        return None
    found = f", found as {view['provider_reference']}" if view["provider_reference"] is not None else ""
    return Refused(
        Refusal.REVIEW_ALREADY_DECIDED,
        f"this review was decided by {view['decided_by']}: {view['decision']}{found}; nothing was changed",
        {"decision": view["decision"]},
    )


def _view(connection: Connection, review_id: str) -> Json:
    row = reviews.get(connection, review_id)
    return reviews.view(row, reviews.reference_found(connection, row))
