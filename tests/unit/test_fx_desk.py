"""The desk asks again when nobody could be reached, and takes a real no for a no."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from corridor.domain.money import Money
from corridor.fx.desk import PAUSES_SECONDS, Desk
from corridor.fx.ecb import EcbRates
from corridor.fx.market import Market
from corridor.fx.port import NoOffer, Offer, OfferProblem, OfferUnavailable

RATES = EcbRates()
DAY = RATES.newest_day()
NOW = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC)
SELL = Money(10_000, "EUR")


class House:
    """A liquidity provider that fails as often as it is told to, then quotes the reference."""

    name = "house"

    def __init__(self, *troubles: OfferProblem) -> None:
        self.troubles = list(troubles)
        self.asked = 0

    async def quote(self, sell: Money, buy_currency: str, lock_seconds: int) -> Offer:
        self.asked += 1
        if self.troubles:
            raise OfferUnavailable(self.name, self.troubles.pop(0), "planted")
        mid = RATES.rate("EUR", "CNY", DAY).rate
        return Offer(
            provider=self.name,
            reference="q1",
            sell=sell,
            buy_currency=buy_currency,
            rate=mid * Decimal("0.999"),
            mid=mid,
            mid_as_of=DAY.isoformat(),
            spread_bps=10,
            expires_at=NOW + timedelta(seconds=lock_seconds + 60),
            minimum=None,
        )

    async def accept(self, reference: str, our_reference: str) -> None:
        raise AssertionError("nothing is dealt here")


async def ask(house: House) -> None:
    await Desk((house,), RATES, Market(DAY)).ask(SELL, "CNY", 60, NOW)


async def test_a_moment_in_which_nobody_could_be_reached_is_asked_again() -> None:
    house = House(OfferProblem.SILENT, OfferProblem.UNREACHABLE)
    await ask(house)
    assert house.asked == 3


async def test_a_house_that_stays_away_is_given_up() -> None:
    house = House(*[OfferProblem.SILENT] * 9)
    with pytest.raises(NoOffer, match="nobody offers"):
        await ask(house)
    assert house.asked == len(PAUSES_SECONDS) + 1


async def test_a_real_no_is_not_asked_again() -> None:
    house = House(OfferProblem.DECLINED)
    with pytest.raises(NoOffer):
        await ask(house)
    assert house.asked == 1
