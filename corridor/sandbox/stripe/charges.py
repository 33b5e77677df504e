"""Charges: what one confirmation of a PaymentIntent led to at the card network."""

from corridor.sandbox.stripe import settlement
from corridor.sandbox.stripe.errors import Answer, Document, StripeError
from corridor.sandbox.stripe.events import emit
from corridor.sandbox.stripe.tokens import TestCard
from corridor.sandbox.stripe.work import Work, new_id

MESSAGES = {
    "insufficient_funds": "Your card has insufficient funds.",
    "lost_card": "Your card has been declined.",
    "stolen_card": "Your card has been declined.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
    "card_velocity_exceeded": "Your card was declined for making repeated attempts too frequently.",
}
ADVICE = {"insufficient_funds": "try_again_later", "processing_error": "try_again_later",
          "lost_card": "do_not_try_again", "stolen_card": "do_not_try_again", "expired_card": "confirm_card_data",
          "incorrect_cvc": "confirm_card_data"}  # fmt: skip


def charge_card(work: Work, intent: Document, card: TestCard) -> Answer:
    """Ask the (simulated) issuer; the intent moves to its next status either way."""
    if card.blocked:
        return _decline(work, intent, card, "card_declined", "fraudulent")
    if card.decline is not None:
        return _decline(work, intent, card, *card.decline)
    return _approve(work, intent, card)


def _approve(work: Work, intent: Document, card: TestCard) -> Answer:
    manual = intent["capture_method"] == "manual"
    charge = _charge(work, intent, card, "succeeded")
    charge["paid"] = True
    work.insert(charge, owner=intent["id"], private={"card": intent["payment_method"]})
    intent.update(latest_charge=charge["id"], last_payment_error=None, next_action=None)
    work.move("authorise", intent["id"], charge, intent["amount"], intent["currency"])
    if manual:
        _hold(work, intent, charge)
    else:
        _take(work, intent, charge, card)
    work.save(charge)
    work.save(intent)
    emit(work, "charge.succeeded", charge)
    emit(work, "payment_intent.amount_capturable_updated" if manual else "payment_intent.succeeded", intent)
    return Answer(200, intent)


def _hold(work: Work, intent: Document, charge: Document) -> None:
    """An authorisation without capture lapses by itself."""
    intent.update(status="requires_capture", amount_capturable=intent["amount"])
    charge["payment_method_details"]["card"]["capture_before"] = work.now + work.config.authorization_seconds
    work.after(work.config.authorization_seconds, "expire_authorization", intent["id"])


def _take(work: Work, intent: Document, charge: Document, card: TestCard) -> None:
    """Authorised and captured in one step. Asynchronous capture shows its balance transaction only later."""
    mark_captured(work, intent, charge, intent["amount"])
    if intent["capture_method"] == "automatic_async":
        work.after(work.config.slow_operation_seconds, "settle_asynchronous_charge", charge["id"])
    else:
        settlement.settle_charge(work, charge)
    if card.dispute is not None:
        work.after(work.config.slow_operation_seconds, "open_dispute", charge["id"])


def mark_captured(work: Work, intent: Document, charge: Document, amount: int) -> None:
    """The captured amount is ours; the rest of the authorisation is released."""
    charge.update(captured=True, amount_captured=amount)
    intent.update(status="succeeded", amount_received=amount, amount_capturable=0)
    work.move("capture", intent["id"], {**charge, "metadata": intent["metadata"]}, amount, intent["currency"])


def _decline(work: Work, intent: Document, card: TestCard, code: str, decline_code: str | None) -> Answer:
    """402. The intent is not failed: it waits for another payment method (docs.stripe.com/declines)."""
    message = MESSAGES.get(decline_code or code, "Your card was declined.")
    charge = _charge(work, intent, card, "failed")
    charge.update(failure_code=code, failure_message=message)
    charge["outcome"].update(
        network_status="not_sent_to_network" if card.blocked else "declined_by_network",
        type="blocked" if card.blocked else "issuer_declined",
        reason="highest_risk_level" if card.blocked else decline_code or code,
        risk_level="highest" if card.blocked else "normal",
        seller_message="Stripe blocked this payment as too risky." if card.blocked else message,
    )
    work.insert(charge, owner=intent["id"])
    error = card_error(code, decline_code, message, charge=charge["id"])
    refuse(work, intent, error, latest_charge=charge["id"])
    emit(work, "charge.failed", charge)
    emit(work, "payment_intent.payment_failed", intent)
    return _with_intent(error, intent)


def card_error(code: str, decline_code: str | None, message: str, charge: str | None = None) -> StripeError:
    """The error object of a refused card; lives in the answer and as `last_payment_error`."""
    extra: Document = {} if charge is None else {"charge": charge}
    if decline_code is not None:
        extra["decline_code"] = decline_code
    advice = ADVICE.get(decline_code or code)
    if advice is not None:
        extra["advice_code"] = advice
    return StripeError(402, "card_error", message, code, None, extra)


def refuse(work: Work, intent: Document, error: StripeError, latest_charge: str | None = None) -> None:
    """Put the intent back to where another card may be tried."""
    details = error.answer().body["error"]
    intent.update(
        status="requires_payment_method", last_payment_error=details, next_action=None, payment_method=None
    )
    if latest_charge is not None:
        intent["latest_charge"] = latest_charge
    work.save(intent)


def decline_without_charge(work: Work, intent: Document, error: StripeError) -> Answer:
    """A refusal before the issuer was asked: failed or impossible authentication."""
    refuse(work, intent, error)
    emit(work, "payment_intent.payment_failed", intent)
    return _with_intent(error, intent)


def _with_intent(error: StripeError, intent: Document) -> Answer:
    body = error.answer().body
    return Answer(error.status, {"error": {**body["error"], "payment_intent": dict(intent)}})


def _charge(work: Work, intent: Document, card: TestCard, status: str) -> Document:
    return {
        "id": new_id("ch"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "balance_transaction": None,
        "billing_details": {"address": None, "email": None, "name": None, "phone": None},
        "captured": False,
        "created": work.now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "outcome": {
            "advice_code": None,
            "network_advice_code": None,
            "network_decline_code": None,
            "network_status": "approved_by_network",
            "reason": "elevated_risk_level" if card.elevated_risk else None,
            "risk_level": "elevated" if card.elevated_risk else "normal",
            "seller_message": "Payment complete.",
            "type": "manual_review" if card.elevated_risk else "authorized",
        },
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": intent["payment_method"],
        "payment_method_details": {"card": _card_details(intent, card), "type": "card"},
        "refunded": False,
        "review": new_id("prv") if card.elevated_risk else None,
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": status,
    }


def _card_details(intent: Document, card: TestCard) -> Document:
    return {
        "amount_authorized": intent["amount"],
        "authorization_code": None,
        "brand": card.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "exp_month": 8,
        "exp_year": 2030,
        "extended_authorization": {"status": "disabled"},
        "funding": "credit",
        "incremental_authorization": {"status": "unavailable"},
        "last4": card.last4,
        "multicapture": {"status": "unavailable"},
        "network": card.brand,
        "overcapture": {"maximum_amount_capturable": intent["amount"], "status": "unavailable"},
        "three_d_secure": {"result": "authenticated", "version": "2.2.0"} if card.challenge else None,
        "wallet": None,
    }
