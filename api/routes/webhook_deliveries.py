"""Webhook deliveries: what became of each event at each endpoint, for the merchant who looks for one that is missing."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.auth import AsMerchant
from api.dependencies import Deps
from api.paging import Cursors, Limit, Position, StartingAfter, listing
from api.responses import ok
from api.schemas.problem import problems
from api.schemas.webhook_delivery import DeliveryList
from corridor.storage import webhook_deliveries

router = APIRouter(tags=["webhook deliveries"])


@router.get("/v1/webhook_deliveries", responses={200: {"model": DeliveryList}, **problems()})
async def list_webhook_deliveries(
    request: Request,
    merchant: AsMerchant,
    deps: Deps,
    limit: Limit = 25,
    starting_after: StartingAfter = None,
    endpoint: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Newest first; of one `endpoint`, or of all."""
    filters = {"list": "webhook deliveries", "merchant": merchant.id, "endpoint": endpoint}
    cursors: Cursors = request.app.state.cursors
    after = cursors.read(starting_after, filters)
    page = await deps.database.read(webhook_deliveries.page, merchant.id, limit, after, endpoint)
    last: Position | None = (page.rows[-1].created_at, page.rows[-1].id) if page.has_more else None
    cursor = cursors.write(last, filters) if last else None
    return ok(listing([webhook_deliveries.view(row) for row in page.rows], page.has_more, cursor))
