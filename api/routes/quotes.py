"""Quotes: ask the liquidity providers for a rate and hold it."""

from datetime import datetime

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from api.auth import AsMerchant
from api.dependencies import Deps
from api.idempotency import AsOnce, Once, answered, claiming
from api.responses import ok
from api.schemas.problem import problems
from api.schemas.quote import QuoteInput, QuoteView
from corridor.domain.failure import Refusal, Refused
from corridor.domain.ids import Prefix, checked
from corridor.domain.quote import Quote, QuoteStatus
from corridor.fx.store import get_quote, insert_quote
from corridor.fx.view import quote_view
from corridor.storage import idempotency
from corridor.storage.idempotency import Claim, Replay
from corridor.storage.payments import render

router = APIRouter(tags=["quotes"])


@router.post("/v1/quotes", status_code=201, responses={201: {"model": QuoteView}, **problems(409, 422)})
async def create_quote(body: QuoteInput, merchant: AsMerchant, once: AsOnce, deps: Deps) -> Response:
    """Ask for a rate. Asking moves nothing, so it happens before the key is claimed: one answer is kept."""
    known = await deps.database.read(once.known)
    if isinstance(known, Replay):
        return answered(known, replayed=True)
    quote = await deps.quotes.quote(
        merchant.id, body.sell.money(), body.buy_currency, body.lock_seconds, deps.clock()
    )
    answer, is_new = await claiming(deps, _keep, once, quote, deps.clock())
    return answered(answer, replayed=not is_new)


@router.get("/v1/quotes/{quote_id}", responses={200: {"model": QuoteView}, **problems()})
async def get_one_quote(quote_id: str, merchant: AsMerchant, deps: Deps) -> Response:
    checked(quote_id, Prefix.QUOTE)
    quote, status = await deps.database.read(get_quote, merchant.id, quote_id, deps.clock())
    return ok(quote_view(quote, status))


def _keep(connection: Connection, once: Once, quote: Quote, now: datetime) -> tuple[Replay, bool]:
    """Claim, keep and answer in one transaction; of two parallel repeats the second sends the first one's quote."""
    claim = once.claim(connection, quote.id, now)
    if isinstance(claim, Replay):
        return claim, False
    if claim != Claim(quote.id, resumed=False):
        raise Refused(Refusal.IDEMPOTENCY_KEY_REUSED, "this key stands for another kind of request")
    insert_quote(connection, quote, now)
    body = render(quote_view(quote, QuoteStatus.OPEN))
    answer = Replay(201, f"/v1/quotes/{quote.id}", body)
    idempotency.freeze_answer(connection, quote.id, answer.status_code, answer.location, answer.body)
    return answer, True
