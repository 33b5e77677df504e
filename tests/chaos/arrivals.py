"""The payments of a run: who buys what for how much, and what is to happen to each, drawn from the seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from corridor.domain.money import Money


class Story(StrEnum):
    """What a shop and its buyer do with one order."""

    BOUGHT = "bought"
    DECLINED = "declined"
    SENT_AT_ONCE = "sent_at_once"
    OTHER_BODY = "other_body"
    QUOTED = "quoted"
    CHALLENGE_COMPLETED = "challenge_completed"
    CHALLENGE_FAILED = "challenge_failed"
    CHALLENGE_ABANDONED = "challenge_abandoned"
    CANCELED_AT_THE_BANK = "canceled_at_the_bank"
    CAPTURED = "captured"
    CAPTURED_IN_PART = "captured_in_part"
    CANCELED = "canceled"
    CAPTURE_RACING_CANCEL = "capture_racing_cancel"
    REFUNDED = "refunded"
    REFUNDED_IN_PART = "refunded_in_part"
    REFUNDS_RACING = "refunds_racing"
    REVIEW_APPROVED = "review_approved"
    REVIEW_DECLINED = "review_declined"
    REVIEW_DECIDED_TWICE = "review_decided_twice"


@dataclass(frozen=True)
class Arrival:
    """One order. `fault` is the sandbox's token suffix, met on the first attempt of one effect; empty for none."""

    at_seconds: float
    id: str
    seller: str
    country: str
    amount: Money
    token: str
    story: Story
    fault: str = ""


_WEIGHTS: Mapping[Story, int] = {
    Story.BOUGHT: 44,
    Story.DECLINED: 5,
    Story.SENT_AT_ONCE: 7,
    Story.OTHER_BODY: 2,
    Story.QUOTED: 8,
    Story.CHALLENGE_COMPLETED: 4,
    Story.CHALLENGE_FAILED: 1,
    Story.CHALLENGE_ABANDONED: 1,
    Story.CANCELED_AT_THE_BANK: 1,
    Story.CAPTURED: 5,
    Story.CAPTURED_IN_PART: 3,
    Story.CANCELED: 3,
    Story.CAPTURE_RACING_CANCEL: 4,
    Story.REFUNDED: 4,
    Story.REFUNDED_IN_PART: 4,
    Story.REFUNDS_RACING: 4,
    Story.REVIEW_APPROVED: 2,
    Story.REVIEW_DECLINED: 1,
    Story.REVIEW_DECIDED_TWICE: 2,
}
"""Quotes are the only calls on the edge from the API to the liquidity providers: fewer, and its faults meet nothing."""
_SALE_FAULTS = (
    "resetBeforeEffect", "timeoutBeforeEffect", "timeoutAfterEffect", "closeAfterEffect", "resetAfterEffect",
    "error500Stored", "error500StoredNoEffect", "error500", "error502", "error503", "rateLimited", "garbage",
    "unknownStatus", "slow", "lookupLag", "timeoutAfterEffectLookupLag",
    "webhookFirst", "webhookDuplicate", "webhookLate", "webhookReordered", "webhookMissing",
)  # fmt: skip
_LATER_FAULTS = (
    "ResetBeforeEffect", "TimeoutAfterEffect", "CloseAfterEffect", "ResetAfterEffect", "Error500Stored",
    "Error500", "Error503", "RateLimited", "Garbage",
)  # fmt: skip
_LATER_CALL: Mapping[Story, str] = {
    Story.CAPTURED: "capture",
    Story.CAPTURED_IN_PART: "capture",
    Story.CAPTURE_RACING_CANCEL: "capture",
    Story.CANCELED: "cancel",
    Story.REFUNDED: "refund",
    Story.REFUNDED_IN_PART: "refund",
}
_REVIEWS = (Story.REVIEW_APPROVED, Story.REVIEW_DECLINED, Story.REVIEW_DECIDED_TWICE)
_DECLINES = (
    "pm_card_visa_chargeDeclinedInsufficientFunds",
    "pm_card_chargeDeclinedExpiredCard",
    "pm_card_visa_chargeDeclinedStolenCard",
)
_CARDS = ("pm_card_visa", "pm_card_visa", "pm_card_mastercard", "pm_card_amex", "pm_card_jcb")

# Country and currency of the buyer, and about what 100 euros are in it, in minor units. Dinars only for the seller
# that is settled in them: the reference rates have none.
_BUYERS: Sequence[tuple[str, str, int]] = (
    ("DE", "EUR", 10_000),
    ("US", "USD", 11_000),
    ("GB", "GBP", 8_700),
    ("JP", "JPY", 16_000),
    ("CH", "CHF", 9_600),
    ("PL", "PLN", 43_000),
    ("SE", "SEK", 112_000),
)
SELLERS = (
    "lantern-loom", "kyoto-ceramics", "porto-leather", "thames-outdoor", "brooklyn-vinyl", "fjord-design",
)  # fmt: skip
SUBSCRIBERS = ("porto-leather", "dar-al-oud")
"""Sellers that want webhooks. Every event of theirs is a workflow of its own, which for all would be most of the load."""
_DINARS = ("dar-al-oud", ("KW", "KWD", 3_400))
BURST_SECONDS = 4.0
HOT_SELLER = "lantern-loom"
"""Half of the rush is at one merchant: what is locked by merchant is contended for there."""
CLOSING = "closing"


def rush_at(random: Random, seconds: float) -> float:
    """When the rush begins: the first thing that a generator of arrivals says."""
    return random.uniform(0.3, 0.6) * seconds


def draw(random: Random, count: int, seconds: float) -> tuple[Arrival, ...]:
    """`count` arrivals in the order they come, each story at least once; a tenth of them in one rush (F16)."""
    rush = rush_at(random, seconds)
    times = sorted(
        rush + random.uniform(0, BURST_SECONDS) if n % 10 == 0 else random.uniform(0, seconds)
        for n in range(count)
    )
    further = random.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=max(0, count - len(_WEIGHTS)))
    stories = [*_WEIGHTS, *further][:count]
    random.shuffle(stories)
    return tuple(
        _arrival(random, n, at, story, is_rush=rush <= at <= rush + BURST_SECONDS)
        for n, (at, story) in enumerate(zip(times, stories, strict=True))
    )


def closing_orders(round_number: int) -> tuple[Arrival, ...]:
    """One large healthy order per currency: a provider holds a balance that refunds made negative until charges

    outweigh it, and with it the charges inside.
    """
    buyers = [(SELLERS[0], buyer) for buyer in _BUYERS] + [_DINARS]
    return tuple(
        Arrival(0.0, f"{CLOSING}-{round_number}-{currency}-{number}", seller, country, Money(45 * hundred, currency), _CARDS[0],
                Story.BOUGHT)
        for seller, (country, currency, hundred) in buyers
        for number in (1, 2)
    )  # fmt: skip


def _arrival(random: Random, number: int, at_seconds: float, story: Story, *, is_rush: bool) -> Arrival:
    seller, (country, currency, hundred) = (
        _DINARS if random.random() < 0.06 else (random.choice(SELLERS), random.choice(_BUYERS))
    )
    if is_rush and currency != "KWD" and random.random() < 0.5:
        seller = HOT_SELLER
    # Ten minor units are the smallest step Stripe takes for dinars; above 5,000 euros a person looks at it.
    share = random.randint(6_000, 9_000) if story in _REVIEWS else random.randint(5, 300)
    minor = hundred * share // 100 // 10 * 10
    return Arrival(
        at_seconds=round(at_seconds, 3),
        id=f"order-{number}",
        seller=seller,
        country=country,
        amount=Money(minor, currency),
        token=_token(random, story),
        story=story,
        fault=_fault(random, story),
    )


def _token(random: Random, story: Story) -> str:
    if story is Story.DECLINED:
        return random.choice(_DECLINES)
    if "challenge" in story or story is Story.CANCELED_AT_THE_BANK:
        return "pm_card_threeDSecure2Required"
    if story is Story.REFUNDED_IN_PART and random.random() < 0.3:
        return random.choice(("pm_card_pendingRefund", "pm_card_refundFail"))
    return random.choice(_CARDS)


def _fault(random: Random, story: Story) -> str:
    if story in _LATER_CALL and random.random() < 0.5:
        return f"{_LATER_CALL[story]}{random.choice(_LATER_FAULTS)}"
    plain = story in (Story.BOUGHT, Story.SENT_AT_ONCE, Story.CAPTURED, Story.REFUNDED, Story.QUOTED)
    return random.choice(_SALE_FAULTS) if plain and random.random() < 0.55 else ""
