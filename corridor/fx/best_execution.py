"""Best execution: judge every answer of the liquidity providers, take the best, keep all as evidence. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from corridor.domain.failure import broken, invariant
from corridor.domain.money import Money
from corridor.domain.quote import slippage_bps
from corridor.fx.port import MidRate, NoOffer, Offer, OfferProblem
from corridor.fx.view import plain

RULE = "best_execution.1"
"""Version of `judge` and `rank`, kept in the evidence of every quote they made."""

Evidence = dict[str, str]


@dataclass(frozen=True)
class Guards:
    """Limits an offer must keep. The reference may be days old (Friday's on a Monday), hence the wide band."""

    off_reference_max_bps: int = 300
    lock_tolerance_seconds: int = 1


DEFAULT_GUARDS = Guards()
_PASSING = (OfferProblem.SILENT, OfferProblem.UNREACHABLE, OfferProblem.FAILED)


@dataclass(frozen=True)
class Inquiry:
    """What all providers were asked at the same moment, and the yardstick for their answers."""

    sell: Money
    buy_currency: str
    lock_seconds: int
    reference: MidRate
    asked_at: datetime
    guards: Guards = DEFAULT_GUARDS

    def __post_init__(self) -> None:
        pair = (self.sell.currency, self.buy_currency)
        invariant(
            (self.reference.base, self.reference.quote) == pair, "the reference is of the pair asked for"
        )


@dataclass(frozen=True)
class Answer:
    """What one provider said, or why it said nothing. `elapsed_ms` counts from `Inquiry.asked_at`."""

    provider: str
    elapsed_ms: int
    offer: Offer | None = None
    problem: OfferProblem | None = None
    detail: str = ""


@dataclass(frozen=True)
class Chosen:
    """The best offer, and the evidence: the reference first, then every answer, winners and losers alike."""

    offer: Offer
    considered: tuple[Evidence, ...]


def choose(inquiry: Inquiry, answers: Sequence[Answer]) -> Chosen:
    """Raises `Refused(RATE_UNAVAILABLE)`, with each provider's reason, when no answer may be taken.

    On a tie the provider that comes first in `answers` wins.
    """
    judged = [_judged(inquiry, answer) for answer in answers]
    usable = [answer for answer in judged if answer.problem is None]
    if not usable:
        raise NoOffer(
            f"nobody offers {inquiry.sell.currency}/{inquiry.buy_currency} for this amount and lock time now",
            [f"{answer.provider}: {answer.problem}" for answer in judged],
            passing=any(answer.problem in _PASSING for answer in judged),
        )
    winner = min(usable, key=_cost)
    evidence = [_evidence(inquiry, answer, answer is winner) for answer in judged]
    return Chosen(_offer(winner), (_reference_evidence(inquiry), *evidence))


def judge(inquiry: Inquiry, offer: Offer, answered_at: datetime) -> OfferProblem | None:
    """Why this offer may not be taken, or None. The lock is counted from the answer, less a clock tolerance."""
    if offer.sell != inquiry.sell or offer.buy_currency != inquiry.buy_currency:
        return OfferProblem.OTHER_PAIR
    if offer.expires_at <= answered_at:
        return OfferProblem.EXPIRED
    lock_until = answered_at + timedelta(seconds=inquiry.lock_seconds - inquiry.guards.lock_tolerance_seconds)
    if offer.expires_at < lock_until:
        return OfferProblem.LOCK_TOO_SHORT
    if (
        offer.minimum is not None
        and offer.minimum.currency == inquiry.sell.currency
        and inquiry.sell < offer.minimum
    ):
        return OfferProblem.BELOW_MINIMUM
    # Both figures are held to the reference: the client's rate is built on the mid, the deal is done at the rate.
    if any(_is_off_reference(inquiry, figure) for figure in (offer.mid, offer.rate)):
        return OfferProblem.OFF_REFERENCE
    return None


def _is_off_reference(inquiry: Inquiry, figure: Decimal) -> bool:
    return abs(slippage_bps(inquiry.reference.rate, figure)) > inquiry.guards.off_reference_max_bps


def _judged(inquiry: Inquiry, answer: Answer) -> Answer:
    if answer.offer is None:
        invariant(answer.problem is not None, "an answer without an offer names its problem")
        return answer
    answered_at = inquiry.asked_at + timedelta(milliseconds=answer.elapsed_ms)
    return replace(answer, problem=judge(inquiry, answer.offer, answered_at))


def _cost(answer: Answer) -> Decimal:
    """Lower is better. The sell side is fixed and offers carry no separate fee: the rate is the whole cost."""
    return -_offer(answer).rate


def _offer(answer: Answer) -> Offer:
    return answer.offer or broken("a usable answer carries an offer")


def _reference_evidence(inquiry: Inquiry) -> Evidence:
    reference = inquiry.reference
    return {
        "kind": "reference",
        "rule": RULE,
        "source": reference.source,
        "pair": f"{reference.base}/{reference.quote}",
        "mid": plain(reference.rate),
        "as_of": reference.as_of.isoformat(),
        "legs": " ".join(f"{leg.pair}={leg.text}" for leg in reference.legs),
        "asked_at": _exact(inquiry.asked_at),
        "off_reference_max_bps": str(inquiry.guards.off_reference_max_bps),
        "lock_tolerance_seconds": str(inquiry.guards.lock_tolerance_seconds),
    }


def _evidence(inquiry: Inquiry, answer: Answer, won: bool) -> Evidence:
    verdict = "chosen" if won else "beaten" if answer.problem is None else "refused"
    evidence = {"kind": "answer", "provider": answer.provider, "verdict": verdict}
    evidence["elapsed_ms"] = str(answer.elapsed_ms)
    if answer.problem is not None:
        evidence |= {"reason": str(answer.problem), "detail": answer.detail}
    if answer.offer is not None:
        evidence |= _offer_evidence(inquiry, answer.offer)
    return evidence


def _offer_evidence(inquiry: Inquiry, offer: Offer) -> Evidence:
    return {
        "reference": offer.reference,
        "rate": plain(offer.rate),
        "mid": plain(offer.mid),
        "spread_bps": str(offer.spread_bps),
        "cost_against_reference_bps": f"{slippage_bps(inquiry.reference.rate, offer.rate):.4f}",
        "expires_at": _exact(offer.expires_at),
    }


def _exact(moment: datetime) -> str:
    """To the microsecond: the evidence must give the same verdict when it is judged again."""
    return moment.astimezone(UTC).isoformat()
