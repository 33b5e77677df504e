"""PaymentIntents: create, confirm, capture, cancel, the buyer's 3-D Secure challenge, and lapsed authorisations."""

from corridor.sandbox.stripe import charges, settlement
from corridor.sandbox.stripe.charges import card_error, charge_card, decline_without_charge
from corridor.sandbox.stripe.currencies import check_currency, check_divisible
from corridor.sandbox.stripe.errors import Answer, Document, StripeError, invalid_request
from corridor.sandbox.stripe.events import emit
from corridor.sandbox.stripe.tokens import test_card
from corridor.sandbox.stripe.work import Work, new_id

CONFIRMABLE = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})
CANCELABLE = CONFIRMABLE | {"requires_capture"}


def check_create(work: Work, params: Document) -> None:
    """Validation before execution: its refusals are not stored under the key."""
    for name in ("amount", "currency"):
        if name not in params:
            raise invalid_request(f"Missing required param: {name}.", code="parameter_missing", param=name)
    params["currency"] = params["currency"].lower()
    check_currency(params["currency"])
    work.exchange.check_charge_amount(params["amount"], params["currency"])
    if "payment_method" in params:
        test_card(params["payment_method"])
    if "confirm" not in params and ("return_url" in params or "error_on_requires_action" in params):
        raise invalid_request("return_url and error_on_requires_action need confirm=true.", param="confirm")
    if params.get("confirm") and "payment_method" not in params:
        raise invalid_request(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
        )


def check_confirm(_work: Work, params: Document) -> None:
    """Validation of a confirm call before execution."""
    if "payment_method" in params:
        test_card(params["payment_method"])


def create(work: Work, params: Document) -> Answer:
    """A new intent, confirmed in the same call if asked."""
    intent = _intent(work, params)
    private: Document = {"idempotency_key": work.idempotency_key, "card": params.get("payment_method")}
    work.insert(intent, private=private)
    emit(work, "payment_intent.created", dict(intent))
    return _confirm(work, intent, params) if params.get("confirm") else Answer(200, intent)


def confirm(work: Work, params: Document, intent_id: str) -> Answer:
    """Try (again) with the given payment method or the one already attached."""
    intent = work.get("payment_intent", intent_id, "intent")
    if intent["status"] not in CONFIRMABLE:
        raise unexpected_state(intent, "confirm")
    private = work.private("payment_intent", intent_id)
    token = params.get("payment_method") or (private.get("card") if intent["payment_method"] else None)
    if token is None:
        raise unexpected_state(intent, "confirm")
    work.save_private(intent_id, {**private, "idempotency_key": work.idempotency_key, "card": token})
    intent["payment_method"] = new_id("pm")
    return _confirm(work, intent, {**params, "payment_method": token})


def capture(work: Work, params: Document, intent_id: str) -> Answer:
    """Take all or part of an authorisation; the rest is released."""
    intent = work.get("payment_intent", intent_id, "intent")
    if intent["status"] != "requires_capture":
        raise unexpected_state(intent, "capture")
    charge = work.get("charge", intent["latest_charge"])
    if work.now >= charge["payment_method_details"]["card"]["capture_before"]:
        raise invalid_request(
            "The charge's authorization has expired and can no longer be captured.",
            code="charge_expired_for_capture",
        )
    amount: int = params.get("amount_to_capture") or intent["amount_capturable"]
    _check_capture(intent, amount, params)
    _merge_metadata(work, intent, params)
    charges.mark_captured(work, intent, charge, amount)
    settlement.settle_charge(work, charge)
    work.save(charge)
    work.save(intent)
    if test_card(work.private("payment_intent", intent_id)["card"]).dispute is not None:
        work.after(work.config.slow_operation_seconds, "open_dispute", charge["id"])
    emit(work, "charge.captured", charge)
    emit(work, "payment_intent.succeeded", intent)
    return Answer(200, intent)


def cancel(work: Work, params: Document, intent_id: str) -> Answer:
    """Give up an intent; an authorisation on it is released."""
    intent = work.get("payment_intent", intent_id, "intent")
    if intent["status"] not in CANCELABLE:
        raise unexpected_state(intent, "cancel")
    _release(work, intent, params.get("cancellation_reason"))
    emit(work, "payment_intent.canceled", intent)
    return Answer(200, intent)


def update(work: Work, params: Document, intent_id: str) -> Answer:
    """Change metadata and description; an empty value removes a metadata key."""
    intent = work.get("payment_intent", intent_id, "intent")
    _merge_metadata(work, intent, params)
    intent["description"] = params.get("description", intent["description"])
    work.save(intent)
    return Answer(200, intent)


def expire_authorization(work: Work, intent_id: str) -> None:
    """The network's window has passed without a capture (docs.stripe.com/payments/extended-authorization)."""
    intent = work.get("payment_intent", intent_id)
    if intent["status"] != "requires_capture":
        return
    charge = work.get("charge", intent["latest_charge"])
    _release(work, intent, "automatic")
    emit(work, "charge.expired", charge)
    emit(work, "payment_intent.canceled", intent)


def finish_challenge(work: Work, intent_id: str, *, passed: bool) -> Document:
    """The buyer came through the 3-D Secure page, or failed there."""
    intent = work.get("payment_intent", intent_id)
    if intent["status"] != "requires_action":
        raise unexpected_state(intent, "authenticate")
    if passed:
        charge_card(work, intent, test_card(work.private("payment_intent", intent_id)["card"]))
    else:
        message = "The provided PaymentMethod has failed authentication."
        error = card_error("payment_intent_authentication_failure", None, message)
        decline_without_charge(work, intent, error)
    return intent


def unexpected_state(intent: Document, verb: str) -> StripeError:
    """400 with the intent inside, so that the caller can read where it stands."""
    return invalid_request(
        f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}.",
        code="payment_intent_unexpected_state",
        payment_intent=intent,
    )


def _confirm(work: Work, intent: Document, params: Document) -> Answer:
    card = test_card(params["payment_method"])
    if not card.challenge:
        return charge_card(work, intent, card)
    if params.get("error_on_requires_action") or params.get("off_session"):
        message = "This payment required an authentication action to complete."
        return decline_without_charge(
            work, intent, card_error("authentication_required", "authentication_required", message)
        )
    intent.update(
        status="requires_action", next_action=_next_action(work, intent, params), last_payment_error=None
    )
    work.save(intent)
    emit(work, "payment_intent.requires_action", intent)
    return Answer(200, intent)


def _next_action(work: Work, intent: Document, params: Document) -> Document:
    """Stripe sends the browser to a page only if it knows where to send it back to."""
    return_url = params.get("return_url")
    if return_url is None:
        return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
    private = work.private("payment_intent", intent["id"])
    work.save_private(intent["id"], {**private, "return_url": return_url})
    page = f"{work.base_url}/stripe/3ds/{intent['id']}"
    return {"type": "redirect_to_url", "redirect_to_url": {"url": page, "return_url": return_url}}


def _merge_metadata(work: Work, intent: Document, params: Document) -> None:
    merged = {**intent["metadata"], **params.get("metadata", {})}
    intent["metadata"] = {key: value for key, value in merged.items() if value}
    work.index_metadata(intent)


def _check_capture(intent: Document, amount: int, params: Document) -> None:
    if params.get("final_capture") is False:
        raise invalid_request("This account does not support multicapture.", param="final_capture")
    if amount > intent["amount_capturable"]:
        raise invalid_request(
            f"This PaymentIntent could not be captured because the amount_to_capture ({amount}) is greater than "
            f"the amount_capturable ({intent['amount_capturable']}).",
            code="amount_too_large",
            param="amount_to_capture",
        )
    check_divisible(amount, intent["currency"], "amount_to_capture")


def _release(work: Work, intent: Document, reason: str | None) -> None:
    if intent["status"] == "requires_capture":
        charge = work.get("charge", intent["latest_charge"])
        charge.update(refunded=True, amount_refunded=charge["amount"])
        work.save(charge)
        work.move("cancel", intent["id"], charge, intent["amount_capturable"], intent["currency"])
    intent.update(
        status="canceled",
        canceled_at=work.now,
        cancellation_reason=reason,
        amount_capturable=0,
        next_action=None,
    )
    work.save(intent)


def _capture_method(params: Document) -> str:
    """The card option, where given, wins over the intent's own capture_method."""
    card: Document = params.get("payment_method_options", {}).get("card", {})
    return str(card.get("capture_method") or params.get("capture_method", "automatic_async"))


def _intent(work: Work, params: Document) -> Document:
    intent_id = new_id("pi")
    has_method = "payment_method" in params
    return {
        "id": intent_id,
        "object": "payment_intent",
        "amount": params["amount"],
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": params.get("automatic_payment_methods"),
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": _capture_method(params),
        "client_secret": f"{intent_id}_{new_id('secret')}",
        "confirmation_method": params.get("confirmation_method", "automatic"),
        "created": work.now,
        "currency": params["currency"],
        "customer": params.get("customer"),
        "description": params.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": {key: value for key, value in params.get("metadata", {}).items() if value},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": new_id("pm") if has_method else None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": params.get("payment_method_types", ["card"]),
        "processing": None,
        "receipt_email": params.get("receipt_email"),
        "review": None,
        "setup_future_usage": params.get("setup_future_usage"),
        "shipping": params.get("shipping"),
        "statement_descriptor": params.get("statement_descriptor"),
        "statement_descriptor_suffix": params.get("statement_descriptor_suffix"),
        "status": "requires_confirmation" if has_method else "requires_payment_method",
        "transfer_data": None,
        "transfer_group": params.get("transfer_group"),
    }
