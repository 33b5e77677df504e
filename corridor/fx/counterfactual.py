"""What a changed FX policy would have made of the offers a quote was chosen from. Pure; nobody is asked anything.

The evidence of a quote holds every answer the liquidity providers gave, so another markup or another limit is decided
on the same offers. An offer for another lock time was never asked for, and is never made up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from corridor.domain.failure import Refused
from corridor.domain.quote import Quote, client_amounts, slippage_bps
from corridor.fx.best_execution import DEFAULT_GUARDS, Guards
from corridor.fx.port import OfferProblem


@dataclass(frozen=True)
class Terms:
    """What is changed; None leaves it as it was. `markup_change_bps` adds to the markup each merchant had."""

    markup_bps: int | None = None
    markup_change_bps: int = 0
    off_reference_max_bps: int | None = None
    maximum_spread_bps: int | None = None
    """Offers further below their own mid than this are refused; today nothing limits it."""


@dataclass(frozen=True)
class Offered:
    """One answer of the evidence that was an offer."""

    provider: str
    reference: str
    rate: Decimal
    mid: Decimal
    spread_bps: int
    expires_at: datetime
    answered_at: datetime
    refused: OfferProblem | None
    chosen: bool


def reprice(quote: Quote, terms: Terms) -> Quote | None:
    """The quote these terms would have made of the same answers; None when no offer would have been taken.

    Raises `ValueError` for a quote without evidence.
    """
    reference, offers = evidence_of(quote)
    winner = _best(reference, offers, terms, guards_of(quote))
    return None if winner is None else _priced(quote, winner, _markup(quote, offers, terms))


def is_reproduced(quote: Quote) -> bool:
    """Choosing and pricing again, on nothing but the evidence, gives the same quote bit for bit."""
    reference, offers = evidence_of(quote)
    guards = guards_of(quote)
    judged = [(offer.refused, _judged(quote, reference, offer, guards)) for offer in offers]
    return all(was == again for was, again in judged) and reprice(quote, Terms()) == quote


def evidence_of(quote: Quote) -> tuple[Decimal, tuple[Offered, ...]]:
    """(reference mid, offers in the order they were asked). Raises `ValueError` where the evidence is missing."""
    kinds: dict[str, list[Mapping[str, str]]] = {"reference": [], "answer": []}
    for evidence in quote.considered:
        kinds.setdefault(evidence.get("kind", ""), []).append(evidence)
    if len(kinds["reference"]) != 1 or not any(it.get("verdict") == "chosen" for it in kinds["answer"]):
        raise ValueError(f"{quote.id} carries no evidence of what was offered")
    offers = tuple(_offered(quote, it) for it in kinds["answer"] if "rate" in it)
    return Decimal(kinds["reference"][0]["mid"]), offers


def guards_of(quote: Quote) -> Guards:
    """The limits in force then; evidence of before they were kept was made under the defaults."""
    reference = next((it for it in quote.considered if it.get("kind") == "reference"), {})
    if "off_reference_max_bps" not in reference:
        return DEFAULT_GUARDS
    return Guards(int(reference["off_reference_max_bps"]), int(reference["lock_tolerance_seconds"]))


def _offered(quote: Quote, evidence: Mapping[str, str]) -> Offered:
    return Offered(
        provider=evidence["provider"],
        reference=evidence["reference"],
        rate=Decimal(evidence["rate"]),
        mid=Decimal(evidence["mid"]),
        spread_bps=int(evidence["spread_bps"]),
        expires_at=datetime.fromisoformat(evidence["expires_at"]),
        answered_at=quote.valid_from + timedelta(milliseconds=int(evidence["elapsed_ms"])),
        refused=OfferProblem(evidence["reason"]) if "reason" in evidence else None,
        chosen=evidence["verdict"] == "chosen",
    )


def _best(reference: Decimal, offers: tuple[Offered, ...], terms: Terms, guards: Guards) -> Offered | None:
    """The best rate of what may be taken; on a tie the first that was asked, as in `choose`."""
    limit = (
        guards.off_reference_max_bps if terms.off_reference_max_bps is None else terms.off_reference_max_bps
    )
    usable = [it for it in offers if _may_be_taken(reference, it, limit, terms.maximum_spread_bps)]
    return min(usable, key=lambda it: -it.rate, default=None)


def _may_be_taken(reference: Decimal, offer: Offered, limit: int, maximum_spread_bps: int | None) -> bool:
    """Off the reference is judged last, so an offer refused for that alone passed every other limit."""
    if offer.refused not in (None, OfferProblem.OFF_REFERENCE):
        return False
    if maximum_spread_bps is not None and offer.spread_bps > maximum_spread_bps:
        return False
    return not _is_off_reference(reference, offer, limit)


def _is_off_reference(reference: Decimal, offer: Offered, limit: int) -> bool:
    return any(abs(slippage_bps(reference, figure)) > limit for figure in (offer.mid, offer.rate))


def _judged(quote: Quote, reference: Decimal, offer: Offered, guards: Guards) -> OfferProblem | None:
    """`best_execution.judge` on the evidence. What it says of the offer's pair and minimum is taken as recorded."""
    if offer.refused in (OfferProblem.OTHER_PAIR, OfferProblem.BELOW_MINIMUM):
        return offer.refused
    if offer.expires_at <= offer.answered_at:
        return OfferProblem.EXPIRED
    held = timedelta(seconds=quote.lock_seconds - guards.lock_tolerance_seconds)
    if offer.expires_at < offer.answered_at + held:
        return OfferProblem.LOCK_TOO_SHORT
    off = _is_off_reference(reference, offer, guards.off_reference_max_bps)
    return OfferProblem.OFF_REFERENCE if off else None


def _markup(quote: Quote, offers: tuple[Offered, ...], terms: Terms) -> int:
    """What lay on top of the chosen offer's own spread, unless the terms say."""
    if terms.markup_bps is not None:
        return terms.markup_bps
    chosen = next(offer for offer in offers if offer.chosen)
    return max(0, quote.spread_bps - chosen.spread_bps + terms.markup_change_bps)


def _priced(quote: Quote, offer: Offered, markup_bps: int) -> Quote | None:
    """As `build_quote` does: the offer's mid less its spread and our markup. None: nothing is left after rounding."""
    spread_bps = offer.spread_bps + markup_bps
    sell, buy = quote.sell_amount, quote.buy_amount.currency
    try:
        client_rate, bought, at_mid = client_amounts(sell, offer.mid, spread_bps, buy)
    except Refused:
        return None
    return quote.model_copy(
        update={
            "buy_amount": bought,
            "mid_amount": at_mid,
            "client_rate": client_rate,
            "mid_rate": offer.mid,
            "mid_source": offer.provider,
            "spread_bps": spread_bps,
            "liquidity_provider": offer.provider,
            "liquidity_reference": offer.reference,
            "expires_at": min(offer.expires_at, quote.valid_from + timedelta(seconds=quote.lock_seconds)),
        }
    )
