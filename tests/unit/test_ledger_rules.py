"""Each business fact moves exactly the accounts it should: the fact sheet's worked day, leg by leg."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from corridor.domain.failure import InvariantBroken
from corridor.domain.money import Money
from corridor.domain.posting import Posting
from corridor.domain.quote import Quote, client_amounts
from corridor.ledger import chart, rules

NINE = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Line:
    gross: Money
    fee: Money
    net: Money
    converted_from: Money | None = None


def eur(minor: int) -> Money:
    return Money(minor, "EUR")


def cny(minor: int) -> Money:
    return Money(minor, "CNY")


def line(gross: int, fee: int, currency: str = "EUR", converted_from: Money | None = None) -> Line:
    return Line(Money(gross, currency), Money(fee, currency), Money(gross - fee, currency), converted_from)


def quote(sell: Money, spread_bps: int) -> Quote:
    mid = Decimal("7.4326")
    rate, bought, at_mid = client_amounts(sell, mid, spread_bps, "CNY")
    return Quote(
        id="qte_1", merchant_id="M", sell_amount=sell, buy_amount=bought, mid_amount=at_mid, client_rate=rate,
        mid_rate=mid, mid_source="ECB", mid_as_of="2026-11-20", spread_bps=spread_bps, liquidity_provider="lp-1",
        liquidity_reference="r-1", lock_seconds=1800, valid_from=NINE, expires_at=NINE + timedelta(minutes=30),
    )  # fmt: skip


def legs(posting: Posting) -> list[tuple[str, int]]:
    return [(entry.account, entry.amount.minor) for entry in posting.entries]


def fold(postings: Iterable[Posting]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for posting in postings:
        for account, minor in legs(posting):
            sums[account] = sums.get(account, 0) + minor
    return {account: minor for account, minor in sums.items() if minor != 0}


def captured() -> Posting:
    return rules.capture("pay_1:capture:1", "pay_1", "M", "stripe", eur(10000))


def settled(fee_bps: int = 0, spread_bps: int = 42, remaining: Money | None = None) -> Posting:
    return rules.settle(
        "pay_1:settle", "pay_1", "M", "stripe", line(10000, 240), remaining or eur(10000),
        quote(eur(10000), spread_bps), fee_bps,
    )  # fmt: skip


def test_capture_is_a_claim_on_the_provider_and_a_debt_to_the_merchant() -> None:
    assert legs(captured()) == [("clearing/stripe/EUR", 10000), ("merchant/M/pending/EUR", -10000)]


def test_settlement_books_mid_spread_fee_and_net_as_legs_of_their_own() -> None:
    assert legs(settled(fee_bps=100, spread_bps=40)) == [
        ("bank/main/EUR", 9760),
        ("expense/provider_fees/EUR", 240),
        ("clearing/stripe/EUR", -10000),
        ("merchant/M/pending/EUR", 10000),
        ("fx/position/EUR", -10000),
        ("fx/position/CNY", 74326),
        ("merchant/M/pending/CNY", -74326),
        ("merchant/M/pending/CNY", 297),
        ("income/fx_spread/CNY", -297),
        ("merchant/M/pending/CNY", 740),
        ("income/fees/CNY", -740),
        ("merchant/M/pending/CNY", 73289),
        ("merchant/M/available/CNY", -73289),
    ]


def test_the_worked_day_gives_the_merchant_740_14() -> None:
    assert fold([captured(), settled()]) == {
        "bank/main/EUR": 9760,
        "expense/provider_fees/EUR": 240,
        "fx/position/EUR": -10000,
        "fx/position/CNY": 74326,
        "income/fx_spread/CNY": -312,
        "merchant/M/available/CNY": -74014,
    }


def test_the_worked_days_refunds_give_back_222_04_and_the_exact_remainder_518_10() -> None:
    first = rules.refund_share(eur(10000), cny(74014), eur(0), cny(0), eur(3000))
    last = rules.refund_share(eur(10000), cny(74014), eur(3000), first, eur(7000))
    assert (first, last) == (cny(22204), cny(51810))


def test_refunding_more_than_was_settled_is_our_bug() -> None:
    with pytest.raises(InvariantBroken):
        rules.refund_share(eur(10000), cny(74014), eur(3000), cny(22204), eur(7001))


def test_a_settlement_in_the_buyers_currency_touches_no_position() -> None:
    posting = rules.settle("k", "pay_1", "M", "stripe", line(10000, 240), eur(10000), None, 150)
    assert fold([captured(), posting]) == {
        "bank/main/EUR": 9760,
        "expense/provider_fees/EUR": 240,
        "income/fees/EUR": -150,
        "merchant/M/available/EUR": -9850,
    }


def test_what_was_refunded_before_settlement_is_not_converted() -> None:
    reserve = rules.refund_reserve_before_settlement("rfd_1:reserve", "rfd_1", "M", eur(3000))
    done = rules.refund_done_before_settlement("rfd_1:refund:1", "rfd_1", "M", "stripe", eur(3000))
    report = rules.refund_settled("rfd_1:settle", "rfd_1", "stripe", line(-3000, 0))
    books = fold([captured(), reserve, done, settled(remaining=eur(7000)), report])
    assert books == {
        "bank/main/EUR": 6760,
        "expense/provider_fees/EUR": 240,
        "fx/position/EUR": -7000,
        "fx/position/CNY": 52028,
        "income/fx_spread/CNY": -218,
        "merchant/M/available/CNY": -51810,
    }


def test_a_payment_refunded_in_full_before_settlement_discharges_only_the_provider() -> None:
    assert [account for account, _ in legs(settled(remaining=eur(0)))] == [
        "bank/main/EUR", "expense/provider_fees/EUR", "clearing/stripe/EUR",
    ]  # fmt: skip


def test_more_than_the_quote_was_locked_for_is_never_converted() -> None:
    with pytest.raises(InvariantBroken):
        settled(remaining=eur(10001))


def test_a_provider_that_converts_is_booked_as_it_reported() -> None:
    posting = rules.settle(
        "k", "pay_1", "M", "stripe", line(11000, 350, "USD", converted_from=eur(10000)), eur(10000), None, 0
    )
    assert fold([captured(), posting]) == {
        "bank/main/USD": 10650,
        "expense/provider_fees/USD": 350,
        "fx/position/USD": -11000,
        "fx/position/EUR": 10000,
        "merchant/M/available/EUR": -10000,
    }


def test_a_row_that_does_not_add_up_is_not_booked() -> None:
    with pytest.raises(InvariantBroken):
        rules.provider_fee("k", "txn_1", Line(eur(-500), eur(0), eur(-499)))


def test_releasing_a_refund_is_the_exact_reverse_of_reserving_it() -> None:
    before = rules.refund_reserve_before_settlement("r", "rfd_1", "M", eur(3000))
    after = rules.refund_reserve_after_settlement("r", "rfd_1", "M", cny(22204))
    back = rules.refund_release("b", "rfd_1", "M", eur(3000), before.entries[0].account)
    back_after = rules.refund_release("b", "rfd_1", "M", cny(22204), after.entries[0].account)
    assert fold([before, back]) == fold([after, back_after]) == {}


def test_a_refund_is_released_only_to_where_refunds_are_reserved_from() -> None:
    with pytest.raises(InvariantBroken):
        rules.refund_release("b", "rfd_1", "M", eur(3000), "merchant/other/pending/EUR")


def test_refund_after_settlement_reverses_both_legs() -> None:
    reserve = rules.refund_reserve_after_settlement("r", "rfd_1", "M", cny(22204))
    done = rules.refund_done_after_settlement("d", "rfd_1", "M", "stripe", cny(22204), eur(3000))
    report = rules.refund_settled("s", "rfd_1", "stripe", line(-3000, 0))
    assert fold([reserve, done, report]) == {
        "merchant/M/available/CNY": 22204,
        "fx/position/CNY": -22204,
        "fx/position/EUR": 3000,
        "bank/main/EUR": -3000,
    }


def test_refund_after_settlement_in_one_currency_goes_straight_to_clearing() -> None:
    done = rules.refund_done_after_settlement("d", "rfd_1", "M", "stripe", eur(3000), eur(3000))
    assert legs(done) == [("merchant/M/reserved/EUR", 3000), ("clearing/stripe/EUR", -3000)]


def test_a_refund_that_comes_back_restores_what_it_took() -> None:
    before = [
        rules.refund_reserve_before_settlement("r", "rfd_1", "M", eur(3000)),
        rules.refund_done_before_settlement("d", "rfd_1", "M", "stripe", eur(3000)),
        rules.refund_failed_before_settlement("f", "rfd_1", "M", "stripe", eur(3000)),
    ]
    after = [
        rules.refund_reserve_after_settlement("r", "rfd_1", "M", cny(22204)),
        rules.refund_done_after_settlement("d", "rfd_1", "M", "stripe", cny(22204), eur(3000)),
        rules.refund_failed_after_settlement("f", "rfd_1", "M", "stripe", cny(22204), eur(3000)),
    ]
    assert fold(before) == fold(after) == {}


def test_a_reservation_released_after_settlement_is_settled_late_at_the_same_rate() -> None:
    reserve = rules.refund_reserve_before_settlement("r", "rfd_1", "M", eur(3000))
    release = rules.refund_release("b", "rfd_1", "M", eur(3000), "merchant/M/pending/EUR")
    late = rules.settle_late("l", "rfd_1", "M", eur(3000), quote(eur(10000), 42), 0)
    on_time = settled(remaining=eur(7000))
    books = fold([captured(), reserve, on_time, release, late])
    assert books == fold([captured(), settled()])


def test_provider_fees_are_our_cost_and_unexplained_rows_stand_in_suspense() -> None:
    fee = rules.provider_fee("f", "txn_1", line(-500, 0))
    odd = rules.adjustment("a", "txn_2", line(-1500, 1500))
    assert fold([fee, odd]) == {
        "bank/main/EUR": -3500,
        "expense/provider_fees/EUR": 2000,
        "suspense/EUR": 1500,
    }


@pytest.mark.parametrize(
    "account",
    [
        "merchant/M/pending",
        "merchant//pending/EUR",
        "merchant/M/spent/EUR",
        "clearing/EUR",
        "income/other/EUR",
        "suspense/XXX",
        "clearing/a/b/EUR",
    ],
)
def test_an_account_outside_the_chart_is_our_bug(account: str) -> None:
    with pytest.raises(InvariantBroken):
        chart.kind_of(account)


def test_only_what_we_owe_merchants_may_never_go_into_debit() -> None:
    paths = [
        chart.clearing("stripe"), chart.bank(), chart.pending("M"), chart.available("M"), chart.reserved("M"),
        chart.FX_POSITION, chart.FEE_INCOME, chart.FX_SPREAD_INCOME, chart.PROVIDER_FEES, chart.ROUNDING, chart.SUSPENSE,
    ]  # fmt: skip
    limited = [path for path in paths if chart.never_in_debit(chart.on(path, "EUR"))]
    assert limited == [chart.pending("M"), chart.available("M"), chart.reserved("M")]
    assert {chart.kind_of(chart.on(path, "EUR")) for path in paths} == set(chart.AccountKind)
