"""How a quote is shown: rates as decimal strings, money as integers, times as RFC 3339 with milliseconds."""

from datetime import UTC, datetime
from decimal import Decimal

from corridor.domain.currency import exponent
from corridor.domain.money import Money
from corridor.domain.quote import Quote, QuoteStatus


def quote_view(quote: Quote, status: QuoteStatus) -> dict[str, object]:
    """The quote as the API answers it. What other providers offered stays in the evidence, not in the answer."""
    return {
        "object": "quote",
        "id": quote.id,
        "status": str(status),
        "sell": money_view(quote.sell_amount),
        "buy": money_view(quote.buy_amount),
        "buy_at_mid": money_view(quote.mid_amount),
        "spread": money_view(quote.spread),
        "spread_bps": quote.spread_bps,
        "pair": f"{quote.sell_amount.currency}/{quote.buy_amount.currency}",
        "client_rate": plain(quote.client_rate),
        "mid_rate": plain(quote.mid_rate),
        "mid_source": quote.mid_source,
        "mid_as_of": quote.mid_as_of,
        "liquidity_provider": quote.liquidity_provider,
        "lock_seconds": quote.lock_seconds,
        "valid_from": rfc3339(quote.valid_from),
        "expires_at": rfc3339(quote.expires_at),
    }


def money_view(money: Money) -> dict[str, object]:
    """Integer minor units with the exponent, so no reader needs a currency table."""
    return {"minor": money.minor, "currency": money.currency, "exponent": exponent(money.currency)}


def plain(rate: Decimal) -> str:
    """A rate without an exponent and without a digit lost."""
    return format(rate, "f")


def rfc3339(moment: datetime) -> str:
    """`2026-11-23T09:15:02.481Z`; microseconds are cut, so a shown expiry is never later than the real one."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
