"""What `corridor up` says about the rates it starts with: never a silent exception for old ones."""

from datetime import UTC, date, datetime

import pytest

from api.cli import up
from corridor.fx.ecb import EcbRates
from corridor.runtime.settings import load

NEWEST = EcbRates().newest_day()


def test_newest_is_the_last_published_day_and_a_date_is_itself() -> None:
    assert up.market_day("newest") == NEWEST
    assert up.market_day("2026-10-29") == date(2026, 10, 29)
    with pytest.raises(ValueError, match="Invalid isoformat"):
        up.market_day("yesterday")


def test_a_fixed_market_day_is_said_aloud() -> None:
    told, possible = up.rates_in_force(load(market_day=NEWEST), datetime.now(UTC), NEWEST)
    assert possible
    assert str(NEWEST) in told
    assert "fixed by a setting" in told


def test_rates_that_are_too_old_are_announced_as_refused() -> None:
    long_after = datetime(NEWEST.year + 1, 1, 15, tzinfo=UTC)
    told, possible = up.rates_in_force(load(), long_after, NEWEST)
    assert not possible
    assert "are refused" in told


def test_fresh_rates_need_no_warning() -> None:
    same_day = datetime(NEWEST.year, NEWEST.month, NEWEST.day, 18, tzinfo=UTC)
    told, possible = up.rates_in_force(load(), same_day, NEWEST)
    assert possible
    assert "refused" not in told
