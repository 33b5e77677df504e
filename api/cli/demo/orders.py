"""The demo's orders: who buys what from whom, read from `orders.csv`, and the merchants that sell.

Prices in the file are written as a shop writes them, with the decimals ISO 4217 gives the currency.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib import resources

from api.cli.demo.scenarios import SCENARIOS
from corridor.domain import currency as iso
from corridor.domain.failure import invariant
from corridor.domain.money import Money


@dataclass(frozen=True)
class Seller:
    """A merchant of the demo; `fee_bps` and `fx_markup_bps` are its contract with us."""

    name: str
    title: str
    country: str
    settle_currency: str
    fee_bps: int
    fx_markup_bps: int


SELLERS = (
    Seller("lantern-loom", "Lantern & Loom, Suzhou", "CN", "CNY", 110, 45),
    Seller("kyoto-ceramics", "Kyoto Ceramics, Kyoto", "JP", "JPY", 100, 40),
    Seller("porto-leather", "Porto Leather, Porto", "PT", "EUR", 120, 40),
    Seller("thames-outdoor", "Thames Outdoor, Bristol", "GB", "GBP", 95, 35),
    Seller("brooklyn-vinyl", "Brooklyn Vinyl, New York", "US", "USD", 130, 40),
    Seller("fjord-design", "Fjord Design, Bergen", "NO", "NOK", 120, 50),
    # The ECB publishes no dinar, so nobody here converts into it: Gulf buyers pay dinars, and those are settled.
    Seller("dar-al-oud", "Dar Al-Oud, Kuwait City", "KW", "KWD", 125, 0),
)
CLOSING = "closing"
SELLER_BY_NAME = {seller.name: seller for seller in SELLERS}


@dataclass(frozen=True)
class Order:
    """One line of the file. `card` is the buyer's brand; `scenario` says what is to happen to the order."""

    id: str
    seller: Seller
    buyer_country: str
    amount: Money
    card: str
    item: str
    scenario: str

    @property
    def corridor(self) -> str:
        """As payments name it: `DE-EUR>CN-CNY`."""
        to = f"{self.seller.country}-{self.seller.settle_currency}"
        return f"{self.buyer_country}-{self.amount.currency}>{to}"

    @property
    def is_converted(self) -> bool:
        return self.amount.currency != self.seller.settle_currency


def read() -> tuple[Order, ...]:
    """Every order of the file, in its order."""
    text = resources.files(__package__).joinpath("orders.csv").read_text("utf-8")
    return tuple(_order(row) for row in csv.DictReader(text.splitlines()))


def choose(orders: tuple[Order, ...], count: int) -> tuple[Order, ...]:
    """`count` orders of the day, and the closing orders of their currencies.

    Each scenario comes once before any comes twice; more than the file has are the file again, renumbered.
    """
    day = tuple(order for order in orders if order.scenario != CLOSING)
    rounds = -(-count // len(day))
    chosen = _first_of_each(day, count) if rounds == 1 else _rounds(day, rounds)[:count]
    currencies = {order.amount.currency for order in chosen}
    closing = tuple(it for it in orders if it.scenario == CLOSING and it.amount.currency in currencies)
    return chosen + _rounds(closing, rounds)


def _first_of_each(day: tuple[Order, ...], count: int) -> tuple[Order, ...]:
    firsts = set({order.scenario: order for order in reversed(day)}.values())
    ranked = sorted(day, key=lambda order: order not in firsts)
    kept = set(ranked[:count])
    return tuple(order for order in day if order in kept)


def _rounds(orders: tuple[Order, ...], rounds: int) -> tuple[Order, ...]:
    return tuple(replace(it, id=f"{it.id}-{n}") if n else it for n in range(rounds) for it in orders)


def corridors(orders: Iterable[Order]) -> list[str]:
    return sorted({order.corridor for order in orders})


def _order(row: dict[str, str]) -> Order:
    invariant(row["scenario"] in SCENARIOS, f"{row['order']} has the known scenario {row['scenario']}")
    return Order(
        id=row["order"],
        seller=SELLER_BY_NAME[row["merchant"]],
        buyer_country=row["buyer_country"],
        amount=price(row["amount"], row["currency"]),
        card=row["card"],
        item=row["item"],
        scenario=row["scenario"],
    )


def price(text: str, currency: str) -> Money:
    """`price("12.345", "KWD")`; a price has exactly the decimals of its currency, and no rounding is done here."""
    minor = Decimal(text).scaleb(iso.exponent(currency))
    invariant(minor == minor.to_integral_value(), f"{text} {currency} has the decimals of its currency")
    return Money(int(minor), currency)
