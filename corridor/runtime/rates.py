"""Keeps a process's reference rates current: what was published is read from the database, and one worker downloads it.

On a fixed market day (demo, tests) nothing is asked for: that day's rates are in the packaged file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import structlog

from corridor.fx import ecb_download
from corridor.fx.desk import Desk
from corridor.fx.ecb import SOURCE, EcbRates, SeriesBroken
from corridor.fx.ecb_download import NotDownloaded
from corridor.runtime import metrics
from corridor.storage import reference_rates
from corridor.storage.database import Database, DatabaseUnavailable

ASK_EVERY = timedelta(minutes=30)
"""While a day's rates are missing; on a bank holiday all day long."""

log = structlog.get_logger(__name__)


async def learn(rates: EcbRates, database: Database) -> None:
    """Add the days that are kept in the database. Raises `DatabaseUnavailable`."""
    rates.learn(await database.read(reference_rates.since, SOURCE, _after_the_packaged(rates)))


def _after_the_packaged(rates: EcbRates) -> str:
    return (date.fromisoformat(rates.series.days[-1]) + timedelta(days=1)).isoformat()


@dataclass(frozen=True)
class RateKeeper:
    """`turn` for workers, `refresh` for every process that needs rates."""

    desk: Desk
    database: Database
    address: str | None
    """Where the ECB's file is; None: rates come from the packaged file alone."""
    clock: Callable[[], datetime]

    @property
    def is_needed(self) -> bool:
        """False on a fixed market day."""
        return self.desk.market.fixed_day is None

    async def begin(self) -> None:
        """Before a process takes work: a first payment must not meet rates of a month ago."""
        try:
            await self.refresh()
        except DatabaseUnavailable:
            log.warning("kept reference rates could not be read; they are read again while the process runs")

    async def refresh(self) -> int:
        """Learn what is kept in the database; returns how many days that added. Raises `DatabaseUnavailable`."""
        if not self.is_needed:
            return 0
        before = self._rates.newest_day()
        await learn(self._rates, self.database)
        age = self.clock().astimezone(UTC).date() - self._rates.newest_day()
        metrics.reference_rate_age(age.days)
        return (self._rates.newest_day() - before).days

    async def turn(self) -> int:
        """Download when a day is missing and nobody else just has, then `refresh`. Raises `DatabaseUnavailable`."""
        learned = await self.refresh()
        if self.address is None or not self._is_a_day_missing():
            return learned
        if not await self.database.write(reference_rates.may_ask, SOURCE, ASK_EVERY, self.clock()):
            return learned
        await self._download(self.address)
        return learned + await self.refresh()

    @property
    def _rates(self) -> EcbRates:
        return self.desk.rates

    def _is_a_day_missing(self) -> bool:
        return self.is_needed and self._rates.newest_day().isoformat() < ecb_download.expected_day(
            self.clock()
        )

    async def _download(self, address: str) -> None:
        """What cannot be had or believed is logged, and the gauge tells the age of what is used instead."""
        packaged = self._rates.series.days
        try:
            published = await ecb_download.download(address)
            if packaged[-1] not in published.days:
                raise SeriesBroken(f"{packaged[-1]} is missing, so it is not the series that is known here")
            days = published.since(_after_the_packaged(self._rates))
        except (NotDownloaded, SeriesBroken) as error:
            log.warning("reference rates were not updated; the known ones are used while they are young enough",
                        newest=self._rates.newest_day().isoformat(), error=str(error))  # fmt: skip
            return
        corrected = await self.database.write(
            reference_rates.keep, SOURCE, days, published.digest, self.clock()
        )
        if corrected:
            log.warning("published reference rates differ from those kept, which stay", days=corrected)
        log.info("reference rates are current", newest=published.days[-1], digest=published.digest)
