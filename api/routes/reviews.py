"""Reviews, for operators: what workflows wait for a person to decide, and the decision."""

from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection

from api import commands
from api.auth import AsOperator
from api.dependencies import Deps
from api.idempotency import AsOnce
from api.paging import Limit, listing
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
async def list_open_reviews(operator: AsOperator, deps: Deps, limit: Limit = 25) -> Response:
    """Open reviews of all merchants, oldest first: the order to work them off in."""
    rows = await deps.database.read(reviews.open_reviews, limit + 1)
    return ok(listing([reviews.view(row) for row in rows[:limit]], len(rows) > limit, None))


@router.get("/v1/reviews/{review_id}", responses={200: {"model": ReviewView}, **problems()})
async def get_review(review_id: str, operator: AsOperator, deps: Deps) -> Response:
    return ok(reviews.view(await deps.database.read(reviews.get, checked(review_id, Prefix.REVIEW))))


@router.post(
    "/v1/reviews/{review_id}:decide",
    responses={200: {"model": ReviewView}, 202: {"model": ReviewView}, **problems(409, 422)},
)
async def decide_review(
    request: Request, review_id: str, body: DecisionInput, operator: AsOperator, once: AsOnce, deps: Deps
) -> Response:
    """Decide a review; the workflow goes on from there. The same decision again is the same update."""
    row = await deps.database.read(reviews.get, checked(review_id, Prefix.REVIEW))
    is_refund = is_id(row.object_id, Prefix.REFUND)
    workflow_id = names.refund_workflow_id if is_refund else names.payment_workflow_id

    def view(connection: Connection) -> Json:
        found = reviews.view(reviews.get(connection, review_id))
        if found["status"] == "decided" and found["decision"] != body.decision:
            raise Refused(
                Refusal.REVIEW_ALREADY_DECIDED,
                f"this review was decided: {found['decision']}; nothing was changed",
                {"decision": found["decision"]},
            )
        return found

    command = commands.Command(
        workflow_id=workflow_id(row.object_id),
        update=names.DECIDE_REVIEW,
        update_id=f"{review_id}-{body.decision}",
        argument=ReviewCommand(
            review_id=review_id,
            decision=body.decision,
            decided_by=operator.key_id,
            note=body.note,
            provider_reference=body.provider_reference,
        ),
        location=f"/v1/reviews/{review_id}",
        view=view,
        is_done=lambda found: bool(found["status"] == "decided" and found["decision"] == body.decision),
    )
    return await commands.carry_out(request, deps, once, command)
