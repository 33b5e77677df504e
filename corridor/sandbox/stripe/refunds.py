"""Refunds: partial and full, pending and failing later (docs.stripe.com/refunds)."""

from corridor.sandbox.stripe import settlement
from corridor.sandbox.stripe.currencies import check_divisible
from corridor.sandbox.stripe.errors import Answer, Document, invalid_request
from corridor.sandbox.stripe.events import emit
from corridor.sandbox.stripe.tokens import test_card
from corridor.sandbox.stripe.work import Work, new_id


def check_create(_work: Work, params: Document) -> None:
    """Validation before execution."""
    if ("payment_intent" in params) == ("charge" in params):
        raise invalid_request(
            "One of payment_intent or charge is required.", code="parameter_missing", param="charge"
        )


def create(work: Work, params: Document) -> Answer:
    """Return captured money, never more than is left of it."""
    charge = _refundable_charge(work, params)
    intent_id = charge["payment_intent"]
    left = charge["amount_captured"] - charge["amount_refunded"]
    amount = params.get("amount", left)
    _check_amount(charge, amount, left)
    pending = test_card(work.private("payment_intent", intent_id)["card"]).refund == "pends"
    refund = _refund(work, charge, amount, params, "pending" if pending else "succeeded")
    transaction = _book(work, "refund", refund, -amount)
    refund["balance_transaction"] = transaction["id"]
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    work.save(charge)
    work.insert(refund, owner=intent_id)
    work.move("refund", intent_id, refund, amount, charge["currency"])
    _plan_ending(work, refund, intent_id)
    emit(work, "refund.created", refund)
    emit(work, "charge.refunded", charge)
    return Answer(200, refund)


def complete(work: Work, refund_id: str) -> None:
    """A pending refund reached the card."""
    refund = work.get("refund", refund_id)
    refund["status"] = "succeeded"
    refund.pop("pending_reason", None)
    work.save(refund)
    emit(work, "refund.updated", refund, {"status": "pending"})


def fail(work: Work, refund_id: str) -> None:
    """A refund that had succeeded bounces: the money returns to the balance by its own transaction."""
    refund = work.get("refund", refund_id)
    charge = work.get("charge", refund["charge"])
    transaction = _book(work, "refund_failure", refund, refund["amount"])
    refund.update(
        status="failed",
        failure_reason="expired_or_canceled_card",
        failure_balance_transaction=transaction["id"],
    )
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    work.save(refund)
    work.save(charge)
    work.move("refund_failed", refund["payment_intent"], refund, refund["amount"], refund["currency"])
    emit(work, "refund.updated", refund, {"status": "succeeded"})
    emit(work, "refund.failed", refund)


def _refundable_charge(work: Work, params: Document) -> Document:
    if "charge" in params:
        charge = work.get("charge", params["charge"], "charge")
    else:
        intent = work.get("payment_intent", params["payment_intent"], "payment_intent")
        if intent["status"] != "succeeded":
            raise invalid_request(
                f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
                code="payment_intent_unexpected_state",
                payment_intent=intent,
            )
        charge = work.get("charge", intent["latest_charge"])
    if charge["disputed"]:
        raise invalid_request(f"Charge {charge['id']} has been charged back.", code="charge_disputed")
    return charge


def _check_amount(charge: Document, amount: int, left: int) -> None:
    if left == 0:
        raise invalid_request(
            f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded"
        )
    if amount > left:
        raise invalid_request(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount"
        )
    check_divisible(amount, charge["currency"], "amount")


def _book(work: Work, kind: str, refund: Document, amount: int) -> Document:
    """At the rate of the refund's own day; the fee of the charge is not returned."""
    currency = settlement.settlement_currency(work, refund["currency"])
    converted, rate = settlement.in_settlement(work, amount, refund["currency"], currency)
    return settlement.book(work, kind, refund["id"], converted, currency, rate=rate)


def _plan_ending(work: Work, refund: Document, intent_id: str) -> None:
    ending = test_card(work.private("payment_intent", intent_id)["card"]).refund
    if ending == "pends":
        work.after(work.config.slow_operation_seconds, "complete_refund", refund["id"])
    elif ending == "fails_later":
        work.after(work.config.slow_operation_seconds, "fail_refund", refund["id"])


def _refund(work: Work, charge: Document, amount: int, params: Document, status: str) -> Document:
    refund: Document = {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": work.now,
        "currency": charge["currency"],
        "destination_details": {
            "card": {
                "reference_status": "pending",
                "reference_type": "acquirer_reference_number",
                "type": "refund",
            },
            "type": "card",
        },
        "metadata": {key: value for key, value in params.get("metadata", {}).items() if value},
        "payment_intent": charge["payment_intent"],
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }
    return {**refund, "pending_reason": "processing"} if status == "pending" else refund
