"""Currencies and their minor-unit exponents, from the published ISO 4217 table.

The exponents come from ISO 4217 (list one, published 2026-01-01) as shipped in the `iso4217` package, never
from CLDR: the two differ for 13 currencies. Providers that deviate keep their own exceptions in their folder.
"""

from functools import cache

from iso4217 import Currency as IsoEntry

from corridor.domain.failure import Refusal, Refused


@cache
def _exponents() -> dict[str, int]:
    """ISO code → number of decimals; codes without a minor unit (XAU, XDR, XXX …) are left out."""
    return {entry.code: entry.exponent for entry in IsoEntry if entry.exponent is not None}


def is_currency(code: str) -> bool:
    """True for an ISO 4217 code that money can be expressed in (upper case)."""
    return code in _exponents()


def exponent(code: str) -> int:
    """Decimals of the currency (JPY 0, EUR 2, KWD 3). Raises `Refused(INVALID_CURRENCY)` for others."""
    try:
        return _exponents()[code]
    except KeyError:
        raise Refused(
            Refusal.INVALID_CURRENCY, f"{code!r} is not an ISO 4217 currency with a minor unit"
        ) from None
