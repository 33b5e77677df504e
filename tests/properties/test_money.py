"""Money loses no unit: allocation sums exactly, mirrors its sign, and conversion rounds once, by half a unit at most."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corridor.domain.currency import exponent
from corridor.domain.failure import InvariantBroken, Refusal, Refused
from corridor.domain.money import MINOR_LIMIT, Money, Rounding, allocate, basis_points, convert, share, zero
from corridor.domain.quote import client_amounts

CURRENCIES = st.sampled_from(["EUR", "CNY", "USD", "JPY", "KWD", "CLF", "HUF", "BHD"])
MINORS = st.integers(-(10**12), 10**12)
WEIGHTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any)
RATES = st.decimals("0.0001", "20000", places=10)


@given(MINORS, CURRENCIES, WEIGHTS)
def test_allocated_parts_sum_exactly_and_are_each_within_one_unit(
    minor: int, currency: str, weights: list[int]
) -> None:
    parts = allocate(Money(minor, currency), weights)
    assert sum(parts, zero(currency)) == Money(minor, currency)
    for part, weight in zip(parts, weights, strict=True):
        assert abs(Decimal(part.minor) - Decimal(minor) * weight / sum(weights)) < 1
        assert weight or part.is_zero


@given(MINORS, WEIGHTS)
def test_a_refund_of_the_whole_mirrors_its_charge(minor: int, weights: list[int]) -> None:
    charge, refund = allocate(Money(minor, "EUR"), weights), allocate(Money(-minor, "EUR"), weights)
    assert refund == [-part for part in charge]


def test_allocation_follows_the_published_examples() -> None:
    assert [part.minor for part in allocate(Money(100, "EUR"), (1, 1, 1))] == [34, 33, 33]
    assert [part.minor for part in allocate(Money(-100, "EUR"), (1, 1, 1))] == [-34, -33, -33]
    assert [part.minor for part in allocate(Money(5, "EUR"), (3, 7))] == [2, 3]


@given(st.integers(0, 10**9), CURRENCIES, CURRENCIES, RATES)
def test_a_conversion_is_off_by_half_a_minor_unit_at_most(
    minor: int, source: str, target: str, rate: Decimal
) -> None:
    exact = Decimal(minor).scaleb(exponent(target) - exponent(source)) * rate
    assert abs(convert(Money(minor, source), rate, target, Rounding.HALF_EVEN).minor - exact) <= Decimal(
        "0.5"
    )
    assert 0 <= exact - convert(Money(minor, source), rate, target, Rounding.DOWN).minor < 1
    assert 0 <= convert(Money(minor, source), rate, target, Rounding.UP).minor - exact < 1


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), RATES)
def test_converting_more_never_yields_less(one: int, other: int, rate: Decimal) -> None:
    low, high = sorted((one, other))
    assert convert(Money(low, "EUR"), rate, "JPY", Rounding.HALF_EVEN) <= convert(
        Money(high, "EUR"), rate, "JPY", Rounding.HALF_EVEN
    )


@given(st.integers(10**4, 10**9), RATES.filter(lambda rate: rate > 1), st.integers(0, 500))
def test_the_spread_is_what_lies_between_mid_and_client_and_never_negative(
    minor: int, mid: Decimal, spread_bps: int
) -> None:
    _, bought, at_mid = client_amounts(Money(minor, "EUR"), mid, spread_bps, "CNY")
    assert zero("CNY") <= at_mid - bought
    assert abs((at_mid - bought).minor - Decimal(at_mid.minor) * spread_bps / 10_000) <= 2


@given(MINORS, st.integers(0, 10_000))
def test_basis_points_of_a_refund_mirror_those_of_the_charge(minor: int, bps: int) -> None:
    fee = basis_points(Money(minor, "EUR"), bps, Rounding.HALF_EVEN)
    assert basis_points(Money(-minor, "EUR"), bps, Rounding.HALF_EVEN) == -fee


@given(MINORS, st.integers(1, 10**9))
def test_the_whole_share_is_the_whole(minor: int, denominator: int) -> None:
    assert share(Money(minor, "KWD"), denominator, denominator, Rounding.HALF_EVEN) == Money(minor, "KWD")


@given(MINORS, CURRENCIES)
def test_major_units_have_exactly_the_currencys_decimals(minor: int, currency: str) -> None:
    major = Money(minor, currency).major()
    assert -major.as_tuple().exponent == exponent(currency)  # type: ignore[operator]
    assert int(major.scaleb(exponent(currency))) == minor


@pytest.mark.parametrize("wrong", [1.0, True, "1", Decimal(1), None])
def test_an_amount_that_is_not_an_integer_is_refused(wrong: object) -> None:
    with pytest.raises(Refused) as refused:
        Money(wrong, "EUR")  # type: ignore[arg-type]
    assert refused.value.code is Refusal.INVALID_PARAMETER


@pytest.mark.parametrize("code", ["eur", "XAU", "XXX", "HRK", "", "EURO"])
def test_a_code_without_a_minor_unit_is_refused(code: str) -> None:
    with pytest.raises(Refused) as refused:
        Money(1, code)
    assert refused.value.code is Refusal.INVALID_CURRENCY


@pytest.mark.parametrize("minor", [MINOR_LIMIT, -MINOR_LIMIT, 2**63])
def test_an_amount_beyond_the_limit_is_refused(minor: int) -> None:
    with pytest.raises(Refused) as refused:
        Money(minor, "EUR")
    assert refused.value.code is Refusal.AMOUNT_OUT_OF_RANGE


@given(CURRENCIES, CURRENCIES)
def test_two_currencies_are_never_added(one: str, other: str) -> None:
    if one == other:
        assert Money(1, one) + Money(1, other) == Money(2, one)
        return
    with pytest.raises(InvariantBroken):
        Money(1, one) + Money(1, other)
