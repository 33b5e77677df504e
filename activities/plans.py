"""From a payment and an operation to a declared effect: the instruction, its frozen bytes, and how it may be sent."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from temporalio import activity

from activities.contracts import EffectPlan
from corridor.domain.effect import Operation, effect_key
from corridor.domain.failure import Refusal, Refused, broken
from corridor.domain.money import Money
from corridor.domain.quote import Quote
from corridor.providers.port import (
    Authorise,
    Capture,
    Instruction,
    PaymentProvider,
    Refund,
    Void,
    send_policy,
)
from corridor.storage import effects
from corridor.storage.payments import PaymentRow


def declare(
    connection: Connection,
    provider: PaymentProvider,
    payment: PaymentRow,
    operation: Operation,
    object_id: str,
    number: int,
    amount: Money,
    now: datetime,
) -> EffectPlan:
    """Declare the effect with its bytes, once; declaring again returns the plan of the first.

    By a clock that is behind it would be older than its payment. Look-ups read the provider's lists from that moment
    on, and how long the provider remembers the key counts from it.
    """
    key = effect_key(object_id, operation, number)
    wanted = instruction(payment, operation, key, object_id, amount)
    row = effects.declare(
        connection,
        key=key,
        object_id=object_id,
        payment_id=payment.id,
        operation=operation,
        provider=provider.capabilities.provider,
        amount=amount,
        request=provider.freeze(wanted),
        provider_reference=None if isinstance(wanted, Authorise) else wanted.provider_reference,
        by_run=activity.info().workflow_run_id if activity.in_activity() else None,
        now=max(now, payment.created_at),
    )
    return plan_of(row, provider)


def plan_of(row: Any, provider: PaymentProvider) -> EffectPlan:
    """The plan of a declared effect, with the policy derived from the adapter's contract."""
    return EffectPlan(
        effect_key=row.key,
        operation=Operation(row.operation),
        provider=row.provider,
        amount=effects.amount(row),
        policy=send_policy(provider.contract),
        call_timeout_seconds=provider.capabilities.call_timeout_seconds,
        declared_at=row.declared_at,
    )


def rate_of(quote: Quote) -> Quote:
    """The quote as histories keep it: what was agreed, without every offer it was compared with."""
    return quote.model_copy(update={"considered": ()})


def lock_margin_seconds(provider: PaymentProvider) -> int:
    """What an FX lock must still hold when a call begins: the call's own deadline, rounded up."""
    return int(provider.capabilities.call_timeout_seconds) + 1


def instruction(
    payment: PaymentRow, operation: Operation, key: str, object_id: str, amount: Money
) -> Instruction:
    """What the provider is told to do; the payment's row and the amount determine it."""
    match operation:
        case Operation.AUTHORISE | Operation.SALE:
            return Authorise(
                effect_key=key,
                payment_id=payment.id,
                amount=amount,
                payment_token=payment.payment_token,
                capture=operation is Operation.SALE,
                return_url=payment.return_url,
            )
        case Operation.CAPTURE:
            return Capture(
                effect_key=key, payment_id=payment.id, provider_reference=_reference(payment), amount=amount
            )
        case Operation.VOID:
            return Void(effect_key=key, payment_id=payment.id, provider_reference=_reference(payment))
        case Operation.REFUND:
            return Refund(
                effect_key=key,
                payment_id=payment.id,
                refund_id=object_id,
                provider_reference=_reference(payment),
                amount=amount,
            )
    broken(f"no instruction for {operation}")


def _reference(payment: PaymentRow) -> str:
    """Raises `Refused(STATE_CONFLICT)`: a person found the payment at the provider and did not say under which id."""
    if payment.provider_reference is None:
        raise Refused(Refusal.STATE_CONFLICT, "the provider's reference of this payment is not known")
    return str(payment.provider_reference)


def capturable(payment: PaymentRow, wanted: Money | None) -> Money:
    """What a capture takes: all that was authorised, or less. Raises `Refused(CAPTURE_EXCEEDS_AUTHORIZED)`."""
    authorised = Money(payment.amount_minor, payment.currency)
    if wanted is not None and not wanted <= authorised:
        raise Refused(Refusal.CAPTURE_EXCEEDS_AUTHORIZED, f"at most {authorised} was authorised")
    return wanted or authorised
