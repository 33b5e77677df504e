"""Stripe's own minor units and limits, which differ from ISO 4217 for some currencies.

Source: https://docs.stripe.com/currencies (presentment currencies, special cases, minimum and maximum amounts).
"""

from corridor.domain.currency import exponent, is_currency
from corridor.domain.failure import Refusal, Refused
from corridor.domain.money import Money

ZERO_DECIMAL = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"}
)
"""MGA has two decimals in ISO 4217. UGX is listed by Stripe as zero-decimal and yet is sent times one hundred."""

THREE_DECIMAL = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})

STEP = {"ISK": 100, "UGX": 100} | dict.fromkeys(THREE_DECIMAL, 10)
"""Amounts in Stripe's units are multiples of this: no aurar and no Ugandan cents exist, and card networks carry
two decimals of a three-decimal currency."""

_TWO_DECIMAL = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CNY COP CRC CVE CZK
    DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR ISK JMD KES KGS KHR KYD KZT
    LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR
    PLN QAR RON RSD RUB SAR SBD SCR SEK SGD SHP SLE SOS SRD STN SZL THB TJS TOP TRY TTD TWD TZS UAH UGX USD UYU UZS
    WST XCD XCG YER ZAR ZMW
"""

CURRENCIES = ZERO_DECIMAL | THREE_DECIMAL | frozenset(_TWO_DECIMAL.split())
"""What a card may be charged in."""

MINIMUM_CHARGE = {
    "AED": 200, "AUD": 50, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50, "GBP": 30,
    "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50, "PLN": 200,
    "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50,
}  # fmt: skip
"""Smallest charge in Stripe's units. Other currencies are held to the equivalent in the settlement currency,
which only Stripe can judge (`amount_too_small`)."""

_DEFAULT_MAXIMUM = 99_999_999
MAXIMUM_CHARGE = {"IDR": 999_999_999_999}
"""Eight digits, twelve for IDR."""


def decimals(currency: str) -> int:
    """Decimals of Stripe's minor unit of an upper-case code."""
    return 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2


def to_stripe(money: Money) -> int:
    """`money` in Stripe's units. Raises `Refused` for a currency or a precision Stripe cannot express."""
    if money.currency not in CURRENCIES:
        raise Refused(Refusal.INVALID_CURRENCY, f"Stripe does not charge cards in {money.currency}")
    scaled, lost = _shifted(money.minor, decimals(money.currency) - exponent(money.currency))
    if lost or scaled % STEP.get(money.currency, 1):
        raise Refused(
            Refusal.INVALID_PARAMETER, f"Stripe cannot express {money}: too many decimals for this currency"
        )
    return scaled


def chargeable(money: Money) -> int:
    """`to_stripe`, and within Stripe's limits for a charge. Raises `Refused`."""
    units = to_stripe(money)
    least, most = MINIMUM_CHARGE.get(money.currency, 1), MAXIMUM_CHARGE.get(money.currency, _DEFAULT_MAXIMUM)
    if not least <= units <= most:
        raise Refused(
            Refusal.AMOUNT_OUT_OF_RANGE,
            f"Stripe charges between {_of(least, money.currency)} and {_of(most, money.currency)}",
        )
    return units


def from_stripe(units: int, currency: str) -> Money | None:
    """Money of an amount and a (lower-case) code in an answer; None when they are not money we can hold."""
    code = currency.upper()
    if not is_currency(code):
        return None
    try:
        return _of(units, code)
    except Refused:
        return None


def _of(units: int, currency: str) -> Money:
    minor, lost = _shifted(units, exponent(currency) - decimals(currency))
    if lost:
        raise Refused(
            Refusal.INVALID_PARAMETER, f"{units} of Stripe's units is not a whole amount of {currency}"
        )
    return Money(minor, currency)


def _shifted(amount: int, places: int) -> tuple[int, int]:
    """(`amount` × 10^places, what a negative shift cuts off)."""
    return (amount * int(10**places), 0) if places >= 0 else divmod(amount, int(10**-places))
