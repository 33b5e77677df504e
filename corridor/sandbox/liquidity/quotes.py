"""Quotes and fills of one liquidity provider, in books of its own."""

import json
import secrets
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Any

from iso4217 import Currency

from corridor.sandbox.liquidity.houses import House
from corridor.sandbox.liquidity.prices import Price
from corridor.sandbox.rates import ReferenceRates

Document = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS quotes (
  id TEXT PRIMARY KEY, house TEXT NOT NULL, expires_ms INTEGER NOT NULL, document TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fills (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, house TEXT NOT NULL, reference TEXT NOT NULL,
  quote_id TEXT NOT NULL UNIQUE, document TEXT NOT NULL, UNIQUE (house, reference)
);
CREATE TRIGGER IF NOT EXISTS fills_are_never_changed BEFORE UPDATE ON fills
  BEGIN SELECT RAISE(ABORT, 'fills are append-only'); END;
"""


@dataclass
class Refusal(Exception):
    """A liquidity provider says no; `code` is stable, `status` is HTTP's."""

    status: int
    code: str
    message: str


@dataclass(frozen=True)
class Request:
    """What is asked: `amount` is fixed on the named side, in major units."""

    sell_currency: str
    buy_currency: str
    side: str
    amount: Decimal
    lock_seconds: int


def check_request(house: House, request: Request, rates: ReferenceRates) -> None:
    """Refuse what this house does not deal in."""
    pair = {request.sell_currency, request.buy_currency}
    if (
        len(pair) == 1
        or pair & house.refuses
        or rates.mid(request.sell_currency, request.buy_currency) is None
    ):
        raise Refusal(422, "pair_not_quoted", f"{house.name} does not quote {'/'.join(sorted(pair))}")
    if request.lock_seconds > house.longest_lock_seconds:
        raise Refusal(422, "lock_too_long", f"the longest lock is {house.longest_lock_seconds} seconds")
    fixed = request.sell_currency if request.side == "sell" else request.buy_currency
    if request.amount != request.amount.quantize(_unit(fixed)):
        raise Refusal(422, "amount_precision", f"{fixed} has {_digits(fixed)} decimals")
    _check_size(house, request, fixed, rates)


def make_quote(house: House, request: Request, price: Price, rates: ReferenceRates, now_ms: int) -> Document:
    """A firm quote: both amounts are stated, since amounts decide and not the rate."""
    sell, buy = _amounts(request, price.rate)
    expires_ms = now_ms + request.lock_seconds * 1000
    return {
        "quote_id": f"{house.name[:3]}q_{secrets.token_hex(10)}",
        "lp": house.name,
        "sell_currency": request.sell_currency,
        "buy_currency": request.buy_currency,
        "side": request.side,
        "amount": str(request.amount),
        "sell_amount": str(sell),
        "buy_amount": str(buy),
        "rate": format(price.rate, "f"),
        "mid": format(price.mid, "f"),
        "mid_as_of": rates.day.isoformat(),
        "mid_source": "ECB",
        "spread_bps": str(price.spread_bps),
        "premium_bps": str(price.premium_bps),
        "lock_seconds": request.lock_seconds,
        "quoted_at": moment(now_ms),
        "expires_at": moment(expires_ms),
        "minimum": {"amount": str(house.minimum_eur), "currency": "EUR"},
        "maximum": {"amount": str(house.maximum_eur), "currency": "EUR"},
        "status": "open",
    }


def save_quote(connection: sqlite3.Connection, house: House, quote: Document, expires_ms: int) -> None:
    """Keep a quote so that it can be accepted."""
    connection.execute(
        "INSERT INTO quotes (id, house, expires_ms, document) VALUES (?, ?, ?, ?)",
        (quote["quote_id"], house.name, expires_ms, json.dumps(quote)),
    )


def read_quote(connection: sqlite3.Connection, house: House, quote_id: str, now_ms: int) -> Document:
    """A quote as it stands now: open, expired or accepted (then with its fill)."""
    row = connection.execute(
        "SELECT * FROM quotes WHERE id = ? AND house = ?", (quote_id, house.name)
    ).fetchone()
    if row is None:
        raise Refusal(404, "quote_not_found", f"{house.name} knows no quote {quote_id}")
    quote: Document = json.loads(row["document"])
    fill = connection.execute("SELECT document FROM fills WHERE quote_id = ?", (quote_id,)).fetchone()
    if fill is not None:
        return {**quote, "status": "accepted", "fill": json.loads(fill["document"])}
    return {**quote, "status": "expired" if now_ms >= row["expires_ms"] else "open"}


def accept(
    connection: sqlite3.Connection, house: House, quote_id: str, reference: str, now_ms: int
) -> Document:
    """Deal on a quote. The same reference on the same quote returns the first fill, even after expiry."""
    quote = read_quote(connection, house, quote_id, now_ms)
    if quote["status"] == "accepted":
        if quote["fill"]["reference"] != reference:
            raise Refusal(409, "quote_already_used", "a quote can be used once")
        filled: Document = quote["fill"]
        return filled
    if quote["status"] == "expired":
        raise Refusal(409, "quote_expired", f"the quote expired at {quote['expires_at']}")
    if find_fills(connection, house, reference=reference):
        raise Refusal(409, "reference_already_used", "this reference has dealt on another quote")
    return _fill(connection, house, quote, reference, now_ms)


def find_fills(
    connection: sqlite3.Connection,
    house: House,
    *,
    reference: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Document]:
    """Fills in order; by our reference this is the inquiry after an unknown accept."""
    rows = connection.execute(
        "SELECT sequence, document FROM fills WHERE house = ? AND sequence > ? AND (? IS NULL OR reference = ?)"
        " ORDER BY sequence LIMIT ?",
        (house.name, after, reference, reference, limit),
    )
    return [{"sequence": row["sequence"], **json.loads(row["document"])} for row in rows]


def moment(milliseconds: int) -> str:
    """UTC with milliseconds, e.g. 2026-11-22T08:00:00.000Z."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def _fill(
    connection: sqlite3.Connection, house: House, quote: Document, reference: str, now_ms: int
) -> Document:
    taken = (
        "quote_id",
        "lp",
        "sell_currency",
        "buy_currency",
        "sell_amount",
        "buy_amount",
        "rate",
        "mid",
        "mid_as_of",
    )
    fill = {
        "fill_id": f"{house.name[:3]}f_{secrets.token_hex(10)}",
        "reference": reference,
        "filled_at": moment(now_ms),
        **{name: quote[name] for name in taken},
    }
    connection.execute(
        "INSERT INTO fills (house, reference, quote_id, document) VALUES (?, ?, ?, ?)",
        (house.name, reference, quote["quote_id"], json.dumps(fill)),
    )
    return fill


def _amounts(request: Request, rate: Decimal) -> tuple[Decimal, Decimal]:
    """The house rounds in its own favour: it pays out less, or asks for more."""
    if request.side == "sell":
        return request.amount, (request.amount * rate).quantize(_unit(request.buy_currency), ROUND_DOWN)
    return (request.amount / rate).quantize(_unit(request.sell_currency), ROUND_UP), request.amount


def _check_size(house: House, request: Request, fixed: str, rates: ReferenceRates) -> None:
    to_euro = rates.mid(fixed, "EUR")
    if to_euro is None:
        raise Refusal(422, "pair_not_quoted", f"{house.name} cannot value {fixed}")
    if not house.minimum_eur <= request.amount * to_euro <= house.maximum_eur:
        code = "amount_too_small" if request.amount * to_euro < house.minimum_eur else "amount_too_large"
        raise Refusal(422, code, f"deals are from {house.minimum_eur} to {house.maximum_eur} EUR equivalent")


def _digits(code: str) -> int:
    digits = Currency(code).exponent
    if digits is None:
        raise Refusal(422, "pair_not_quoted", f"{code} has no minor unit")
    return int(digits)


def _unit(code: str) -> Decimal:
    return Decimal(1).scaleb(-_digits(code))
