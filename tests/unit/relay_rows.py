"""Rows that relay tests begin with: a merchant, its endpoint, payments, effects, provider events."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, insert

from corridor.domain.accepted import NewPayment, NewRefund
from corridor.domain.effect import EffectState, FrozenRequest, Operation, effect_key
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.payment import RefundStatus, Status
from corridor.storage import effects, inbox, payments, refunds, webhook_endpoints
from corridor.storage.payments import PaymentRow
from corridor.storage.tables import effects as effect_table
from corridor.storage.tables import merchants

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
LATER = NOW + timedelta(seconds=10)


def merchant(connection: Connection) -> str:
    merchant_id = new_id(Prefix.MERCHANT, NOW)
    connection.execute(
        insert(merchants).values(
            id=merchant_id,
            name="Shop",
            country="DE",
            settle_currency="CNY",
            fee_bps=0,
            fx_markup_bps=0,
            created_at=NOW,
        )
    )
    return merchant_id


def endpoint(connection: Connection, merchant_id: str, *event_types: str) -> str:
    row = webhook_endpoints.create(
        connection,
        endpoint_id=new_id(Prefix.WEBHOOK_ENDPOINT, NOW),
        merchant_id=merchant_id,
        url="https://shop.example/",
        event_types=list(event_types),
        secret_sealed=b"sealed",
        now=NOW,
    )
    return str(row.id)


def payment(connection: Connection, merchant_id: str, now: datetime = NOW) -> PaymentRow:
    """Accepted, with its event 1."""
    new = NewPayment(
        id=new_id(Prefix.PAYMENT, now),
        merchant_id=merchant_id,
        amount=Money(10000, "EUR"),
        settle_currency="CNY",
        source_country="DE",
        destination_country="CN",
        payment_token="pm_card_visa",
        instrument="fp",
        merchant_reference="order-7781",
    )
    return payments.accept(connection, new, now)


def effect(
    connection: Connection,
    row: PaymentRow,
    state: EffectState,
    operation: Operation = Operation.SALE,
    object_id: str | None = None,
) -> str:
    """An effect of the payment (or of `object_id`, its refund) in `state`; the payment left `processing`."""
    key = effect_key(object_id or row.id, operation, 1)
    effects.declare(
        connection,
        key=key,
        object_id=object_id or row.id,
        payment_id=row.id,
        operation=operation,
        provider="stripe",
        amount=Money(10000, "EUR"),
        request=FrozenRequest(method="POST", path="/", body="", content_type="x"),
        provider_reference=None,
        by_run=None,
        now=NOW,
    )
    connection.execute(
        effect_table.update()
        .where(effect_table.c.key == key)
        .values(state=state, resolved_at=NOW if state.is_final else None)
    )
    return key


def captured(connection: Connection, row: PaymentRow) -> PaymentRow:
    return payments.move(
        connection,
        payments.lock(connection, row.id),
        "payment.captured",
        NOW,
        to=Status.CAPTURED,
        provider="stripe",
        provider_reference=f"pi_{row.id}",
    )


def canceled(connection: Connection, row: PaymentRow) -> PaymentRow:
    """Its buyer was asked to authenticate, and the merchant called it off."""
    asked = payments.move(
        connection,
        payments.lock(connection, row.id),
        "payment.requires_action",
        NOW,
        to=Status.REQUIRES_ACTION,
    )
    return payments.move(connection, asked, "payment.canceled", NOW, to=Status.CANCELED)


def refunded(connection: Connection, payment: PaymentRow) -> str:
    """A refund of the payment that succeeded."""
    new = NewRefund(
        id=new_id(Prefix.REFUND, NOW),
        payment_id=payment.id,
        merchant_id=payment.merchant_id,
        amount=Money(1000, "EUR"),
    )
    row = refunds.accept(connection, new, NOW)
    refunds.move(connection, row, "refund.succeeded", NOW, to=RefundStatus.SUCCEEDED)
    return new.id


def provider_event(
    connection: Connection,
    *,
    payment_id: str | None = None,
    effect_key: str | None = None,
    reference: str | None = None,
    received_at: datetime = NOW,
    is_setback: bool = False,
    shows_money: bool = False,
) -> str:
    event_id = new_id(Prefix.PROVIDER_EVENT, received_at)
    new = inbox.NewProviderEvent(
        id=event_id,
        provider="stripe",
        provider_event_id=f"evt_{event_id}",
        type="payment_intent.succeeded",
        payment_id=payment_id,
        effect_key=effect_key,
        provider_reference=reference,
        body_sealed=b"sealed",
        created_at=received_at,
        is_setback=is_setback,
        shows_money=shows_money,
    )
    assert inbox.store(connection, new, received_at)
    return event_id
