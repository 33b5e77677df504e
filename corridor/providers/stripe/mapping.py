"""Stripe's words to ours: pure functions over full tables. What is not in a table is never final."""

from dataclasses import dataclass
from datetime import datetime

from corridor.domain.effect import FrozenRequest, Operation
from corridor.domain.money import Money
from corridor.domain.outcome import Decline, DeclineCategory, Evidence, NextAction, Outcome, ProviderAnswer
from corridor.providers.document import Document
from corridor.providers.port import LookUp
from corridor.providers.stripe import requests
from corridor.providers.stripe.client import Reply
from corridor.providers.stripe.currencies import from_stripe, to_stripe

_O = Outcome

_ATTEMPT = {
    "requires_action": _O.ACTION_REQUIRED,
    "requires_payment_method": _O.DECLINED,
    "requires_confirmation": _O.PENDING,
    "processing": _O.PENDING,
    "canceled": _O.DECLINED,
}

STATUS_OUTCOMES: dict[Operation, dict[str, Outcome]] = {
    Operation.AUTHORISE: {**_ATTEMPT, "requires_capture": _O.APPROVED, "succeeded": _O.APPROVED},
    Operation.SALE: {**_ATTEMPT, "requires_capture": _O.PENDING, "succeeded": _O.APPROVED},
    Operation.CAPTURE: {"succeeded": _O.APPROVED, "canceled": _O.DECLINED},
    Operation.VOID: {"canceled": _O.APPROVED, "succeeded": _O.DECLINED},
    Operation.REFUND: {
        "succeeded": _O.APPROVED,
        "pending": _O.PENDING,
        "requires_action": _O.PENDING,
        "failed": _O.DECLINED,
        "canceled": _O.DECLINED,
    },
}
"""Status of the intent (of the refund, for refunds) → outcome of the operation; any other string is `pending`.
Sources: https://docs.stripe.com/payments/paymentintents/lifecycle, https://docs.stripe.com/api/refunds/object."""

NOT_YET: dict[Operation, frozenset[str]] = {
    Operation.CAPTURE: frozenset({"requires_capture"}) | _ATTEMPT.keys() - {"canceled"},
    Operation.VOID: frozenset({"requires_capture"}) | _ATTEMPT.keys() - {"canceled", "processing"},
}
"""Statuses of a known intent which show that a capture or a void has not happened (so far)."""

_SOFT, _HARD, _FRAUD = DeclineCategory.SOFT, DeclineCategory.HARD, DeclineCategory.FRAUD
_TECHNICAL, _AUTHENTICATION = DeclineCategory.TECHNICAL, DeclineCategory.AUTHENTICATION


def _all(category: DeclineCategory, codes: str) -> dict[str, DeclineCategory]:
    return dict.fromkeys(codes.split(), category)


DECLINE_CODES: dict[str, DeclineCategory] = {
    **_all(
        _SOFT,
        "insufficient_funds try_again_later issuer_not_available processing_error reenter_transaction approve_with_id"
        " card_velocity_exceeded withdrawal_count_limit_exceeded authentication_required",
    ),
    **_all(
        _HARD,
        "do_not_honor generic_decline no_action_taken not_permitted invalid_account new_account_information_available"
        " currency_not_supported card_not_supported service_not_allowed transaction_not_allowed expired_card"
        " incorrect_number invalid_number incorrect_cvc invalid_cvc invalid_expiry_month invalid_expiry_year"
        " testmode_decline revocation_of_authorization stop_payment_order security_violation do_not_try_again"
        " call_issuer card_declined",
    ),
    **_all(_FRAUD, "fraudulent lost_card stolen_card pickup_card restricted_card merchant_blacklist"),
    **_all(_AUTHENTICATION, "payment_intent_authentication_failure"),
}
"""`decline_code`, else `code`, of a card error (https://docs.stripe.com/declines/codes). A card error with a code that
is not here is still an explicit no; it counts as hard, as Stripe advises for codes one does not know."""

ADVICE_CODES = {"try_again_later": _SOFT, "confirm_card_data": _HARD, "do_not_try_again": _HARD}
"""The issuer's advice overrides the table, except that suspected fraud stays fraud: it must never cascade."""

REQUEST_CODES: dict[str, DeclineCategory] = {
    **_all(_SOFT, "balance_insufficient insufficient_funds"),
    **_all(
        _HARD,
        "charge_expired_for_capture capture_charge_authorization_expired charge_already_refunded"
        " charge_already_captured charge_disputed refund_disputed_payment payment_method_currency_mismatch",
    ),
}
"""Codes of an `invalid_request_error` that describe the money and not our request; all others are technical."""

STATE_CODES = frozenset(
    {"payment_intent_unexpected_state", "charge_already_refunded", "charge_already_captured"}
)
"""“Already done”: never a decline by itself. Somebody moved the object, so its state is read and judged."""

EXPIRED_REASONS = frozenset({"automatic", "expired"})

CONFLICT_RETRY_SECONDS = 1
RATE_LIMIT_RETRY_SECONDS = 2


@dataclass(frozen=True)
class Expected:
    """What an answer must agree with, in Stripe's units and codes; None is not known and not compared."""

    operation: Operation
    effect_key: str
    units: int | None
    currency: str | None
    intent_id: str | None = None

    @staticmethod
    def of_request(operation: Operation, effect_key: str, request: FrozenRequest) -> "Expected":
        """From the frozen bytes, so that a deploy between declaring and sending cannot move the goal."""
        form = requests.fields(request)
        units = form.get("amount_to_capture", form.get("amount"))
        parts = request.path.split("/")
        intent_id = parts[3] if len(parts) == 5 else form.get("payment_intent")
        return Expected(
            operation, effect_key, None if units is None else int(units), form.get("currency"), intent_id
        )

    @staticmethod
    def of_look_up(wanted: LookUp) -> "Expected":
        units = None if wanted.operation is Operation.VOID else to_stripe(wanted.amount)
        return Expected(wanted.operation, wanted.effect_key, units, wanted.amount.currency.lower())


def evidence_of(reply: Reply, seen_at: datetime) -> Evidence:
    """Facts of the exchange; never its body."""
    document = reply.document or Document({})
    error = document.section("error")
    status = error.section("payment_intent").word("status") if error else document.word("status")
    note = (error.word("code") or error.word("type") or "error") if error else ""
    return Evidence(
        seen_at=seen_at,
        http_status=reply.status,
        request_id=reply.request_id,
        provider_status=status,
        note=note,
        replayed=reply.replayed,
    )


def is_state_conflict(reply: Reply) -> bool:
    """True when the object's own state must be read before the answer means anything."""
    code = (reply.document or Document({})).section("error").word("code")
    return reply.status in (400, 404) and code in STATE_CODES


def judge_reply(reply: Reply, expected: Expected, evidence: Evidence) -> ProviderAnswer:
    """Judge the answer to a money call."""
    if reply.status >= 500:
        # Only a replayed one is Stripe's last word under this key. Any other may have come from a machine in front of
        # the one that still works on an earlier call of ours; repeating the key tells, and cannot collect twice.
        return unknown(evidence, "server_error", repeat_is_safe=not reply.replayed)
    if reply.document is None:
        return unknown(evidence, "unreadable_body", repeat_is_safe=True)
    if 200 <= reply.status < 300:
        return judge_object(reply.document, expected, evidence)
    return _judge_error(reply, reply.document.section("error"), expected, evidence)


def judge_object(found: Document, expected: Expected, evidence: Evidence) -> ProviderAnswer:
    """Judge an intent (a refund, for refunds) by its status, once it is known to be the one we asked for."""
    wanted = "refund" if expected.operation is Operation.REFUND else "payment_intent"
    if found.word("object") != wanted or found.word("id") is None:
        return unknown(evidence, "unexpected_object", repeat_is_safe=True)
    status = found.word("status")
    evidence = evidence.model_copy(update={"provider_status": status})
    contradiction = _contradiction(found, expected)
    if contradiction is not None:
        return unknown(evidence, contradiction, repeat_is_safe=False, reference=found.word("id"))
    match STATUS_OUTCOMES[expected.operation].get(status or "", Outcome.PENDING):
        case Outcome.APPROVED:
            return _approved(found, expected, evidence)
        case Outcome.DECLINED:
            return _declined_by_state(found, expected, evidence)
        case Outcome.ACTION_REQUIRED:
            return _action_required(found, evidence)
        case outcome:
            return ProviderAnswer(outcome=outcome, evidence=evidence, provider_reference=found.word("id"))


def unknown(
    evidence: Evidence,
    note: str,
    *,
    repeat_is_safe: bool,
    reference: str | None = None,
    retry_after_seconds: int | None = None,
) -> ProviderAnswer:
    """An effect that may or may not have happened; `note` joins what the evidence already says."""
    return ProviderAnswer(
        outcome=Outcome.UNKNOWN,
        evidence=_noted(evidence, note),
        provider_reference=reference,
        repeat_is_safe=repeat_is_safe,
        retry_after_seconds=retry_after_seconds,
    )


def not_sent(evidence: Evidence, note: str, retry_after_seconds: int | None = None) -> ProviderAnswer:
    """This call executed nothing at Stripe; earlier calls under the same key are judged by their own answers."""
    return ProviderAnswer(
        outcome=Outcome.NOT_SENT,
        evidence=_noted(evidence, note),
        repeat_is_safe=True,
        retry_after_seconds=retry_after_seconds,
    )


def decline_of(error: Document) -> Decline:
    """Class and reason of an error object (a response's `error`, or an intent's `last_payment_error`)."""
    code, decline_code, advice = error.word("code"), error.word("decline_code"), error.word("advice_code")
    word = decline_code or code or error.word("type") or "unspecified"
    if error.word("type") == "card_error":
        category = DECLINE_CODES.get(word, _HARD)
        if category is not _FRAUD and advice is not None:
            category = ADVICE_CODES.get(advice, category)
    else:
        category = DECLINE_CODES.get(word) or REQUEST_CODES.get(word, _TECHNICAL)
    return Decline(
        category=category, reason=word, provider_code="/".join(filter(None, (code, decline_code, advice)))
    )


def _judge_error(reply: Reply, error: Document, expected: Expected, evidence: Evidence) -> ProviderAnswer:
    if not error:
        # Not Stripe's error shape: some other machine answered, which says nothing about the effect.
        return unknown(evidence, "not_an_error_object", repeat_is_safe=True)
    if reply.status in (400, 404) and error.word("type") == "invalid_request_error":
        return _declined(decline_of(error), evidence, expected.intent_id)
    match reply.status:
        case 401 | 403:
            answer = not_sent(evidence, "not_authorised")
        case 402:
            answer = _card_error(error, expected, evidence)
        case 409:
            # An earlier call of ours under this key is still running: its fate is open, and the key guards it.
            wait = reply.retry_after_seconds or CONFLICT_RETRY_SECONDS
            answer = unknown(evidence, "in_progress", repeat_is_safe=True, retry_after_seconds=wait)
        case 429:
            wait = reply.retry_after_seconds or RATE_LIMIT_RETRY_SECONDS
            answer = not_sent(evidence, "rate_limited", wait)
        case _:
            # `idempotency_error` among them: the key is known with other parameters, so something was sent.
            answer = unknown(evidence, "unmapped_error", repeat_is_safe=False)
    return answer


def _card_error(error: Document, expected: Expected, evidence: Evidence) -> ProviderAnswer:
    """402: an explicit no, provided that the intent inside agrees."""
    intent = error.section("payment_intent")
    reference = intent.word("id") or expected.intent_id
    if error.word("type") != "card_error":
        return unknown(evidence, "unmapped_error", repeat_is_safe=False)
    if intent:
        if (contradiction := _contradiction(intent, expected)) is not None:
            return unknown(evidence, contradiction, repeat_is_safe=False, reference=reference)
        refused = {"requires_payment_method", "canceled"}
        still_open = {"requires_capture"} if expected.operation is Operation.CAPTURE else set()
        if intent.word("status") not in refused | still_open:
            return ProviderAnswer(outcome=Outcome.PENDING, evidence=evidence, provider_reference=reference)
    return _declined(decline_of(error), evidence, reference)


def _contradiction(found: Document, expected: Expected) -> str | None:
    """Why `found` is not what we asked for; such an answer is shown to a person and never booked."""
    acts_on_intent = expected.operation in (Operation.CAPTURE, Operation.VOID)
    if acts_on_intent and expected.intent_id is not None and found.word("id") != expected.intent_id:
        return "reference_mismatch"
    if not acts_on_intent and found.section("metadata").word("corridor_effect") != expected.effect_key:
        return "metadata_mismatch"
    if expected.currency is not None and found.word("currency") != expected.currency:
        return "amount_mismatch: currency"
    if not acts_on_intent and found.integer("amount") != expected.units:
        return "amount_mismatch"
    return None


_MOVED_FIELD = {
    (Operation.AUTHORISE, "requires_capture"): "amount_capturable",
    (Operation.AUTHORISE, "succeeded"): "amount",
    (Operation.SALE, "succeeded"): "amount_received",
    (Operation.CAPTURE, "succeeded"): "amount_received",
    (Operation.REFUND, "succeeded"): "amount",
}
"""Where an approved object says what was moved. An authorisation found after its capture was for `amount`."""


def _approved(found: Document, expected: Expected, evidence: Evidence) -> ProviderAnswer:
    reference = found.word("id")
    moved: Money | None = None
    if expected.operation is not Operation.VOID:
        units = found.integer(_MOVED_FIELD[expected.operation, found.word("status") or ""])
        if units is None or units != expected.units:
            return unknown(evidence, "amount_mismatch", repeat_is_safe=False, reference=reference)
        moved = from_stripe(units, found.word("currency") or "")
        if moved is None:
            return unknown(evidence, "amount_mismatch: currency", repeat_is_safe=False, reference=reference)
    held = expected.operation is Operation.AUTHORISE
    return ProviderAnswer(
        outcome=Outcome.APPROVED,
        evidence=evidence,
        provider_reference=reference,
        amount=moved,
        authorization_expires_at=_capture_before(found) if held else None,
    )


def _capture_before(intent: Document) -> datetime | None:
    """The card network's own deadline; present when the charge is expanded."""
    details = intent.section("latest_charge").section("payment_method_details")
    return details.section("card").instant("capture_before")


def _action_required(intent: Document, evidence: Evidence) -> ProviderAnswer:
    """A redirect the buyer can follow; any other challenge has no page of ours to lead to and waits as pending."""
    url = intent.section("next_action").section("redirect_to_url").text("url") or ""
    reference = intent.word("id")
    if not url.startswith(("https://", "http://")) or len(url) > 4096:
        pending = _noted(evidence, "next_action_unusable")
        return ProviderAnswer(outcome=Outcome.PENDING, evidence=pending, provider_reference=reference)
    return ProviderAnswer(
        outcome=Outcome.ACTION_REQUIRED,
        evidence=evidence,
        provider_reference=reference,
        amount=from_stripe(intent.integer("amount") or 0, intent.word("currency") or ""),
        action=NextAction(type="redirect", url=url),
    )


def _declined_by_state(found: Document, expected: Expected, evidence: Evidence) -> ProviderAnswer:
    reference, status = found.word("id"), found.word("status") or ""
    if expected.operation is Operation.REFUND:
        return _declined(_because(found.word("failure_reason") or status, status), evidence, reference)
    if status == "succeeded":
        return _declined(_because("already_captured", status), evidence, reference)
    if status == "canceled":
        why = found.word("cancellation_reason") or ""
        reason = "authorization_expired" if why in EXPIRED_REASONS else "canceled"
        return _declined(_because(reason, f"{status}/{why}".rstrip("/")), evidence, reference)
    failure = found.section("last_payment_error")
    if not failure:
        return ProviderAnswer(outcome=Outcome.PENDING, evidence=evidence, provider_reference=reference)
    decline = decline_of(failure)
    if found.section("latest_charge").section("outcome").word("type") == "blocked":
        decline = decline.model_copy(update={"category": _FRAUD})
    return _declined(decline, evidence, reference)


def _because(reason: str, provider_code: str) -> Decline:
    return Decline(category=_HARD, reason=reason, provider_code=provider_code)


def _declined(decline: Decline, evidence: Evidence, reference: str | None) -> ProviderAnswer:
    return ProviderAnswer(
        outcome=Outcome.DECLINED, evidence=evidence, provider_reference=reference, decline=decline
    )


def _noted(evidence: Evidence, note: str) -> Evidence:
    return evidence.model_copy(update={"note": f"{note}: {evidence.note}" if evidence.note else note})
