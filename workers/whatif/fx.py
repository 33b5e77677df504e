"""FX under a changed policy: the same offers, another markup, limit, lock or slippage."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from corridor.domain.effect import Operation
from corridor.domain.payment import StatusReason
from corridor.domain.quote import Quote
from corridor.fx import counterfactual
from corridor.fx.requote import Requote, after_expiry
from corridor.storage import effects
from workers.whatif.finding import Finding, Result, between, lost
from workers.whatif.past import Past
from workers.whatif.policy import FxSection
from workers.whatif.risk import BOOKED_OTHERWISE

NO_EVIDENCE = "the offers were not kept with the quote"
OTHER_LOCK = "offers for another lock time were never asked for"
RATE_NOT_KEPT = "it failed at a new rate that was not kept"
NO_RATE_THEN = "no offer was taken then, and those refused were not kept"
NO_RATE = "no offer would have been taken"
SLIPPED = "the new rate would have been past the slippage limit"
_INSIDE_A_LOCK = (Operation.SALE, Operation.CAPTURE)


def judge(past: Past, section: FxSection) -> Finding:
    """The quotes the payment held against those the changed terms make of the same offers."""
    if past.payment.status_reason == StatusReason.RATE_UNAVAILABLE:
        return _unseen("no rate", "?", NO_RATE_THEN)
    if past.payment.status_reason == StatusReason.SLIPPAGE_EXCEEDED:
        return _unseen("slippage exceeded", "?", RATE_NOT_KEPT)
    if not past.quotes:
        return Finding("fx", Result.UNCHANGED, "no conversion", "no conversion")
    if not all(map(has_evidence, past.quotes)):
        return _unseen(_said(past.quotes[-1]), "?", NO_EVIDENCE)
    return _repriced(past, section)


def _repriced(past: Past, section: FxSection) -> Finding:
    held = past.quotes[-1]
    repriced = [counterfactual.reprice(quote, section.terms) for quote in past.quotes]
    made = [quote for quote in repriced if quote is not None]
    if len(made) < len(repriced):
        return _ended(past, "no rate", NO_RATE)
    if section.lock_seconds not in (None, held.lock_seconds):
        return _unseen(_said(held), "?", OTHER_LOCK, _lock_told(past, section.lock_seconds or 0))
    if any(_is_rejected(past, section, made[first], made[later]) for first, later in past.renewals):
        return _ended(past, "slippage exceeded", SLIPPED)
    return _compared(past, held, made[-1])


def unfaithful(past: Past) -> Iterator[str]:
    """Quotes that choosing and pricing again from their own evidence does not reproduce, and requotes likewise."""
    for quote in past.quotes:
        if not counterfactual.is_reproduced(quote):
            yield quote.id
    for first, later in past.renewals:
        if _is_rejected(past, FxSection(), past.quotes[first], past.quotes[later]):
            yield past.quotes[later].id


def has_evidence(quote: Quote) -> bool:
    try:
        counterfactual.evidence_of(quote)
    except ValueError:
        return False
    return True


def _is_rejected(past: Past, section: FxSection, agreed: Quote, new: Quote) -> bool:
    row = past.payment
    limit = row.slippage_max_bps if section.slippage_max_bps is None else section.slippage_max_bps
    policy = section.slippage_policy or row.slippage_policy
    return after_expiry(agreed, new, limit, policy) is Requote.REJECT


def _compared(past: Past, was: Quote, would_be: Quote) -> Finding:
    if was == would_be:
        return Finding("fx", Result.UNCHANGED, _said(was), _said(would_be))
    if not past.money_is_known:
        return _unseen(_said(was), _said(would_be), BOOKED_OTHERWISE)
    why = "another offer" if would_be.liquidity_provider != was.liquidity_provider else "another price"
    money = between(past, was, would_be)
    return Finding(
        "fx", Result.CHANGED, _said(was), _said(would_be), f"{why} for the same answers", "", money
    )


def _ended(past: Past, would_be: str, why: str) -> Finding:
    if not past.money_is_known:
        return _unseen(_said(past.quotes[-1]), would_be, BOOKED_OTHERWISE)
    return Finding("fx", Result.CHANGED, _said(past.quotes[-1]), would_be, why, "", lost(past), True)


def _unseen(was: str, would_be: str, why: str, detail: str = "") -> Finding:
    return Finding("fx", Result.NOT_OBSERVABLE, was, would_be, why, detail)


def _said(quote: Quote) -> str:
    return f"{quote.buy_amount} ({quote.spread_bps} bp, {quote.liquidity_provider})"


# --- another lock time: the price is not known, but whether the call fell inside it is ---------------------------


def _lock_told(past: Past, lock_seconds: int) -> str:
    """Bounds only: the call began after its effect was declared and had ended when the answer was seen."""
    quote = past.quotes[-1]
    if lock_seconds > quote.lock_seconds:
        return "what a longer lock costs is not known"
    until = min(quote.expires_at, quote.valid_from + timedelta(seconds=lock_seconds))
    calls = [_call(row) for row in past.effects if row.operation in _INSIDE_A_LOCK]
    if any(begun > until for begun, _ in calls):
        return f"it would have run out before the call, at {until.isoformat(timespec='seconds')}"
    if all(ended is not None and ended <= until for _, ended in calls):
        return "the call fell inside the shorter lock"
    return "the call may have begun after it had run out"


def _call(row: Any) -> tuple[datetime, datetime | None]:
    return row.declared_at, None if row.answer is None else effects.answer(row).evidence.seen_at
