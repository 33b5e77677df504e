"""Stripe's minor units and limits, where they differ from ISO 4217."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corridor.domain.currency import exponent
from corridor.domain.failure import Refusal, Refused
from corridor.domain.money import Money
from corridor.providers.stripe.currencies import (
    CURRENCIES,
    MINIMUM_CHARGE,
    STEP,
    chargeable,
    from_stripe,
    to_stripe,
)


@pytest.mark.parametrize(
    ("minor", "currency", "units"),
    [
        (1_099, "EUR", 1_099),
        (500, "JPY", 500),
        (12_340, "KWD", 12_340),
        (5, "ISK", 500),
        (700, "UGX", 70_000),
        (12_300, "MGA", 123),
        (1_045, "HUF", 1_045),
    ],
)
def test_amounts_are_sent_in_stripes_own_units(minor: int, currency: str, units: int) -> None:
    assert to_stripe(Money(minor, currency)) == units
    assert from_stripe(units, currency.lower()) == Money(minor, currency)


@pytest.mark.parametrize(("minor", "currency"), [(12_345, "KWD"), (12_345, "MGA"), (1, "OMR")])
def test_precision_stripe_does_not_carry_is_refused_and_never_rounded(minor: int, currency: str) -> None:
    with pytest.raises(Refused) as refused:
        to_stripe(Money(minor, currency))
    assert refused.value.code is Refusal.INVALID_PARAMETER


def test_currency_stripe_does_not_charge_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        to_stripe(Money(100, "IRR"))
    assert refused.value.code is Refusal.INVALID_CURRENCY


@pytest.mark.parametrize(
    ("minor", "currency"),
    [(49, "EUR"), (29, "GBP"), (49, "JPY"), (17_499, "HUF"), (100_000_000, "USD"), (0, "CNY")],
)
def test_amounts_outside_stripes_limits_are_refused(minor: int, currency: str) -> None:
    with pytest.raises(Refused) as refused:
        chargeable(Money(minor, currency))
    assert refused.value.code is Refusal.AMOUNT_OUT_OF_RANGE


def test_rupiah_may_have_twelve_digits() -> None:
    assert chargeable(Money(999_999_999_999, "IDR")) == 999_999_999_999


def test_every_minimum_is_of_a_currency_we_charge() -> None:
    assert MINIMUM_CHARGE.keys() <= CURRENCIES
    assert STEP.keys() <= CURRENCIES
    assert all(exponent(currency) >= 0 for currency in CURRENCIES)


@pytest.mark.parametrize(
    ("units", "currency"), [(150, "isk"), (100, "xxx"), (100, "points"), (10**16, "eur")]
)
def test_answers_that_are_no_money_of_ours_read_as_none(units: int, currency: str) -> None:
    assert from_stripe(units, currency) is None


@given(currency=st.sampled_from(sorted(CURRENCIES)), minor=st.integers(-(10**9), 10**9))
def test_what_is_expressible_comes_back_unchanged(currency: str, minor: int) -> None:
    try:
        units = to_stripe(Money(minor, currency))
    except Refused:
        return
    assert from_stripe(units, currency.lower()) == Money(minor, currency)
