"""Claims about the ECB reference source, against the published series itself."""

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from corridor.domain.failure import Refusal
from corridor.fx.ecb import EcbRates, EcbSeries, SeriesBroken, packaged_series
from corridor.fx.market import Market
from corridor.fx.port import RateProblem, RateUnavailable

FRIDAY = date(2026, 10, 30)
SUNDAY = date(2026, 11, 1)


@pytest.fixture(scope="module")
def rates() -> EcbRates:
    return EcbRates(max_age_days=4)


def refusal(rates: EcbRates, base: str, quote: str, on: date) -> RateProblem:
    with pytest.raises(RateUnavailable) as refused:
        rates.rate(base, quote, on)
    assert refused.value.code is Refusal.RATE_UNAVAILABLE
    return refused.value.reason


def test_the_published_figure_is_kept_to_the_digit(rates: EcbRates) -> None:
    mid = rates.rate("EUR", "CNY", FRIDAY)
    assert (str(mid.rate), mid.source, mid.as_of) == ("7.4326", "ECB", FRIDAY)
    assert [(leg.pair, leg.text) for leg in mid.legs] == [("EUR/CNY", "7.4326")]


def test_a_cross_goes_through_the_euro_and_keeps_both_legs(rates: EcbRates) -> None:
    mid = rates.rate("USD", "JPY", FRIDAY)
    assert [(leg.pair, leg.text) for leg in mid.legs] == [("EUR/USD", "1.1172"), ("EUR/JPY", "175.68")]
    assert mid.rate == Decimal("157.250268528")  # 175.68 / 1.1172 at twelve significant digits


def test_the_inverse_is_computed_from_the_leg_never_stored(rates: EcbRates) -> None:
    assert rates.rate("CNY", "EUR", FRIDAY).rate == Decimal("0.134542421225")


def test_sunday_gets_fridays_rate_with_fridays_date(rates: EcbRates) -> None:
    assert rates.rate("EUR", "CNY", SUNDAY).as_of == FRIDAY


@pytest.mark.parametrize(("day", "usable"), [(date(2026, 11, 3), True), (date(2026, 11, 4), False)])
def test_a_rate_is_used_up_to_its_greatest_age_and_not_a_day_longer(
    rates: EcbRates, day: date, usable: bool
) -> None:
    if usable:
        assert rates.rate("EUR", "USD", day).as_of == FRIDAY
    else:
        assert refusal(rates, "EUR", "USD", day) is RateProblem.TOO_OLD


def test_christmas_is_bridged_by_the_last_published_day(rates: EcbRates) -> None:
    assert rates.rate("EUR", "USD", date(2025, 12, 28)).as_of == date(2025, 12, 24)


@pytest.mark.parametrize("ended", ["RUB", "HRK", "BGN", "TRL"])
def test_an_ended_series_is_refused_today(rates: EcbRates, ended: str) -> None:
    assert refusal(rates, "EUR", ended, FRIDAY) is RateProblem.NOT_PUBLISHED
    assert refusal(rates, ended, "USD", FRIDAY) is RateProblem.NOT_PUBLISHED


def test_an_ended_series_keeps_its_history(rates: EcbRates) -> None:
    assert rates.rate("EUR", "RUB", date(2022, 3, 1)).rate == Decimal("117.201")


def test_a_series_is_not_carried_over_its_end_even_within_the_age_limit(rates: EcbRates) -> None:
    assert rates.rate("EUR", "BGN", date(2025, 12, 31)).rate == Decimal("1.9558")
    assert refusal(rates, "EUR", "BGN", date(2026, 1, 2)) is RateProblem.NOT_PUBLISHED


def test_a_hole_in_a_series_is_not_filled(rates: EcbRates) -> None:
    assert refusal(rates, "EUR", "ISK", date(2012, 6, 15)) is RateProblem.NOT_PUBLISHED


def test_a_currency_the_ecb_never_published_is_refused(rates: EcbRates) -> None:
    assert refusal(rates, "KWD", "EUR", FRIDAY) is RateProblem.NOT_PUBLISHED


def test_before_the_first_day_there_is_no_rate(rates: EcbRates) -> None:
    assert refusal(rates, "EUR", "USD", date(1999, 1, 3)) is RateProblem.BEFORE_FIRST_DAY
    assert rates.rate("EUR", "USD", date(1999, 1, 4)).rate == Decimal("1.1789")


def test_every_row_of_the_packaged_file_can_be_read() -> None:
    series = packaged_series()
    assert (len(series.days), series.days[0], series.days[-1]) == (7126, "1999-01-04", "2026-10-30")
    assert min(len(series.figures(index)) for index in range(len(series.days))) > 25


def test_valuation_names_the_day_it_rests_on(rates: EcbRates) -> None:
    as_of, per_euro = rates.per_euro(SUNDAY)
    assert (as_of, per_euro["EUR"], per_euro["JPY"]) == (FRIDAY, Decimal(1), Decimal("175.68"))
    assert "RUB" not in per_euro


def test_the_newest_day_is_the_end_of_the_series(rates: EcbRates) -> None:
    assert rates.newest_day() == FRIDAY


def test_an_unset_market_day_is_the_real_day_and_an_old_file_is_then_refused(rates: EcbRates) -> None:
    now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
    assert refusal(rates, "EUR", "CNY", Market().day(now)) is RateProblem.TOO_OLD
    assert rates.rate("EUR", "CNY", Market(FRIDAY).day(now)).as_of == FRIDAY


def test_a_fixed_market_day_does_not_excuse_an_old_rate(rates: EcbRates) -> None:
    fixed = Market(date(2026, 11, 9)).day(datetime(2026, 11, 22, tzinfo=UTC))
    assert refusal(rates, "EUR", "CNY", fixed) is RateProblem.TOO_OLD


@pytest.mark.parametrize(
    "published",
    [
        "<html>moved</html>",
        "Date,USD,\n2026-10-29,1.1,\n2026-10-30,1.2,\n",
        "Date,USD,\n2026-10-30,1.1,\n2026-10-30,1.2,\n",
    ],
)
def test_a_file_that_is_not_the_series_is_refused_whole(published: str) -> None:
    with pytest.raises(SeriesBroken):
        EcbSeries.parse(published.encode())


@pytest.mark.parametrize(
    "row",
    [
        "2026-10-30,1.1",
        "2026-10-30,1.1,7,9,",
        "2026-10-30,0,",
        "2026-10-30,-1.1,",
        "2026-10-30,1e3,",
        "2026-10-30,NaN,",
    ],
)
def test_a_damaged_row_is_refused_when_its_day_is_asked_for(row: str) -> None:
    series = EcbSeries.parse(f"Date,USD,\n{row}\n".encode())
    with pytest.raises(SeriesBroken):
        EcbRates(series=series).rate("EUR", "USD", FRIDAY)


def test_the_first_rate_of_a_process_is_there_in_time() -> None:
    program = (
        "import time; from datetime import date; from corridor.fx.ecb import EcbRates; begun = time.process_time();"
        "EcbRates().rate('USD', 'CNY', date(2026, 10, 30)); print(time.process_time() - begun)"
    )
    # Processor time, so that a busy machine does not decide; 0.3 s is the budget of a start.
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603
    assert Decimal(answer.stdout.strip()) < Decimal("0.3")
