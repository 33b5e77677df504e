"""Claims about a changed FX policy on a quote's own evidence: the same offers, judged and priced again."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corridor.domain.money import Money
from corridor.domain.quote import Quote
from corridor.fx.best_execution import Answer, Inquiry, choose
from corridor.fx.counterfactual import Terms, is_reproduced, reprice
from corridor.fx.port import MidRate, Offer, OfferProblem
from corridor.fx.quoting import build_quote

NOW = datetime(2026, 11, 22, 9, 0, 0, 123_456, tzinfo=UTC)
MID = Decimal("7.4326")
LOCK = 600
REFERENCE = MidRate("EUR", "CNY", MID, "ECB", date(2026, 10, 30), ())
SELL = Money(10_000, "EUR")


def offer(name: str, spread_bps: int, mid: Decimal = MID, **changes: Any) -> Answer:
    made = Offer(
        provider=name,
        reference=f"{name}-1",
        sell=SELL,
        buy_currency="CNY",
        rate=mid * (Decimal(10_000 - spread_bps) / 10_000),
        mid=mid,
        mid_as_of="2026-10-30",
        spread_bps=spread_bps,
        expires_at=NOW + timedelta(seconds=LOCK, microseconds=777),
    )
    return Answer(name, 12, replace(made, **changes))


def quoted(*answers: Answer, markup_bps: int = 40) -> Quote:
    chosen = choose(Inquiry(SELL, "CNY", LOCK, REFERENCE, NOW), answers)
    made = build_quote(
        chosen, quote_id="qte_1", merchant_id="mer_1", markup_bps=markup_bps, lock_seconds=LOCK, now=NOW
    )
    return Quote.model_validate(made.model_dump(mode="json"))


TWO = (offer("narrow", 8), offer("wide", 20))


def test_unchanged_terms_give_the_quote_itself() -> None:
    quote = quoted(*TWO, Answer("away", 1500, None, OfferProblem.SILENT, "no answer"))
    assert reprice(quote, Terms()) == quote
    assert is_reproduced(quote)


def test_another_markup_is_priced_as_the_desk_would_have() -> None:
    assert reprice(quoted(*TWO), Terms(markup_bps=60)) == quoted(*TWO, markup_bps=60)
    assert reprice(quoted(*TWO), Terms(markup_change_bps=-15)) == quoted(*TWO, markup_bps=25)


def test_a_limit_on_the_spread_takes_the_next_offer_or_none() -> None:
    narrow_refused = reprice(
        quoted(offer("cheap", 30, MID * Decimal("1.01")), offer("plain", 10)), Terms(maximum_spread_bps=15)
    )
    assert narrow_refused is not None
    assert (narrow_refused.liquidity_provider, narrow_refused.spread_bps) == ("plain", 50)
    assert reprice(quoted(*TWO), Terms(maximum_spread_bps=5)) is None


def test_a_wider_band_takes_what_was_refused_for_it_alone() -> None:
    tempting = offer("tempting", 5, MID * Decimal("1.04"))
    quote = quoted(tempting, offer("plain", 10))
    assert quote.liquidity_provider == "plain"
    wider = reprice(quote, Terms(off_reference_max_bps=500))
    assert wider is not None
    assert wider.liquidity_provider == "tempting"


@pytest.mark.parametrize(
    "problem",
    [
        {"expires_at": NOW},
        {"expires_at": NOW + timedelta(seconds=LOCK - 5)},
        {"minimum": Money(20_000, "EUR")},
    ],
)
def test_what_was_refused_for_another_reason_stays_refused(problem: dict[str, Any]) -> None:
    quote = quoted(offer("tempting", 1, **problem), offer("plain", 10))
    wider = reprice(quote, Terms(off_reference_max_bps=9_000))
    assert wider is not None
    assert (wider.liquidity_provider, is_reproduced(quote)) == ("plain", True)


def test_a_narrower_band_refuses_what_was_taken() -> None:
    assert reprice(quoted(offer("far", 10, MID * Decimal("1.02"))), Terms(off_reference_max_bps=100)) is None


def test_a_quote_that_is_not_what_its_evidence_gives_is_unfaithful() -> None:
    quote = quoted(*TWO)
    cheaper = quote.model_copy(update={"buy_amount": quote.buy_amount + Money(1, "CNY")})
    reference, narrow, wide = quote.considered
    other_winner = ({**narrow, "verdict": "beaten"}, {**wide, "verdict": "chosen"})
    assert not is_reproduced(cheaper)
    assert not is_reproduced(quote.model_copy(update={"considered": (reference, *other_winner)}))
    excused = {**narrow, "verdict": "refused", "reason": "off_reference", "detail": ""}
    assert not is_reproduced(
        quote.model_copy(update={"considered": (reference, excused, {**wide, "verdict": "chosen"})})
    )


def test_a_loser_refused_without_a_reason_is_unfaithful_though_the_winner_stays() -> None:
    quote = quoted(*TWO)
    reference, narrow, wide = quote.considered
    excused = {**wide, "verdict": "refused", "reason": "off_reference", "detail": ""}
    doctored = quote.model_copy(update={"considered": (reference, narrow, excused)})
    assert reprice(doctored, Terms()) == doctored
    assert not is_reproduced(doctored)


def test_a_quote_without_evidence_is_not_made_up() -> None:
    with pytest.raises(ValueError, match="no evidence"):
        reprice(quoted(*TWO).model_copy(update={"considered": ()}), Terms(markup_bps=1))


@given(
    spreads=st.lists(st.integers(0, 400), min_size=1, max_size=4),
    shifts=st.lists(st.integers(-350, 350), min_size=4, max_size=4),
    microseconds=st.integers(-2_000_000, 2_000_000),
    markup=st.integers(0, 200),
)
def test_every_quote_reproduces_itself(
    spreads: list[int], shifts: list[int], microseconds: int, markup: int
) -> None:
    answers = [
        offer(
            f"lp_{number}",
            spread,
            MID * (Decimal(10_000 + shift) / 10_000),
            expires_at=NOW + timedelta(seconds=LOCK, microseconds=microseconds * number),
        )
        for number, (spread, shift) in enumerate(zip(spreads, shifts, strict=False))
    ]
    assert is_reproduced(quoted(*answers, offer("sure", 90), markup_bps=markup))
