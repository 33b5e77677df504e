"""What an answer makes of a payment or refund: outcome, status, posting and event in one transaction.

The posting's key is the effect key, so effects at providers and postings in the ledger are in one-to-one relation.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection

from activities import refund_booking, standing
from activities.contracts import Executed
from activities.edge import Deadlines
from corridor.domain.effect import COLLECTING, EffectState, Operation
from corridor.domain.outcome import Outcome, ProviderAnswer
from corridor.domain.payment import RefundStatus, Status, StatusReason, status_after
from corridor.fx.store import release_quote
from corridor.ledger import rules, store
from corridor.runtime import metrics
from corridor.storage import effects, payments, refunds, reviews
from corridor.storage.payments import PaymentRow

_log = structlog.get_logger(__name__)
_EVENTS = {
    Status.AUTHORIZED: "payment.authorized",
    Status.CAPTURED: "payment.captured",
    Status.REQUIRES_ACTION: "payment.requires_action",
    Status.FAILED: "payment.failed",
}


def record_answer(
    connection: Connection, key: str, answer: ProviderAnswer, now: datetime, deadlines: Deadlines
) -> Executed:
    """Write what `answer` proves about the effect. A second answer for a proven effect changes nothing.

    An approval of what was proven never to have been sent is said aloud: the workflow has gone on without that money.
    """
    payment = payments.lock_of_effect(connection, key)
    effect = effects.get(connection, key)  # read under the lock: a look-up may have been quicker
    is_approval = answer.outcome is Outcome.APPROVED
    answer = _trusted(effect, answer)
    recorded = effects.record(connection, effect, answer, now)
    if recorded is None:
        if effect.state == EffectState.NOT_SENT and is_approval:
            metrics.proof_contradicted(effect.provider)
            _log.error(
                "approved after it was proven never sent; nothing was booked: look it up at the provider",
                effect_key=effect.key,
                provider=effect.provider,
                provider_reference=answer.provider_reference,
            )
        return _executed(connection, effect, again=True)
    if Operation(effect.operation) in COLLECTING:
        _move_payment(connection, payment, effect, answer, now, deadlines)
    elif effect.operation == Operation.REFUND:
        _move_refund(connection, payment, effect, answer, now)
    if answer.outcome.is_proven:
        _close_reviews(connection, effect.object_id, answer, now)
    # An answer that proved nothing may have had an event, and been lost.
    return _executed(connection, recorded, again=effect.state != EffectState.DECLARED)


def as_recorded(connection: Connection, key: str, *, again: bool = True) -> Executed:
    """What is known of the effect now, rebuilt from the rows; a repeated activity returns the same facts.

    `again`: a proof that is found recorded may have been told nobody.
    """
    effect = effects.get(connection, key)
    return _executed(connection, effect, again=again and EffectState(effect.state).is_final)


def _executed(connection: Connection, effect: Any, *, again: bool = False) -> Executed:
    payment = standing.payment_row(connection, effect.payment_id)
    is_refund = effect.operation == Operation.REFUND
    refund = standing.refund_row(connection, effect.object_id) if is_refund else None
    written = store.written(connection, _posting_keys(effect.key, refund))
    answer = effects.answer(effect) if effect.answer is not None else None
    stands = [standing.told(payment, standing.PAYMENT_COLUMNS)]
    if refund is not None:
        stands.append(standing.told(refund, standing.REFUND_COLUMNS))
    if again:
        stands = [standing.with_former(connection, it) for it in stands]
    return Executed(
        outcome=answer.outcome if answer is not None else Outcome.UNKNOWN,
        status=Status(payment.status),
        sequence=payment.sequence,
        refund_status=RefundStatus(refund.status) if refund is not None else None,
        postings=tuple(it.posting for it in written),
        amount_mismatch=answer is not None and _is_other_amount(effect, answer),
        action_url=answer.action.url if answer is not None and answer.action is not None else None,
        authorization_expires_at=payment.authorization_expires_at,
        settle_by=payment.settle_by,
        evidence=answer.evidence if answer is not None else None,
        answer=answer,
        resolved_at=effect.resolved_at,
        posted_at=tuple(it.posted_at for it in written),
        stands=tuple(stands),
    )


def _posting_keys(key: str, refund: Any) -> Sequence[str]:
    """Keys of the postings the effect may have led to, in their order."""
    return [key] if refund is None else [key, *refund_booking.later_keys(refund.id)]


def _is_other_amount(effect: Any, answer: ProviderAnswer) -> bool:
    return answer.amount is not None and answer.amount != effects.amount(effect)


def _trusted(effect: Any, answer: ProviderAnswer) -> ProviderAnswer:
    """An approval of another amount or currency is never booked: it is unknown until a person looked."""
    if answer.outcome is Outcome.APPROVED and _is_other_amount(effect, answer):
        return answer.model_copy(update={"outcome": Outcome.UNKNOWN})
    return answer


def _move_payment(
    connection: Connection,
    payment: PaymentRow,
    effect: Any,
    answer: ProviderAnswer,
    now: datetime,
    deadlines: Deadlines,
) -> None:
    target = status_after(Operation(effect.operation), answer.outcome)
    if target is None and _ends_the_question(payment, effect, answer):
        payments.move(connection, payment, "payment.authorized", now, to=Status.AUTHORIZED)
    if target is None or target == payment.status:
        return
    changes: dict[str, Any] = {"provider_reference": answer.provider_reference or payment.provider_reference}
    changes["next_action"] = answer.action.model_dump() if answer.action is not None else None
    reason = None
    if target is Status.CAPTURED:
        amount = effects.amount(effect)
        changes |= {"amount_captured_minor": amount.minor, "settle_by": now + deadlines.settle_within}
        posting = rules.capture(effect.key, payment.id, payment.merchant_id, effect.provider, amount)
        store.post(connection, posting, now)
    elif target is Status.AUTHORIZED:
        # A person's finding names no end, and networks may not either: it is held no longer than they ever do.
        changes["authorization_expires_at"] = (
            answer.authorization_expires_at or effect.declared_at + deadlines.authorization_life
        )
    elif target is Status.FAILED:
        reason = StatusReason.DECLINED_BY_PROVIDER
        changes["decline"] = answer.decline.model_dump() if answer.decline is not None else None
        release_lock(connection, payment, now)
    payments.move(connection, payment, _EVENTS[target], now, to=target, reason=reason, **changes)


def _ends_the_question(payment: PaymentRow, effect: Any, answer: ProviderAnswer) -> bool:
    """A capture that a person was asked about will never happen: the network let go, and the hold is to be closed."""
    is_asked = payment.status == Status.REQUIRES_REVIEW and effect.operation == Operation.CAPTURE
    return is_asked and answer.outcome is Outcome.DECLINED


def release_lock(connection: Connection, payment: PaymentRow, now: datetime) -> None:
    """Give the FX lock back: no money will move at it."""
    if payment.quote_id is not None:
        release_quote(connection, payment.quote_id, payment.id, now)


def _close_reviews(connection: Connection, object_id: str, answer: ProviderAnswer, now: datetime) -> None:
    """Evidence came before a person decided: the open question is answered by it."""
    for review in reviews.open_for(connection, object_id):
        reviews.decide(
            connection,
            review.id,
            "found" if answer.outcome is Outcome.APPROVED else "absent",
            "evidence",
            f"the provider's record: {answer.evidence.provider_status}",
            now,
        )


def _move_refund(
    connection: Connection, payment: PaymentRow, effect: Any, answer: ProviderAnswer, now: datetime
) -> None:
    refund = refunds.load(connection, effect.object_id)
    if answer.outcome is Outcome.APPROVED:
        refund_booking.succeed(connection, payment, refund, effect, answer.provider_reference, now)
    elif answer.outcome is Outcome.DECLINED:
        refund_booking.release(connection, payment, refund, StatusReason.DECLINED_BY_PROVIDER, now)
