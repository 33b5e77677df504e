"""The demo's order file: what it promises to contain, and that every scenario in it can be played and judged."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from api.cli.demo import drive, orders
from api.cli.demo.orders import Order
from api.cli.demo.scenarios import SCENARIOS, Share
from corridor.domain import currency as iso
from corridor.domain.money import Money
from corridor.domain.payment import Status
from corridor.fx.ecb import EcbRates
from corridor.risk import policy
from corridor.sandbox.stripe.tokens import test_card as card_behind

FILE = orders.read()
TODAY = datetime(2026, 11, 22, tzinfo=UTC)
PUBLISHED = {"EUR", *EcbRates().series.figures(-1)}


def test_there_are_200_orders_or_more_in_12_corridors_and_10_currencies_or_more() -> None:
    assert len(FILE) >= 200
    assert len(orders.corridors(FILE)) >= 12
    assert len({order.amount.currency for order in FILE}) >= 10


def test_currencies_without_decimals_and_with_three_are_among_them() -> None:
    exponents = {order.amount.currency: iso.exponent(order.amount.currency) for order in FILE}
    assert exponents["JPY"] == 0
    assert exponents["KWD"] == 3
    assert set(exponents.values()) == {0, 2, 3}


def test_order_numbers_are_unique_and_every_order_crosses_a_border() -> None:
    assert len({order.id for order in FILE}) == len(FILE)
    assert [order.id for order in FILE if order.buyer_country == order.seller.country] == []


def test_every_scenario_of_the_table_happens_and_most_orders_are_plain() -> None:
    counts = Counter(order.scenario for order in FILE)
    assert counts.keys() == SCENARIOS.keys()
    assert counts.most_common(1)[0][0] == "plain"


def test_every_story_belongs_to_a_scenario() -> None:
    assert drive.STORIES.keys() <= SCENARIOS.keys()


@pytest.mark.parametrize("order", FILE, ids=lambda order: order.id)
def test_the_order_can_be_played(order: Order) -> None:
    scenario = SCENARIOS[order.scenario]
    card_behind(scenario.token_of(order.card))
    assert order.amount.minor % (10 if iso.exponent(order.amount.currency) == 3 else 1) == 0
    assert not order.is_converted or {order.amount.currency, order.seller.settle_currency} <= PUBLISHED
    assert policy.shipped().in_force(TODAY).rules.corridors.is_open(order.corridor)
    if order.scenario.startswith("quote_"):
        assert order.is_converted


def test_every_seller_sells_and_is_settled_in_several_currencies_overall() -> None:
    assert {order.seller for order in FILE} == set(orders.SELLERS)
    assert len({seller.settle_currency for seller in orders.SELLERS}) >= 6
    assert len({seller.country for seller in orders.SELLERS}) >= 6


def test_a_part_of_every_price_is_less_than_all_of_it_and_more_than_nothing() -> None:
    for order in FILE:
        part = Share.PART.of(order.amount)
        assert 0 < part.minor < order.amount.minor
        assert order.amount.minor < 2 * part.minor, (
            "two parts exceed the whole: racing refunds cannot both pass"
        )


def test_what_is_never_captured_is_never_refunded_and_only_captured_payments_settle() -> None:
    for scenario in SCENARIOS.values():
        assert (scenario.ending is Status.SETTLED) == (scenario.captured is not Share.NONE)
        assert scenario.refunded is Share.NONE or scenario.captured is Share.ALL


DAY = tuple(order for order in FILE if order.scenario != orders.CLOSING)


def test_a_small_choice_keeps_one_order_of_every_scenario() -> None:
    chosen = orders.choose(FILE, len(SCENARIOS) - 1)
    assert {order.scenario for order in chosen} == SCENARIOS.keys()
    assert (
        Counter(order.scenario for order in chosen if order.scenario != orders.CLOSING).most_common(1)[0][1]
        == 1
    )


@pytest.mark.parametrize("count", [1, 60, len(DAY), len(DAY) + 7])
def test_exactly_as_many_orders_as_asked_for_before_the_closing_ones(count: int) -> None:
    chosen = orders.choose(FILE, count)
    assert len([order for order in chosen if order.scenario != orders.CLOSING]) == count
    assert len({order.id for order in chosen}) == len(chosen)


def test_asking_for_the_whole_day_gives_the_file() -> None:
    assert orders.choose(FILE, len(DAY)) == FILE


@pytest.mark.parametrize("count", [1, 60, len(DAY), len(DAY) + 7, 3 * len(DAY)])
def test_closing_orders_outweigh_the_refunds_of_their_currency(count: int) -> None:
    balance: Counter[str] = Counter()
    for order in orders.choose(FILE, count):
        refunded = order.scenario.startswith("refund")
        # The provider's fee of a charge is below four per cent and a fixed part; nine tenths are on the safe side.
        worth = (
            order.amount.minor * 9 // 10
            if order.scenario == orders.CLOSING
            else -order.amount.minor * refunded
        )
        balance[order.amount.currency] += worth
    assert [currency for currency, minor in balance.items() if minor < 0] == []


def test_a_price_has_exactly_the_decimals_of_its_currency() -> None:
    assert orders.price("12.345", "KWD") == Money(12345, "KWD")
    assert orders.price("4800", "JPY") == Money(4800, "JPY")
    with pytest.raises(Exception, match="decimals of its currency"):
        orders.price("4800.50", "JPY")
