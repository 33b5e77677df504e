"""The proof about rates: every conversion in the ledger is the one that was locked (recomputed here, without our rules).

The amounts of the quote decide: of a part, each amount is its half-even share. Nothing else may round, and what is
left over may stand in the rounding account alone, never beyond one minor unit a posting.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import ceil

from api.cli.audit.evidence import Evidence, Lock, Posted
from api.cli.audit.proofs import Proof, proof
from corridor.domain.currency import exponent
from corridor.domain.money import Money
from corridor.domain.quote import Quote

_SETTLES = ("settle", "settle_late")
_REFUNDS = ("refund", "refund_failed")
REFUND_ROUNDING_MINOR = 2
"""Refunds are rounded on their running total; one that failed in between may leave it a unit off its own share."""


def conversions_are_as_locked(evidence: Evidence) -> Proof:
    """Rate, spread and time of every conversion. A lock whose payment changed rates did so within the slippage allowed.

    No clock of a process excuses a capture after the lock's end: whether a lock holds is judged by the database's.
    """
    locks = {lock.payment_id: lock for lock in evidence.locks}
    owner = {refund.id: refund.payment_id for refund in evidence.refunds}
    against, booked = [], set()
    conversions = 0
    for posting in evidence.postings:
        payment_id = owner.get(posting.object_id, posting.object_id)
        lock = locks.get(payment_id)
        conversions += posting.kind in (*_SETTLES, *_REFUNDS) and lock is not None
        booked |= {payment_id} if posting.kind in _SETTLES and lock is not None else set()
        against += [f"{posting.key}: {wrong}" for wrong in _wrong_with(posting, lock)]
    for lock in (locks[payment_id] for payment_id in sorted(booked)):
        against += [f"{lock.payment_id}: {wrong}" for wrong in _wrong_with_lock(lock)]
    against += _late(evidence, locks)
    claim = "every conversion is at the rate that was locked, inside its time"
    return proof(claim, conversions, "conversions", against)


def _wrong_with(posting: Posted, lock: Lock | None) -> Iterator[str]:
    for currency, minor in posting.on("rounding/").items():
        if abs(minor) > 1:
            yield f"{minor} minor units of {currency} are called rounding"
    if posting.kind in _SETTLES:
        yield from _wrong_conversion(posting, lock)
    elif posting.kind in _REFUNDS and lock is not None:
        yield from _wrong_refund(posting, lock.quote)


def _wrong_conversion(posting: Posted, lock: Lock | None) -> Iterator[str]:
    """What is debited to `pending` in the buyer's currency, against what the merchant, the spread and the fee got."""
    given, taken = _merchant(posting, "pending"), _merchant(posting, "available")
    if lock is None:
        if (taken.keys() | posting.on("income/fees/").keys()) - given.keys():
            yield f"converted {dict(given)} to {dict(taken)} without a lock"
        return
    quote, buy = lock.quote, lock.quote.buy_amount.currency
    part = given[quote.sell_amount.currency]
    at_mid, bought = (
        _share(it.minor, part, quote.sell_amount.minor) for it in (quote.mid_amount, quote.buy_amount)
    )
    got = -taken[buy] - posting.on("income/fees/").get(buy, 0)
    spread = -posting.on("income/fx_spread/").get(buy, 0)
    wanted = {quote.sell_amount.currency: -part, buy: at_mid}
    if (got, spread) != (bought, at_mid - bought):
        yield f"{part} converted to {got} and {spread} of spread, at {quote.id} they are {bought} and {at_mid - bought}"
    if (position := _position(posting)) != {currency: it for currency, it in wanted.items() if it}:
        yield f"the position took {position}, at {quote.id} it is {wanted}"
    if not lock.is_used:
        yield f"{quote.id} is not marked as used"


def _position(posting: Posted) -> dict[str, int]:
    """Without what the provider itself converted before it paid us."""
    position = Counter(posting.on("fx/position/"))
    clearing = posting.on("clearing/")
    paid = Counter(posting.on("bank/")) + Counter(posting.on("expense/provider_fees/"))
    if clearing and paid.keys() - clearing.keys():
        position.update(paid)
        position.update(clearing)
    return {currency: minor for currency, minor in position.items() if minor}


def _wrong_refund(posting: Posted, quote: Quote) -> Iterator[str]:
    position = posting.on("fx/position/")
    if not position:
        return
    back, given = (position.get(it.currency, 0) for it in (quote.sell_amount, quote.buy_amount))
    exact = Fraction(quote.buy_amount.minor * abs(back), quote.sell_amount.minor)
    if back * given > 0 or abs(abs(given) - exact) > REFUND_ROUNDING_MINOR:
        yield f"{back} were given back for {given}, at {quote.id} they are {_half_even(exact)}"


def _merchant(posting: Posted, which: str) -> Counter[str]:
    """Minor units by currency on the merchant's accounts of this kind."""
    sums: Counter[str] = Counter()
    for account, minor in posting.legs:
        path, _, currency = account.rpartition("/")
        if path.startswith("merchant/") and path.endswith(f"/{which}"):
            sums[currency] += minor
    return Counter({currency: minor for currency, minor in sums.items() if minor})


def _wrong_with_lock(lock: Lock) -> Iterator[str]:
    """The quote's amounts are its rates', and a rate other than the promised one was allowed."""
    quote, first = lock.quote, lock.promised
    for amount, rate in ((quote.buy_amount, quote.client_rate), (quote.mid_amount, quote.mid_rate)):
        exact = _converted(quote.sell_amount, Fraction(rate), amount.currency)
        if amount.minor != _half_even(exact):
            yield f"{quote.id} gives {amount} for {quote.sell_amount}, at {rate} that is {_half_even(exact)}"
    if quote.client_rate > quote.mid_rate:
        yield f"{quote.id} is better than the market"
    if first is None:
        yield f"what it was promised before {quote.id} is gone"
    elif first.id != quote.id:
        worse = (
            (Fraction(first.client_rate) - Fraction(quote.client_rate)) / Fraction(first.client_rate) * 10_000
        )
        if lock.slippage.policy != "requote" or worse > lock.slippage.max_bps:
            yield (
                f"{first.id} became {quote.id}, worse by {ceil(worse)} bps;"
                f" allowed: {lock.slippage.policy}, {lock.slippage.max_bps} bps"
            )


def _late(evidence: Evidence, locks: Mapping[str, Lock]) -> Iterator[str]:
    """Captures the provider made after the lock had run out, by its own clock."""
    payment_of = {effect.key: effect.payment_id for effect in evidence.effects}
    for it in evidence.movements:
        lock = locks.get(payment_of.get(it.key, "")) if it.kind == "capture" else None
        if lock is not None and (it.at is None or it.at > lock.quote.expires_at):
            yield f"{it.key}: captured at {it.at}, {lock.quote.id} had run out at {lock.quote.expires_at}"


def _converted(sell: Money, rate: Fraction, buy: str) -> Fraction:
    return sell.minor * rate * Fraction(10) ** (exponent(buy) - exponent(sell.currency))


def _share(total: int, numerator: int, denominator: int) -> int:
    return _half_even(Fraction(total * numerator, denominator))


def _half_even(exact: Fraction) -> int:
    """Python rounds fractions half to even."""
    return round(exact)
