"""What merchants' buyers want during a drill, drawn from a seed: who, how much, when, and what the payment waits for."""

import random
from dataclasses import dataclass
from enum import StrEnum

from corridor.domain import currency as iso
from corridor.domain.money import Money


class Kind(StrEnum):
    """What is special about a payment; the first three wait long, for a merchant, a buyer and a person."""

    CAPTURE = "waits for its capture"
    CHALLENGE = "waits for the buyer's bank"
    REVIEW = "waits for a review"
    REFUND = "is refunded in part"
    LOST_ANSWER = "the provider's answer is lost after the effect"
    DECLINED = "is declined"
    PLAIN = "is paid"

    @property
    def waits(self) -> bool:
        return self in (Kind.CAPTURE, Kind.CHALLENGE, Kind.REVIEW)


_SHARES = {
    Kind.CAPTURE: 13,
    Kind.CHALLENGE: 12,
    Kind.REVIEW: 11,
    Kind.REFUND: 6,
    Kind.LOST_ANSWER: 4,
    Kind.DECLINED: 4,
}
_ROUTES = (
    ("lantern-loom", "DE", "EUR"),
    ("kyoto-ceramics", "US", "USD"),
    ("porto-leather", "FR", "EUR"),
    ("thames-outdoor", "GB", "GBP"),
    ("brooklyn-vinyl", "CA", "CAD"),
)
_REVIEWED_EUR = 6_000
"""More than what is let through without a person."""
_TOKENS = {
    Kind.CHALLENGE: "pm_card_threeDSecure2Required",
    Kind.LOST_ANSWER: "pm_card_visa_sandbox_timeoutAfterEffect",
    Kind.DECLINED: "pm_card_visa_chargeDeclinedInsufficientFunds",
}


@dataclass(frozen=True)
class Purchase:
    """One order. `at` is its time in the run, 0 to 1; `is_patient` waits are ended only after the disaster."""

    name: str
    seller: str
    country: str
    amount: Money
    kind: Kind
    at: float
    is_patient: bool

    @property
    def token(self) -> str:
        return _TOKENS.get(self.kind, "pm_card_visa")

    @property
    def capture(self) -> str:
        return "manual" if self.kind is Kind.CAPTURE else "automatic"


def draw(seed: int, count: int) -> tuple[Purchase, ...]:
    """The same seed draws the same purchases. About three in ten are patient waits."""
    dice = random.Random(seed)  # noqa: S311 — a plan to be repeated, not a secret
    kinds = [kind for kind, share in _SHARES.items() for _ in range(max(1, round(share * count / 100)))][
        :count
    ]
    kinds += [Kind.PLAIN] * (count - len(kinds))
    dice.shuffle(kinds)
    return tuple(_one(dice, seed, number, count, kind) for number, kind in enumerate(kinds))


def _one(dice: random.Random, seed: int, number: int, count: int, kind: Kind) -> Purchase:
    seller, country, currency = _ROUTES[2 if kind is Kind.REVIEW else dice.randrange(len(_ROUTES))]
    major = _REVIEWED_EUR if kind is Kind.REVIEW else dice.randint(12, 220)
    return Purchase(
        name=f"drill-{seed}-{number + 1}",
        seller=seller,
        country=country,
        amount=Money(major * 10 ** iso.exponent(currency), currency),
        kind=kind,
        at=number / count,
        is_patient=dice.random() < 0.85,
    )
