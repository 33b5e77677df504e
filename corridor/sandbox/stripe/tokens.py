"""Stripe's public test tokens (docs.stripe.com/testing), and the sandbox's own suffix that adds a fault to any of them.

`<token>_sandbox_<fault>` behaves as `<token>` and meets the fault on the first attempt of the effect; a repeat of
the same effect is healthy. A fault named alone applies to the create or confirm call; prefixed with `capture`,
`cancel` or `refund` it applies to that later call: `pm_card_visa_sandbox_refundTimeoutAfterEffect`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from corridor.sandbox.faults import Fault, FaultKind
from corridor.sandbox.stripe.errors import no_such

SANDBOX_SUFFIX = "_sandbox_"


@dataclass(frozen=True)
class TestCard:
    """How a test card behaves when it is charged."""

    last4: str = "4242"
    brand: str = "visa"
    decline: tuple[str, str | None] | None = None  # (code, decline_code)
    challenge: bool = False
    blocked: bool = False
    elevated_risk: bool = False
    dispute: str | None = None  # reason of the dispute that opens after success
    inquiry: bool = False
    refund: str = "succeeds"
    faults: tuple[tuple[str, Fault], ...] = ()  # (operation it applies to, fault)


def _declined(last4: str, decline_code: str) -> TestCard:
    return TestCard(last4=last4, decline=("card_declined", decline_code))


TEST_CARDS: Mapping[str, TestCard] = {
    "pm_card_visa": TestCard(),
    "pm_card_visa_debit": TestCard(last4="5556"),
    "pm_card_mastercard": TestCard(last4="4444", brand="mastercard"),
    "pm_card_amex": TestCard(last4="8431", brand="amex"),
    "pm_card_discover": TestCard(last4="9424", brand="discover"),
    "pm_card_jcb": TestCard(last4="0505", brand="jcb"),
    "pm_card_unionpay": TestCard(last4="0005", brand="unionpay"),
    "pm_card_visa_chargeDeclined": _declined("0002", "generic_decline"),
    "pm_card_chargeDeclined": _declined("0002", "generic_decline"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": _declined("9995", "insufficient_funds"),
    "pm_card_chargeDeclinedInsufficientFunds": _declined("9995", "insufficient_funds"),
    "pm_card_visa_chargeDeclinedLostCard": _declined("9987", "lost_card"),
    "pm_card_visa_chargeDeclinedStolenCard": _declined("9979", "stolen_card"),
    "pm_card_chargeDeclinedExpiredCard": TestCard(last4="0069", decline=("expired_card", None)),
    "pm_card_chargeDeclinedIncorrectCvc": TestCard(last4="0127", decline=("incorrect_cvc", None)),
    "pm_card_chargeDeclinedProcessingError": TestCard(last4="0119", decline=("processing_error", None)),
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": _declined("6975", "card_velocity_exceeded"),
    "pm_card_visa_chargeDeclinedFraudulent": _declined("0019", "fraudulent"),
    "pm_card_authenticationRequired": TestCard(last4="3184", challenge=True),
    "pm_card_threeDSecure2Required": TestCard(last4="3220", challenge=True),
    "pm_card_threeDSecureRequired": TestCard(last4="3063", challenge=True),
    "pm_card_threeDSecureRequiredChargeDeclined": TestCard(
        last4="1629", challenge=True, decline=("card_declined", "generic_decline")
    ),
    "pm_card_radarBlock": TestCard(last4="0019", blocked=True),
    "pm_card_riskLevelElevated": TestCard(last4="9235", elevated_risk=True),
    "pm_card_createDispute": TestCard(last4="0259", dispute="fraudulent"),
    "pm_card_createDisputeProductNotReceived": TestCard(last4="2685", dispute="product_not_received"),
    "pm_card_createDisputeInquiry": TestCard(last4="1976", dispute="fraudulent", inquiry=True),
    "pm_card_pendingRefund": TestCard(last4="7726", refund="pends"),
    "pm_card_refundFail": TestCard(last4="5126", refund="fails_later"),
}

TOKEN_FAULTS: Mapping[str, Fault] = {
    "resetBeforeEffect": Fault(kind=FaultKind.RESET_BEFORE_EFFECT),
    "timeoutBeforeEffect": Fault(kind=FaultKind.TIMEOUT_BEFORE_EFFECT),
    "timeoutAfterEffect": Fault(kind=FaultKind.TIMEOUT_AFTER_EFFECT),
    "closeAfterEffect": Fault(kind=FaultKind.TIMEOUT_AFTER_EFFECT, hold_open=False),
    "resetAfterEffect": Fault(kind=FaultKind.RESET_AFTER_EFFECT),
    "error500Stored": Fault(kind=FaultKind.STATUS, status=500, stored=True, effect=True),
    "error500StoredNoEffect": Fault(kind=FaultKind.STATUS, status=500, stored=True),
    "error500": Fault(kind=FaultKind.STATUS, status=500),
    "error502": Fault(kind=FaultKind.STATUS, status=502),
    "error503": Fault(kind=FaultKind.STATUS, status=503),
    "rateLimited": Fault(kind=FaultKind.STATUS, status=429),
    "garbage": Fault(kind=FaultKind.GARBAGE_BODY),
    "unknownStatus": Fault(kind=FaultKind.UNKNOWN_STATUS),
    "slow": Fault(kind=FaultKind.LATENCY, milliseconds=2000),
    "lookupLag": Fault(kind=FaultKind.LOOKUP_LAG, seconds=5),
    "webhookFirst": Fault(kind=FaultKind.WEBHOOK_FIRST),
    "webhookDuplicate": Fault(kind=FaultKind.WEBHOOK_DUPLICATE, copies=2),
    "webhookLate": Fault(kind=FaultKind.WEBHOOK_DELAY, milliseconds=5000),
    "webhookReordered": Fault(kind=FaultKind.WEBHOOK_REORDER),
    "webhookMissing": Fault(kind=FaultKind.WEBHOOK_DROP),
}

# A withheld answer whose effect also stays invisible to lookups for a while: the hardest unknown.
_COMBINED = {"timeoutAfterEffectLookupLag": ("timeoutAfterEffect", "lookupLag")}
_LATER_OPERATIONS = {
    "capture": "payment_intents.capture",
    "cancel": "payment_intents.cancel",
    "refund": "refunds.create",
}
FIRST_OPERATION = "payment_intents.create"


def test_card(token: str) -> TestCard:
    """The behaviour behind a token; StripeError `resource_missing` for one that does not exist."""
    base, suffix, fault_name = token.partition(SANDBOX_SUFFIX)
    card = TEST_CARDS.get(base)
    faults = _token_faults(fault_name) if suffix else ()
    if card is None or faults is None:
        raise no_such("PaymentMethod", token, param="payment_method")
    return replace(card, faults=faults)


def token_faults(token: str, operation: str) -> list[Fault]:
    """The faults a token asks for on one operation; a confirm counts as the create it completes."""
    wanted = FIRST_OPERATION if operation == "payment_intents.confirm" else operation
    return [fault for name, fault in test_card(token).faults if name == wanted]


def _token_faults(name: str) -> tuple[tuple[str, Fault], ...] | None:
    operation = FIRST_OPERATION
    for prefix, later in _LATER_OPERATIONS.items():
        if name.startswith(prefix) and name[len(prefix) : len(prefix) + 1].isupper():
            operation, name = later, name[len(prefix)].lower() + name[len(prefix) + 1 :]
            break
    parts = _COMBINED.get(name, (name,))
    if any(part not in TOKEN_FAULTS for part in parts):
        return None
    return tuple((operation, TOKEN_FAULTS[part]) for part in parts)
