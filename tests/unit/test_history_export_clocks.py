"""An exporter whose clock is wrong: what it says of its lag is not better than it is, and being put right stops nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.service import RPCError, RPCStatusCode

from corridor.runtime.histories import Run, is_closed
from corridor.storage.sealing import Sealer
from tests.replay import golden
from workers.histories import export as exporting
from workers.histories.archive import Archive
from workers.histories.export import Reached, export, follow

AN_HOUR = timedelta(hours=1)
A_MOMENT = timedelta(seconds=1)
NOBODY: Any = None
"""No server is asked."""


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path, Sealer("k1", {"k1": b"1" * 32}), "default")


@pytest.fixture
def asked() -> list[str]:
    """What Temporal's list was asked for."""
    return []


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> list[Run]:
    """Two runs that Temporal lists, in the order in which they ended."""
    closed = [it.history for it in golden.all_of_them() if is_closed(it.history)]
    runs = sorted((Run(it, it.run_id, False) for it in closed), key=_end)[:: len(closed) - 1]

    async def listed(_: Any, query: str) -> AsyncIterator[Any]:
        asked.append(query)
        for run in runs:
            yield SimpleNamespace(id=run.workflow_id, run_id=run.run_id, close_time=_end(run))

    async def fetched(_: Any, workflow_id: str, run_id: str) -> Run:
        (run,) = [it for it in runs if it.run_id == run_id]
        return run

    monkeypatch.setattr(exporting, "listed", listed)
    monkeypatch.setattr(exporting, "fetch", fetched)
    return runs


def _end(run: Run) -> datetime:
    return run.history.events[-1].event_time.ToDatetime(tzinfo=UTC)


async def test_what_was_archived_before_it_ended_shows_a_clock_that_is_behind(
    archive: Archive, ended: list[Run]
) -> None:
    first, last = map(_end, ended)
    slow = first + A_MOMENT - AN_HOUR
    with archive.writing():
        done = await export(NOBODY, archive, "b1", lambda: slow)
    assert done.written == 2
    assert done.newest_end == last
    assert timedelta(seconds=done.clock_behind_seconds) == last - slow
    assert done.lag_seconds == pytest.approx((last - first).total_seconds()), (
        "the first waited for the second"
    )
    assert f"the clock here is {done.clock_behind_seconds:.1f} s behind" in str(done)


async def test_a_clock_that_is_right_or_ahead_is_not_taken_for_one_that_is_behind(
    archive: Archive, ended: list[Run]
) -> None:
    first, last = map(_end, ended)
    with archive.writing():
        done = await export(NOBODY, archive, "b1", lambda: last + A_MOMENT, clock_behind_seconds=5.0)
    assert done.clock_behind_seconds == 0
    assert timedelta(seconds=done.lag_seconds) == last - first + A_MOMENT


async def test_a_pass_that_archives_no_end_knows_of_the_clock_what_the_one_before_knew(
    archive: Archive, ended: list[Run]
) -> None:
    with archive.writing():
        for run in ended:
            archive.add(run, _end(run), "b1")
        done = await export(NOBODY, archive, "b1", lambda: _end(ended[0]), clock_behind_seconds=5.0)
    assert (done.written, done.lag_seconds, done.clock_behind_seconds) == (0, 0.0, 5.0)


async def test_a_clock_that_was_put_back_holds_up_neither_the_next_pass_nor_what_is_running(
    archive: Archive, ended: list[Run], asked: list[str]
) -> None:
    """By it the last pass has yet to come, and so has the last look at what is running."""
    ahead, right = _end(ended[-1]) + AN_HOUR, _end(ended[-1]) + A_MOMENT
    clock = [ahead]
    passes = follow(
        NOBODY,
        archive,
        "b1",
        lambda: clock[0],
        None,
        timedelta(milliseconds=50),
        timedelta(minutes=5),
        Reached(),
    )
    with archive.writing():
        await anext(passes)
        clock[0] = right
        async with asyncio.timeout(10):
            await anext(passes)
            await anext(passes)
    assert [_asks_for_what_runs(query) for query in asked] == [True, True, False]


async def test_after_a_clock_was_put_back_the_lag_of_an_export_that_hangs_grows_from_there(
    archive: Archive, ended: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, right = _end(ended[-1]) + AN_HOUR, _end(ended[-1]) + A_MOMENT
    clock, reached = [ahead], Reached()
    passes = follow(
        NOBODY, archive, "b1", lambda: clock[0], None, timedelta(milliseconds=50), AN_HOUR, reached
    )
    with archive.writing():
        await anext(passes)
        monkeypatch.setattr(exporting, "listed", _away)
        for passed in (timedelta(0), AN_HOUR / 2):
            clock[0] = right + passed
            done = await anext(passes)
            assert done.trouble is not None
            assert timedelta(seconds=done.lag_seconds) == passed
            assert reached.lag_seconds(clock[0]) == done.lag_seconds


def _away(*_: Any) -> Any:
    raise RPCError("tcp connect error", RPCStatusCode.UNAVAILABLE, b"")


def _asks_for_what_runs(query: str) -> bool:
    return 'ExecutionStatus != "Running"' not in query
