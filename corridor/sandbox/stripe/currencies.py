"""Stripe's own minor units, which are not ISO's (docs.stripe.com/currencies), and its limits on charge amounts."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from corridor.sandbox.rates import ReferenceRates
from corridor.sandbox.stripe.errors import invalid_request

ZERO_DECIMAL = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())  # noqa: SIM905
THREE_DECIMAL = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])
# Sent with two decimals for compatibility, but only whole units are accepted.
WHOLE_UNITS_ONLY = frozenset(["isk", "ugx"])
SUPPORTED = frozenset(
    """usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf
    clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr ils
    inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk
    mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp
    sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xcg xof xpf yer zar
    zmw""".split()  # noqa: SIM905 - a table is read more easily than a column of quotes
)
MAXIMUM_AMOUNT = 99_999_999
MINIMUM_USD_MINOR = 50
# Currencies of a Stripe balance for which the ECB publishes nothing: units per US dollar, from their official pegs.
PEGGED_PER_USD = {
    "aed": "3.6725", "bhd": "0.376", "jod": "0.709", "kwd": "0.3072", "omr": "0.3845", "qar": "3.64", "sar": "3.75"
}  # fmt: skip


def exponent(currency: str) -> int:
    """Digits after the point in Stripe's integers (UGX and ISK count as two)."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def step(currency: str) -> int:
    """The smallest difference between two amounts that Stripe accepts, in its own integers."""
    if currency in WHOLE_UNITS_ONLY:
        return 100
    return 10 if currency in THREE_DECIMAL else 1


def check_currency(currency: str) -> None:
    """Refuse codes Stripe does not take; upper case is accepted by Stripe and lowered by the caller."""
    if currency not in SUPPORTED:
        raise invalid_request(f"Invalid currency: {currency}.", param="currency")


def check_divisible(amount: int, currency: str, param: str) -> None:
    """Refuse the minor units that a reader of ISO 4217 alone would send."""
    if currency in WHOLE_UNITS_ONLY and amount % 100:
        raise invalid_request(
            f"Invalid amount. Amounts in {currency} must be evenly divisible by 100.",
            code="invalid_charge_amount_no_decimal_compatible",
            param=param,
        )
    if currency in THREE_DECIMAL and amount % 10:
        raise invalid_request(
            f"Invalid amount. Amounts in {currency} must be rounded to the nearest ten.",
            code="invalid_charge_amount",
            param=param,
        )


@dataclass(frozen=True)
class Exchange:
    """Conversions between Stripe's integers at the market day's reference rates."""

    rates: ReferenceRates
    conversion_basis_points: int = 0

    def rate(self, source: str, target: str) -> Decimal | None:
        """Units of `target` for one `source` in major units, margin included; None without a series."""
        mid = self._mid(source, target)
        if mid is None:
            return None
        kept = Decimal(10_000 - self.conversion_basis_points) / 10_000
        return (mid * kept).quantize(Decimal("0.000000001"), ROUND_HALF_EVEN)

    def convert(self, amount: int, source: str, target: str, rate: Decimal) -> int:
        """Minor units of `target`, half-even, rounded once."""
        scale = Decimal(10) ** (exponent(target) - exponent(source))
        return int((amount * rate * scale).quantize(Decimal(1), ROUND_HALF_EVEN))

    def from_usd(self, usd_minor: int, currency: str) -> int:
        """A dollar amount of a price list in another currency; unknown currencies keep the number."""
        rate = self._mid("usd", currency)
        return usd_minor if rate is None else self.convert(usd_minor, "usd", currency, rate)

    def check_charge_amount(self, amount: int, currency: str) -> None:
        """Stripe's floor of about half a dollar, its ceiling of eight digits, and its minor units."""
        check_divisible(amount, currency, "amount")
        if amount > MAXIMUM_AMOUNT:
            raise invalid_request(
                f"Amount must be no more than {MAXIMUM_AMOUNT} {currency}",
                code="amount_too_large",
                param="amount",
            )
        if amount < self.from_usd(MINIMUM_USD_MINOR, currency):
            raise invalid_request(
                "Amount must convert to at least 50 cents.", code="amount_too_small", param="amount"
            )

    def _mid(self, source: str, target: str) -> Decimal | None:
        if source == target:
            return Decimal(1)
        source_per_usd, target_per_usd = self._per_usd(source), self._per_usd(target)
        return None if source_per_usd is None or target_per_usd is None else target_per_usd / source_per_usd

    def _per_usd(self, currency: str) -> Decimal | None:
        pegged = PEGGED_PER_USD.get(currency)
        return Decimal(pegged) if pegged else self.rates.mid("usd", currency)
