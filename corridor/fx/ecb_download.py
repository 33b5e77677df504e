"""The ECB's file of all reference rates, from the ECB: the one way in which a new day's rates get here.

Source: https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates/ (the zipped CSV of the
whole series, some 600 KB, replaced about 16:00 CET on each TARGET business day). Free reuse with the source named.
"""

from datetime import UTC, datetime, timedelta

import httpx

from corridor.fx.ecb import EcbSeries, SeriesBroken, unpacked

LARGEST_DOWNLOAD = 1 << 23
SECONDS = 30
PUBLISHED_BY_HOUR = 15
"""16:00 CET in UTC; in summer it is an hour earlier."""
SATURDAY = 5


class NotDownloaded(Exception):
    """There is no file, or not the ECB's; what is known stays as it is."""


def expected_day(now: datetime) -> str:
    """The last weekday whose rates must be out by now, as an ISO date; on a TARGET holiday there are none."""
    day = now.astimezone(UTC) - timedelta(hours=PUBLISHED_BY_HOUR)
    while day.weekday() >= SATURDAY:
        day -= timedelta(days=1)
    return day.date().isoformat()


async def download(address: str) -> EcbSeries:
    """The published series. Raises `NotDownloaded`, `SeriesBroken`."""
    try:
        async with httpx.AsyncClient(timeout=SECONDS) as client, client.stream("GET", address) as answer:
            answer.raise_for_status()
            received = bytearray()
            async for chunk in answer.aiter_bytes():
                received += chunk
                if len(received) > LARGEST_DOWNLOAD:
                    raise SeriesBroken(f"{address} has more than {LARGEST_DOWNLOAD} bytes")
    except httpx.HTTPError as error:
        raise NotDownloaded(f"{address}: {type(error).__name__}: {error}") from error
    return unpacked(bytes(received))
