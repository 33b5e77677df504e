"""Claims about best execution, quotes and requotes, with liquidity providers that do as they are told."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corridor.domain.failure import InvariantBroken, Refusal, Refused
from corridor.domain.money import Money
from corridor.domain.quote import Quote, QuoteStatus, slippage_bps
from corridor.fx.best_execution import Answer, Inquiry, choose
from corridor.fx.port import Leg, MidRate, Offer, OfferProblem, OfferUnavailable
from corridor.fx.quoting import best_offer, build_quote
from corridor.fx.requote import Requote, after_expiry
from corridor.fx.view import quote_view

NOW = datetime(2026, 11, 1, 9, 0, 0, 123_456, tzinfo=UTC)
SELL = Money(10_000, "EUR")
MID = Decimal("7.4326")
REFERENCE = MidRate("EUR", "CNY", MID, "ECB", date(2026, 10, 30), (Leg("EUR/CNY", "7.4326"),))
LOCK = 300


def offer(provider: str = "lp_one", spread_bps: int = 10, **changed: Any) -> Offer:
    mid = changed.get("mid", MID)
    facts: dict[str, Any] = {
        "provider": provider,
        "reference": f"{provider}-1",
        "sell": SELL,
        "buy_currency": "CNY",
        "rate": mid * (10_000 - spread_bps) / 10_000,
        "mid": mid,
        "mid_as_of": "2026-10-30",
        "spread_bps": spread_bps,
        "expires_at": NOW + timedelta(seconds=LOCK),
    }
    return Offer(**{**facts, **changed})


class Obedient:
    """A liquidity provider that gives a prepared offer, after a delay, or the prepared failure."""

    def __init__(self, name: str, given: Offer | Exception, delay_seconds: float = 0) -> None:
        self.name = name
        self.given = given
        self.delay_seconds = delay_seconds

    async def quote(self, sell: Money, buy_currency: str, lock_seconds: int) -> Offer:
        await asyncio.sleep(self.delay_seconds)
        if isinstance(self.given, Exception):
            raise self.given
        return self.given

    async def accept(self, reference: str, our_reference: str) -> None:
        raise AssertionError("quoting accepts nothing")


async def ask(*providers: Obedient, deadline_seconds: float = 5) -> Any:
    return await best_offer(
        providers, REFERENCE, SELL, "CNY", LOCK, asked_at=NOW, deadline_seconds=deadline_seconds
    )


async def test_the_cheapest_offer_wins_and_the_losers_stay_in_the_evidence() -> None:
    chosen = await ask(
        Obedient("lp_one", offer("lp_one", 12)),
        Obedient("lp_two", offer("lp_two", 8)),
        Obedient(
            "lp_three", OfferUnavailable("lp_three", OfferProblem.DECLINED, "size over the credit line")
        ),
    )
    assert chosen.offer.provider == "lp_two"
    reference, *answers = chosen.considered
    assert (reference["source"], reference["mid"], reference["as_of"]) == ("ECB", "7.4326", "2026-10-30")
    assert [(a["provider"], a["verdict"]) for a in answers] == [
        ("lp_one", "beaten"),
        ("lp_two", "chosen"),
        ("lp_three", "refused"),
    ]
    assert answers[1]["cost_against_reference_bps"] == "8.0000"
    assert answers[2]["detail"] == "size over the credit line"


async def test_a_slow_provider_is_silent_and_delays_nobody() -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    chosen = await ask(
        Obedient("slow", offer("slow", 1), delay_seconds=30),
        Obedient("lp", offer("lp")),
        deadline_seconds=0.05,
    )
    assert loop.time() - begun < 5
    assert chosen.offer.provider == "lp"
    assert [a.get("reason") for a in chosen.considered[1:]] == ["silent", None]


async def test_providers_are_asked_at_once_not_in_turn() -> None:
    everybody_asked = asyncio.Barrier(3)

    class Waiting(Obedient):
        async def quote(self, sell: Money, buy_currency: str, lock_seconds: int) -> Offer:
            await everybody_asked.wait()
            return offer(self.name)

    chosen = await ask(*(Waiting(name, offer(name)) for name in ("a", "b", "c")))
    assert chosen.offer.provider == "a", "a tie goes to the provider that is configured first"


async def test_an_adapters_bug_costs_only_its_own_offer() -> None:
    chosen = await ask(Obedient("broken", KeyError("rate")), Obedient("lp", offer("lp")))
    assert chosen.offer.provider == "lp"
    assert (chosen.considered[1]["reason"], chosen.considered[1]["detail"]) == ("failed", "KeyError")


async def test_without_any_usable_offer_the_refusal_names_every_reason() -> None:
    with pytest.raises(Refused) as refused:
        await ask(
            Obedient("one", OfferUnavailable("one", OfferProblem.UNREACHABLE, "refused")),
            Obedient("two", offer("two", buy_currency="USD")),
        )
    assert refused.value.code is Refusal.RATE_UNAVAILABLE
    assert refused.value.facts["considered"] == ["one: unreachable", "two: other_pair"]


async def test_without_providers_there_is_no_quote() -> None:
    with pytest.raises(Refused):
        await ask()


@pytest.mark.parametrize(
    ("tempting", "reason"),
    [
        (offer("tempting", 1, mid=MID * Decimal("1.0301"), rate=MID), OfferProblem.OFF_REFERENCE),
        (offer("tempting", 0, mid=MID, rate=MID * 100), OfferProblem.OFF_REFERENCE),
        (offer("tempting", 1, mid=MID * Decimal("0.9699"), rate=MID), OfferProblem.OFF_REFERENCE),
        (offer("tempting", 1, expires_at=NOW + timedelta(seconds=LOCK - 2)), OfferProblem.LOCK_TOO_SHORT),
        (offer("tempting", 1, expires_at=NOW), OfferProblem.EXPIRED),
        (offer("tempting", 1, minimum=Money(10_001, "EUR")), OfferProblem.BELOW_MINIMUM),
        (offer("tempting", 1, sell=Money(9_999, "EUR")), OfferProblem.OTHER_PAIR),
        (offer("tempting", 1, buy_currency="USD"), OfferProblem.OTHER_PAIR),
    ],
)
def test_a_better_looking_offer_is_refused_for_its_reason(tempting: Offer, reason: OfferProblem) -> None:
    inquiry = Inquiry(SELL, "CNY", LOCK, REFERENCE, NOW)
    chosen = choose(inquiry, [Answer("tempting", 0, tempting), Answer("lp", 0, offer("lp", 50))])
    assert chosen.offer.provider == "lp"
    assert (chosen.considered[1]["verdict"], chosen.considered[1]["reason"]) == ("refused", reason)


def test_limits_themselves_are_still_good() -> None:
    at_limits = offer(
        "lp", 0, mid=MID * Decimal("1.03"), minimum=SELL, expires_at=NOW + timedelta(seconds=LOCK - 1)
    )
    assert choose(Inquiry(SELL, "CNY", LOCK, REFERENCE, NOW), [Answer("lp", 0, at_limits)]).offer is at_limits


def test_time_spent_waiting_for_the_answer_counts_against_the_lock() -> None:
    with pytest.raises(Refused):
        choose(Inquiry(SELL, "CNY", LOCK, REFERENCE, NOW), [Answer("lp", 1_001, offer("lp"))])


def test_a_reference_of_another_pair_is_our_own_bug() -> None:
    with pytest.raises(InvariantBroken):
        Inquiry(SELL, "USD", LOCK, REFERENCE, NOW)


async def quoted(
    spread_bps: int = 10, markup_bps: int = 30, lock_seconds: int = LOCK, **changed: Any
) -> Quote:
    chosen = await ask(Obedient("lp_one", offer(spread_bps=spread_bps, **changed)))
    return build_quote(
        chosen,
        quote_id="qte_1",
        merchant_id="mer_1",
        markup_bps=markup_bps,
        lock_seconds=lock_seconds,
        now=NOW,
    )


async def test_the_worked_example_comes_out_to_the_minor_unit() -> None:
    quote = await quoted()
    assert (quote.client_rate, quote.spread_bps) == (Decimal("7.40286960"), 40)
    assert (quote.mid_amount, quote.buy_amount) == (Money(74_326, "CNY"), Money(74_029, "CNY"))
    assert quote.spread == Money(297, "CNY")


async def test_a_quote_never_outlives_the_offer_it_rests_on() -> None:
    long_offer = NOW + timedelta(seconds=LOCK * 10)
    assert (await quoted(expires_at=long_offer)).expires_at == NOW + timedelta(seconds=LOCK)
    assert (await quoted(lock_seconds=LOCK + 60)).expires_at == NOW + timedelta(seconds=LOCK)


async def test_a_quote_that_rounds_to_nothing_is_not_offered() -> None:
    tiny = offer(sell=Money(1, "EUR"), buy_currency="JPY", mid=Decimal("0.4"), rate=Decimal("0.4"))
    reference = MidRate("EUR", "JPY", Decimal("0.4"), "test", date(2026, 10, 30), ())
    chosen = await best_offer(
        [Obedient("lp_one", tiny)], reference, Money(1, "EUR"), "JPY", LOCK, asked_at=NOW, deadline_seconds=5
    )
    with pytest.raises(Refused) as refused:
        build_quote(chosen, quote_id="q", merchant_id="m", markup_bps=0, lock_seconds=LOCK, now=NOW)
    assert refused.value.code is Refusal.AMOUNT_OUT_OF_RANGE


async def test_a_quote_survives_its_json_without_losing_a_digit() -> None:
    quote = await quoted()
    assert Quote.model_validate_json(quote.model_dump_json()) == quote


async def test_the_view_shows_rates_as_text_money_as_integers_and_times_in_milliseconds() -> None:
    view = quote_view(await quoted(), QuoteStatus.OPEN)
    assert view["client_rate"] == "7.4028696"
    assert view["buy"] == {"minor": 74_029, "currency": "CNY", "exponent": 2}
    assert (view["valid_from"], view["expires_at"]) == (
        "2026-11-01T09:00:00.123Z",
        "2026-11-01T09:05:00.123Z",
    )
    assert "considered" not in view


@given(
    st.integers(1, 10**11), st.integers(0, 200), st.integers(0, 500), st.decimals("0.0001", "20000", places=6)
)
def test_spread_and_payout_always_make_up_the_amount_at_mid(
    minor: int, spread_bps: int, markup_bps: int, mid: Decimal
) -> None:
    sell = Money(minor, "KWD")
    reference = MidRate("KWD", "JPY", mid, "test", date(2026, 10, 30), ())
    inquiry = Inquiry(sell, "JPY", LOCK, reference, NOW)
    given_offer = offer(sell=sell, buy_currency="JPY", mid=mid, spread_bps=spread_bps)
    chosen = choose(inquiry, [Answer("lp_one", 0, given_offer)])
    try:
        quote = build_quote(
            chosen, quote_id="q", merchant_id="m", markup_bps=markup_bps, lock_seconds=LOCK, now=NOW
        )
    except Refused as refused:
        assert refused.code is Refusal.AMOUNT_OUT_OF_RANGE
        return
    assert quote.buy_amount.minor > 0
    assert quote.buy_amount + quote.spread == quote.mid_amount
    assert quote.spread.minor >= 0


async def pair(old_rate: str, new_rate: str) -> tuple[Quote, Quote]:
    quote = await quoted()
    return tuple(quote.model_copy(update={"client_rate": Decimal(rate)}) for rate in (old_rate, new_rate))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("new_rate", "decision"),
    [
        ("7.9", Requote.ACCEPT),
        ("7.4", Requote.ACCEPT),
        ("7.363", Requote.ACCEPT),  # exactly 50 bp below 7.4
        ("7.362999999999", Requote.REJECT),
    ],
)
async def test_a_requote_passes_up_to_the_slippage_limit_and_not_beyond(
    new_rate: str, decision: Requote
) -> None:
    old, new = await pair("7.4", new_rate)
    assert after_expiry(old, new, 50, "requote") is decision


async def test_a_merchant_that_wants_no_requote_gets_none_even_for_a_better_rate() -> None:
    old, new = await pair("7.4", "7.9")
    assert after_expiry(old, new, 50, "reject") is Requote.REJECT


async def test_a_limit_that_a_rounded_quotient_would_pass_is_held() -> None:
    old, new = await pair("3", "2.98499999999999999999999999999999999")
    assert slippage_bps(old.client_rate, new.client_rate) == 50, "the rounded figure says: just inside"
    assert after_expiry(old, new, 50, "requote") is Requote.REJECT


async def test_a_requote_for_another_amount_is_our_own_bug() -> None:
    old, new = await pair("7.4", "7.4")
    with pytest.raises(InvariantBroken):
        after_expiry(old, new.model_copy(update={"sell_amount": Money(1, "EUR")}), 50, "requote")
