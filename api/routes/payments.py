"""Payments: create, get, list, capture, cancel. Accepting one is a transaction; everything after is its workflow's."""

import time
from collections.abc import Callable
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
from api.responses import accepted, object_of, ok
from api.schemas.payment import CaptureInput, NothingInput, PaymentInput, PaymentList, PaymentView
from api.schemas.problem import problems
from corridor.domain.accepted import NewPayment
from corridor.domain.effect import Operation
from corridor.domain.failure import Refusal, Refused
from corridor.domain.ids import Prefix, checked, new_id
from corridor.domain.money import Money
from corridor.domain.outcome import Frozen
from corridor.domain.payment import CaptureMethod, Status, StatusReason
from corridor.domain.quote import QuoteStatus
from corridor.fx.store import get_quote
from corridor.runtime import metrics
from corridor.runtime.crash import crash_point
from corridor.storage import idempotency as stored
from corridor.storage import payments
from corridor.storage.database import DatabaseUnavailable
from corridor.storage.idempotency import Replay
from corridor.storage.payments import PaymentRow
from corridor.storage.records import Json, money_view
from workflows import names
from workflows.messages import CancelCommand, CaptureCommand

router = APIRouter(tags=["payments"])
log = structlog.get_logger(__name__)

_CANCELED_AS_ASKED = (StatusReason.CANCELED_BY_MERCHANT, StatusReason.COMPENSATION_STUCK)


@router.post(
    "/v1/payments",
    status_code=201,
    responses={
        201: {
            "model": PaymentView,
            "description": "Where the payment stands; a decline is a result, not an error",
        },
        202: {"model": PaymentView, "description": "Accepted; ask `Location` for the result"},
        **problems(409, 422),
    },
)
async def create_payment(
    request: Request, body: PaymentInput, merchant: AsMerchant, once: AsOnce, deps: Deps
) -> Response:
    """Collect money from a buyer. The answer waits for the provider's; after the deadline it is 202."""
    begun = time.monotonic()
    if (known := await answer_while_down(deps, once)) is not None:
        return known
    await deps.outages.refresh()
    new = body.order(new_id(Prefix.PAYMENT, deps.clock()), merchant, once.as_asked)
    crash_point("payment.before_accept")
    found = await claiming(deps, _accept, once, new, deps, deps.clock())
    if isinstance(found, Replay):
        return answered(found, replayed=True)
    crash_point("payment.accepted")
    deadline = min(body.wait_seconds or 30, deps.settings.answer_deadline_seconds)
    await deps.gateway.start_payment(found, deadline)
    crash_point("payment.started")
    response = await _answer(found, deps)
    metrics.answered(time.monotonic() - begun, "final" if response.status_code == 201 else "accepted")
    return response


@router.get("/v1/payments/{payment_id}", responses={200: {"model": PaymentView}, **problems()})
async def get_payment(payment_id: str, merchant: AsMerchant, deps: Deps) -> Response:
    row = await deps.database.read(payments.owned, merchant.id, checked(payment_id, Prefix.PAYMENT))
    return object_of(payments.snapshot(row), row.sequence)


@router.get("/v1/payments", responses={200: {"model": PaymentList}, **problems()})
async def list_payments(
    request: Request,
    merchant: AsMerchant,
    deps: Deps,
    limit: Limit = 25,
    starting_after: StartingAfter = None,
    status: Annotated[list[Status] | None, Query(alias="status[in]", max_length=len(Status))] = None,
    merchant_reference: Annotated[str | None, Query(max_length=128)] = None,
    idempotency_key: Annotated[str | None, Query(max_length=257)] = None,
) -> Response:
    """Newest first. `idempotency_key` finds what a lost answer made."""
    if idempotency_key is not None:
        return ok(await deps.database.read(_made_by, merchant, idempotency.read_key(idempotency_key)))
    statuses = sorted(map(str, status or ()))
    filters = {
        "list": "payments",
        "merchant": merchant.id,
        "status": statuses,
        "reference": merchant_reference,
    }
    cursors: Cursors = request.app.state.cursors
    after = cursors.read(starting_after, filters)
    page = await deps.database.read(payments.page, merchant.id, limit, after, statuses, merchant_reference)
    last: Position | None = (page.rows[-1].created_at, page.rows[-1].id) if page.has_more else None
    cursor = cursors.write(last, filters) if last else None
    return ok(listing([payments.snapshot(row) for row in page.rows], page.has_more, cursor))


@router.post(
    "/v1/payments/{payment_id}:capture",
    responses={200: {"model": PaymentView}, 202: {"model": PaymentView}, **problems(409, 422)},
)
async def capture_payment(
    request: Request,
    payment_id: str,
    merchant: AsMerchant,
    once: AsOnce,
    deps: Deps,
    body: CaptureInput | None = None,
) -> Response:
    """Capture an authorised payment, all of it or less; what is not captured is released."""
    amount = body.amount.money() if body is not None and body.amount is not None else None

    def check(connection: Connection) -> None:
        row = payments.owned(connection, merchant.id, payment_id)
        deps.outages.require_one([row.provider] if row.provider is not None else [])
        if amount is not None:
            _check_capture(row, amount)

    def is_done(view: Json) -> bool:
        wanted = view["amount"] if amount is None else money_view(amount)
        return view["status"] in (Status.CAPTURED, Status.SETTLED) and view["amount_captured"] == wanted

    asked = CaptureCommand(amount=amount)
    command = _command(names.CAPTURE, asked, payment_id, merchant, once, is_done, check)
    return await commands.carry_out(request, deps, once, command)


@router.post(
    "/v1/payments/{payment_id}:cancel",
    responses={200: {"model": PaymentView}, 202: {"model": PaymentView}, **problems(409, 422)},
)
async def cancel_payment(
    request: Request,
    payment_id: str,
    merchant: AsMerchant,
    once: AsOnce,
    deps: Deps,
    body: NothingInput | None = None,
) -> Response:
    """Cancel a payment that was not captured; an authorisation is released at the provider."""

    def is_done(view: Json) -> bool:
        """Also where the release was stuck and a person had to help; the reason then tells of that."""
        return view["status"] == Status.CANCELED and view["status_reason"] in _CANCELED_AS_ASKED

    command = _command(names.CANCEL, CancelCommand(), payment_id, merchant, once, is_done)
    return await commands.carry_out(request, deps, once, command)


async def _answer(row: PaymentRow, deps: ApiDependencies) -> Response:
    """The frozen answer, or 202: also when the database is lost now, for the payment is accepted all the same."""
    try:
        answer = await deps.database.read(stored.answer_of, row.id)
        if answer is not None:
            return answered(answer, replayed=False)
        await idempotency.release(deps, row.id)
        row = await deps.database.read(payments.load, row.id)
    except DatabaseUnavailable:
        log.warning("answer not read in time", payment_id=row.id)
    return accepted(payments.snapshot(row), f"/v1/payments/{row.id}")


def _accept(
    connection: Connection, once: Once, new: NewPayment, deps: ApiDependencies, now: datetime
) -> PaymentRow | Replay:
    """Claim the key and write the payment, or find the one this key made."""
    claim = once.claim(connection, new.id, now)
    if isinstance(claim, Replay):
        return claim
    if claim.resumed:
        return payments.load(connection, claim.resource_id)
    operation = Operation.SALE if new.capture_method is CaptureMethod.AUTOMATIC else Operation.AUTHORISE
    able = deps.registry.able(operation, new.amount.currency)
    deps.outages.require_one(provider.capabilities.provider for provider in able)
    deps.admission.check(new, now)
    if new.quote_id is not None:
        _check_quote(connection, new, now)
    return payments.accept(connection, new, now)


def _check_quote(connection: Connection, new: NewPayment, now: datetime) -> None:
    """The early no to a quote that cannot serve; taking it is the workflow's first step."""
    quote, status = get_quote(connection, new.merchant_id, checked(new.quote_id or "", Prefix.QUOTE), now)
    if status is QuoteStatus.EXPIRED:
        raise Refused(Refusal.QUOTE_EXPIRED, "the quote has expired; ask for a new one", pointer="/quote")
    if status is not QuoteStatus.OPEN:
        raise Refused(Refusal.QUOTE_ALREADY_USED, "a quote is used once; ask for a new one", pointer="/quote")
    if quote.sell_amount != new.amount or quote.buy_amount.currency != new.settle_currency:
        detail = f"the quote sells {quote.sell_amount} for {quote.buy_amount.currency}"
        raise Refused(Refusal.QUOTE_MISMATCH, detail, pointer="/quote")


def _made_by(connection: Connection, merchant: Merchant, key: str) -> Json:
    made = idempotency.resource_of(connection, merchant.id, key)
    if made is None or not made.startswith(f"{Prefix.PAYMENT}_"):
        return listing([], has_more=False, next_cursor=None)
    row = payments.owned(connection, merchant.id, made)
    return listing([payments.snapshot(row)], has_more=False, next_cursor=None)


def _command(
    update: str,
    argument: Frozen,
    payment_id: str,
    merchant: Merchant,
    once: Once,
    is_done: Callable[[Json], bool],
    check: Callable[[Connection], None] | None = None,
) -> commands.Command:
    checked(payment_id, Prefix.PAYMENT)

    def view(connection: Connection) -> Json:
        return payments.snapshot(payments.owned(connection, merchant.id, payment_id))

    return commands.Command(
        workflow_id=names.payment_workflow_id(payment_id),
        update=update,
        update_id=once.update_id(update),
        argument=argument,
        location=f"/v1/payments/{payment_id}",
        view=view,
        is_done=is_done,
        check=check,
    )


def _check_capture(row: PaymentRow, amount: Money) -> None:
    """What no state of the payment could allow; whether it may be captured now is its workflow's to say."""
    if amount.currency != row.currency:
        detail = f"the payment is in {row.currency}"
        raise Refused(Refusal.INVALID_PARAMETER, detail, pointer="/amount/currency")
    if amount.minor > row.amount_minor:
        detail = f"at most {Money(row.amount_minor, row.currency)} was authorised; nothing was changed"
        raise Refused(Refusal.CAPTURE_EXCEEDS_AUTHORIZED, detail, pointer="/amount/minor")
