"""The payment's own steps: declare an effect, re-quote, move. Each is one transaction, safe to run again."""

from datetime import datetime

from sqlalchemy import Connection, bindparam, update

from activities import plans, standing
from activities.contracts import (
    DECLARE,
    MOVE,
    RECORD,
    REQUOTE,
    Declared,
    DeclareIn,
    Moved,
    MoveIn,
    Nothing,
    Requoted,
    RequoteIn,
)
from activities.edge import Edge
from activities.errors import implements
from activities.recording import release_lock
from corridor.domain.effect import Operation, effect_number
from corridor.domain.failure import Refused, broken
from corridor.domain.money import Money
from corridor.domain.payment import Status, StatusReason
from corridor.domain.quote import Quote, slippage_bps
from corridor.fx.best_execution import Chosen
from corridor.fx.requote import Requote, after_expiry
from corridor.fx.store import get_quote, insert_quote, lock_quote, release_quote
from corridor.runtime.crash import crash_point
from corridor.storage import clock, effects, events, merchants, payments, refunds, reviews
from corridor.storage.payments import PaymentRow
from corridor.storage.tables import payments as payment_table

_MARK_STARTED = update(payment_table).where(
    payment_table.c.id == bindparam("wanted"), payment_table.c.workflow_started_at.is_(None)
)


class PaymentSteps:
    """Activities on the payment's row that call no provider of payments."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    @implements(RECORD)
    async def record(self, nothing: Nothing) -> Nothing:
        """Answer, so that the workflow goes on in its next task."""
        return nothing

    @implements(DECLARE)
    async def declare(self, wanted: DeclareIn) -> Declared:
        """Declare the next effect. Raises (final) CAPTURE_EXCEEDS_AUTHORIZED."""
        crash_point("declaration.before_commit")
        declared = await self._edge.database.write(self._declare, wanted, self._edge.now())
        crash_point("declaration.committed")
        return declared

    def _declare(self, connection: Connection, wanted: DeclareIn, now: datetime) -> Declared:
        payment = payments.lock(connection, wanted.payment_id)
        provider = self._edge.providers[payment.provider]
        amount = wanted.amount or Money(payment.amount_minor, payment.currency)
        number = wanted.number
        if wanted.operation is Operation.CAPTURE:
            amount = plans.capturable(payment, wanted.amount)
            newest = effects.newest(connection, payment.id, payment.id, (Operation.CAPTURE,))
            number = number if newest is None else max(number, effect_number(newest.key))
        elif wanted.operation is Operation.REFUND:
            refund = refunds.load(connection, wanted.object_id)
            amount = Money(refund.amount_minor, refund.currency)
        plan = plans.declare(
            connection, provider, payment, wanted.operation, wanted.object_id, number, amount, now
        )
        return Declared(plan=plan)

    @implements(MOVE)
    async def move(self, wanted: MoveIn) -> Moved:
        """Take a step no provider call causes; open reviews of the payment are withdrawn with it."""
        crash_point("move.before_commit")
        moved = await self._edge.database.write(_move, wanted, self._edge.now())
        crash_point("move.committed")
        return moved

    @implements(REQUOTE)
    async def requote(self, wanted: RequoteIn) -> Requoted:
        """Ask for a new rate once; an answer that was stored by an earlier attempt is taken as it is.

        By the database's clock, by which the old lock was found over and the new one will be judged.
        """
        payment, now = await self._edge.database.read(_as_of_now, wanted.payment_id)
        sell = Money(payment.amount_minor, payment.currency)
        try:
            chosen = await self._edge.desk.ask(sell, payment.settle_currency, self._edge.lock_seconds, now)
        except Refused:
            return Requoted(accepted=False, reason=StatusReason.RATE_UNAVAILABLE)
        return await self._edge.database.write(self._requote, wanted.payment_id, chosen, now)

    def _requote(self, connection: Connection, payment_id: str, chosen: Chosen, now: datetime) -> Requoted:
        payment = payments.lock(connection, payment_id)
        quote_id = payment.quote_id or broken("only a payment with a lock is quoted again")
        old, _ = get_quote(connection, payment.merchant_id, quote_id, now)
        if old.is_executable(now, plans.lock_margin_seconds(self._edge.providers[payment.provider])):
            return Requoted(
                accepted=True,
                quote_id=old.id,
                quote=plans.rate_of(old),
                stands=standing.of_payment(connection, payment_id, again=True),
            )
        try:
            new = self._price(connection, payment.merchant_id, chosen, now)
        except Refused:
            return Requoted(accepted=False, reason=StatusReason.RATE_UNAVAILABLE)
        agreed, _ = get_quote(connection, payment.merchant_id, _agreed_quote_id(connection, payment), now)
        worse = f"{slippage_bps(agreed.client_rate, new.client_rate):.4f}"
        verdict = after_expiry(agreed, new, payment.slippage_max_bps, payment.slippage_policy)
        if verdict is Requote.REJECT:
            return Requoted(accepted=False, reason=StatusReason.SLIPPAGE_EXCEEDED, slippage_bps=worse)
        insert_quote(connection, new, now)
        renew_lock(connection, payment, new.id, now)
        return Requoted(
            accepted=True,
            quote_id=new.id,
            slippage_bps=worse,
            quote=plans.rate_of(new),
            # A first try may have renewed it for a moment that is over by now.
            stands=standing.of_payment(connection, payment_id, again=True),
        )

    def _price(self, connection: Connection, merchant_id: str, chosen: Chosen, now: datetime) -> Quote:
        markup = merchants.get(connection, merchant_id).fx_markup_bps
        return self._edge.desk.quote(chosen, merchant_id, markup, self._edge.lock_seconds, now)


def _as_of_now(connection: Connection, payment_id: str) -> tuple[PaymentRow, datetime]:
    return payments.load(connection, payment_id), clock.read(connection)


def renew_lock(connection: Connection, payment: PaymentRow, quote_id: str, now: datetime) -> None:
    """The payment gives its lock back and takes this quote in its place."""
    release_quote(connection, payment.quote_id, payment.id, now)
    lock_quote(connection, quote_id, payment.id, now)
    payments.move(connection, payment, "payment.requoted", now, quote_id=quote_id)


def _agreed_quote_id(connection: Connection, payment: PaymentRow) -> str:
    """The lock the payment began with: the merchant's limit is measured against it, however often it is renewed."""
    renewed = events.first_of_type(connection, payment.id, "payment.requoted")
    return str(payment.quote_id if renewed is None else renewed.previous["quote"])


def _move(connection: Connection, wanted: MoveIn, now: datetime) -> Moved:
    payment = payments.lock(connection, wanted.payment_id)
    is_new = payment.status != wanted.to
    if is_new:
        for review in reviews.open_for(connection, payment.id):
            reviews.decide(connection, review.id, "withdrawn", "payment", str(wanted.reason), now)
        release_lock(connection, payment, now)
        payment = payments.move(
            connection,
            payment,
            f"payment.{wanted.to}",
            now,
            to=wanted.to,
            reason=wanted.reason,
            next_action=None,
        )
    return Moved(
        status=Status(payment.status),
        sequence=payment.sequence,
        stands=standing.of_payment(connection, payment.id, again=not is_new),
    )


def mark_started(connection: Connection, payment_id: str, now: datetime) -> None:
    """The workflow runs: from here the orphan starter leaves the payment alone."""
    connection.execute(_MARK_STARTED, {"wanted": payment_id, "workflow_started_at": now})
