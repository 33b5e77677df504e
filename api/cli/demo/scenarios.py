"""What can happen to an order of the demo, and how it must end: the table every ending is held against.

Cards are Stripe's public test tokens (docs.stripe.com/testing); a fault is the sandbox's suffix to such a token and
strikes the first attempt of one effect.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from corridor.domain.money import Money
from corridor.domain.outcome import DeclineCategory
from corridor.domain.payment import CaptureMethod, RefundStatus, Status, StatusReason


class Share(StrEnum):
    """How much of an amount a step is about."""

    NONE = "none"
    PART = "part"
    ALL = "all"

    def of(self, amount: Money) -> Money:
        """A part is three fifths, in steps of ten minor units: Stripe takes dinars in no smaller ones."""
        match self:
            case Share.NONE:
                return Money(0, amount.currency)
            case Share.PART:
                return Money(amount.minor * 3 // 5 // 10 * 10, amount.currency)
            case Share.ALL:
                return amount


@dataclass(frozen=True)
class Scenario:
    """`ending` None: the order never becomes a payment. `test_card` None: the buyer's own card, which is good."""

    says: str
    ending: Status | None = Status.SETTLED
    reason: StatusReason | None = None
    decline: DeclineCategory | None = None
    test_card: str | None = None
    fault: str = ""
    capture: CaptureMethod = CaptureMethod.AUTOMATIC
    captured: Share = Share.ALL
    refunded: Share = Share.NONE
    refunds: tuple[RefundStatus, ...] = ()

    def token_of(self, card: str) -> str:
        """The provider's token the shop sends for a buyer with such a card."""
        token = self.test_card or f"pm_card_{card}"
        return f"{token}_sandbox_{self.fault}" if self.fault else token


_DONE, _CAME_BACK = RefundStatus.SUCCEEDED, RefundStatus.FAILED


def _fault(fault: str, says: str) -> Scenario:
    return Scenario(says, fault=fault)


def _declined(token: str, category: DeclineCategory, says: str) -> Scenario:
    return Scenario(
        says,
        Status.FAILED,
        StatusReason.DECLINED_BY_PROVIDER,
        category,
        f"pm_card_{token}",
        captured=Share.NONE,
    )


def _challenge(says: str, ending: Status = Status.SETTLED, reason: StatusReason | None = None) -> Scenario:
    captured = Share.ALL if ending is Status.SETTLED else Share.NONE
    return Scenario(says, ending, reason, test_card="pm_card_threeDSecure2Required", captured=captured)


def _manual(
    says: str,
    ending: Status = Status.SETTLED,
    reason: StatusReason | None = None,
    captured: Share = Share.ALL,
) -> Scenario:
    return Scenario(says, ending, reason, capture=CaptureMethod.MANUAL, captured=captured)


def _refund(
    says: str, refunded: Share, *refunds: RefundStatus, test_card: str | None = None, fault: str = ""
) -> Scenario:
    return Scenario(says, test_card=test_card, fault=fault, refunded=refunded, refunds=refunds or (_DONE,))


_FAILED, _NONE = Status.FAILED, Share.NONE

SCENARIOS: Mapping[str, Scenario] = {
    "plain": Scenario("the buyer pays"),
    # A provider keeps a balance that refunds made negative, and with it the charges in it, until later charges
    # outweigh them. So the day ends with one order per refunded currency that is larger than its refunds.
    "closing": Scenario(
        "the day's last order of its currency outweighs the refunds, so everything is paid out"
    ),
    # --- the issuer says no ---
    "soft_decline": _declined(
        "visa_chargeDeclinedInsufficientFunds", DeclineCategory.SOFT, "the card has no funds"
    ),
    "hard_decline": _declined("chargeDeclinedExpiredCard", DeclineCategory.HARD, "the card has expired"),
    "fraud_decline": _declined(
        "visa_chargeDeclinedStolenCard", DeclineCategory.FRAUD, "the card was reported stolen"
    ),
    # --- 3-D Secure ---
    "challenge_completed": _challenge("the buyer authenticates at the bank's page"),
    "challenge_failed": Scenario(
        "the buyer fails the bank's check",
        _FAILED,
        StatusReason.DECLINED_BY_PROVIDER,
        DeclineCategory.AUTHENTICATION,
        "pm_card_threeDSecure2Required",
        captured=_NONE,
    ),
    "challenge_abandoned": _challenge(
        "the buyer closes the bank's page", Status.EXPIRED, StatusReason.AUTHENTICATION_ABANDONED
    ),
    "canceled_during_challenge": _challenge(
        "the shop cancels while the buyer is at the bank's page",
        Status.CANCELED,
        StatusReason.CANCELED_BY_MERCHANT,
    ),
    # --- the provider misbehaves ---
    "timeout_after_effect": _fault("timeoutAfterEffect", "the charge happens and the answer never comes"),
    "timeout_and_hidden": _fault(
        "timeoutAfterEffectLookupLag", "the answer never comes and look-ups cannot see the charge for a while"
    ),
    "closed_after_effect": _fault("closeAfterEffect", "the connection breaks after the charge"),
    "error_500_stored": _fault("error500Stored", "the charge happens, the answer is a 500 that is kept"),
    "never_sent": Scenario(
        "a kept 500 without a charge, which may still come: a person asks the provider, and finds none",
        _FAILED,
        StatusReason.NOT_SENT,
        fault="error500StoredNoEffect",
        captured=_NONE,
    ),
    "reset_before_effect": _fault("resetBeforeEffect", "the connection breaks before the charge"),
    "rate_limited": _fault("rateLimited", "the provider is busy (429)"),
    "error_503": _fault("error503", "the provider answers 503, and takes the same key a moment later"),
    "webhook_duplicate": _fault("webhookDuplicate", "the provider's webhook comes three times"),
    "webhook_late": _fault("webhookLate", "the provider's webhook is late"),
    "webhook_missing": _fault("webhookMissing", "the provider's webhook never comes"),
    "webhook_first": _fault("webhookFirst", "the provider's webhook overtakes its answer"),
    # --- the shop repeats itself ---
    "sent_twice": Scenario("the shop sends the same request twice at once"),
    "same_key_other_body": Scenario("the shop uses the key again for another amount, and is refused"),
    # --- rates ---
    "quote_taken": Scenario("the shop shows the buyer a quote and uses it in time"),
    "quote_expired_before_payment": Scenario(
        "the quote expires before the buyer pays: refused, then paid anew"
    ),
    "quote_expired_requoted": _manual("the lock ends before the capture; the new rate is inside the limit"),
    "quote_expired_rejected": _manual(
        "the lock ends before the capture and the shop takes no other rate",
        _FAILED,
        StatusReason.SLIPPAGE_EXCEEDED,
        _NONE,
    ),
    # --- capture and cancel ---
    "manual_capture": _manual("the shop captures when it ships"),
    "partial_capture": _manual("one item is out of stock: a part is captured", captured=Share.PART),
    "canceled": _manual(
        "the shop cancels instead of shipping", Status.CANCELED, StatusReason.CANCELED_BY_MERCHANT, _NONE
    ),
    # --- refunds ---
    "refund_full_early": _refund("refunded in full before settlement", Share.ALL),
    "refund_part_early": _refund("refunded in part before settlement", Share.PART),
    "refund_full_late": _refund("refunded in full after settlement", Share.ALL),
    "refund_part_late": _refund("refunded in part after settlement", Share.PART),
    "refunds_racing": _refund(
        "two refunds that exceed the capture together race; one is refused", Share.PART
    ),
    "refund_timeout": _refund(
        "the refund happens and the answer never comes", Share.ALL, fault="refundTimeoutAfterEffect"
    ),
    "refund_pending": _refund("the refund takes a while", Share.ALL, test_card="pm_card_pendingRefund"),
    "refund_came_back": _refund(
        "the refund succeeds and comes back", Share.NONE, _CAME_BACK, test_card="pm_card_refundFail"
    ),
    # --- people ---
    "review_approved": Scenario("a large order waits for a person, who approves"),
    "review_declined": Scenario(
        "a large order waits for a person, who declines",
        _FAILED,
        StatusReason.DECLINED_BY_REVIEWER,
        captured=_NONE,
    ),
    "over_limit": Scenario("an order above the limit is refused at the door", None, captured=_NONE),
}
