"""Exporting from a real server: what is new or grew, once; continuously, with the lag; and a rebuild from it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionAsyncIterator, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from corridor.storage.database import Database
from corridor.storage.sealing import Sealer
from tests.workflows.world import World, now
from workers.histories.archive import Archive
from workers.histories.export import Pass, Reached, export, follow
from workers.rebuild import rebuild
from workers.rebuild.fold import Books
from workers.rebuild.rebuild import Rebuilt
from workers.rebuild.shelf import Shelf

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def archive(here: World, tmp_path: Path) -> Archive:
    sealer = here.wired.sealer
    return Archive(tmp_path / "archive", Sealer(sealer.current, sealer.keys), here.client.namespace)


def _of(archive: Archive, *ids: str) -> list[tuple[str, str]]:
    return [(line.object_id, line.status) for line in archive.lines() if line.object_id in ids]


async def test_export_adds_what_is_new_and_what_grew(here: World, archive: Archive) -> None:
    """Others' runs on the shared server are archived too and do not matter."""
    began = now()
    declined = (await here.pay("pm_card_visa_chargeDeclined")).id
    waits = (await here.authorize()).id
    with archive.writing():
        await _until_archived(here, archive, began, declined, waits)
        await export(here.client, archive, "b1", now, began)
    assert sorted(_of(archive, declined, waits)) == sorted([(declined, "completed"), (waits, "running")])
    await here.capture(waits)
    with archive.writing():
        grown = await export(here.client, archive, "b1", now, began)
    assert grown.written >= 1
    assert grown.head == list(archive.lines())[-1].hash
    assert _of(archive, declined) == [(declined, "completed")]
    assert _of(archive, waits) == [(waits, "running")] * 2
    grew = Counter((line.run_id, line.events) for line in archive.lines())
    assert set(grew.values()) == {1}, "a run is archived again only where it has more events"
    assert archive.verify().holds


async def test_an_export_outlives_a_server_that_goes_away_in_the_middle(
    here: World, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question it asks is refused once; begun anew each time, it would never come to its end."""
    began = now()
    waits = (await here.authorize()).id
    with archive.writing():
        await _until_archived(here, archive, began, waits)
        for of, question in (
            (WorkflowExecutionAsyncIterator, "fetch_next_page"),
            (WorkflowHandle, "fetch_history"),
            (WorkflowHandle, "describe"),
        ):
            monkeypatch.setattr(of, question, _away_at_first(getattr(of, question)))
        await here.capture(waits)
        await export(here.client, archive, "b1", now, began)
    assert len(_of(archive, waits)) == 2


def _away_at_first(question: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    refusals = [RPCError("tcp connect error", RPCStatusCode.UNAVAILABLE, b"")]

    async def asked(*args: Any, **kwargs: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return await question(*args, **kwargs)

    return asked


async def test_a_continuous_export_tells_its_lag(here: World, archive: Archive) -> None:
    payment = (await here.pay("pm_card_visa_chargeDeclined")).id
    reached, since = Reached(), now() - timedelta(minutes=1)
    assert reached.lag_seconds(now()) is None, "nothing is known before a first pass"
    passes = follow(here.client, archive, "b1", now, since, _A_MOMENT, timedelta(hours=1), reached)
    with archive.writing():
        lags = [done.lag_seconds async for done in _until(passes, lambda: bool(_of(archive, payment)))]
    assert 0 < lags[-1] < 120
    assert reached.at is not None
    assert reached.lag_seconds(reached.at + timedelta(minutes=3)) == 180
    (line,) = [line for line in archive.lines() if line.object_id == payment]
    assert reached.at <= datetime.fromisoformat(line.exported_at)
    waited = datetime.fromisoformat(line.exported_at) - datetime.fromisoformat(line.last_event_at)
    assert lags[-1] >= waited.total_seconds()


async def test_a_continuous_export_whose_clock_is_ahead_misses_no_end(here: World, archive: Archive) -> None:
    """What ended between two passes is asked for by the clock that says when it ended."""
    waits, since = (await here.authorize()).id, now() - timedelta(minutes=1)
    passes = follow(
        here.client,
        archive,
        "b1",
        lambda: now() + timedelta(hours=1),
        since,
        _A_MOMENT,
        timedelta(days=1),
        Reached(),
    )
    with archive.writing():
        # One more, so that the bound it looks back to is no longer the one it was given.
        await _until_archived(here, archive, since, waits)
        first = await anext(passes)
        assert first.seen >= 1
        await anext(passes)
        await here.cancel(waits)
        async with asyncio.timeout(30):
            async for _ in passes:
                if (waits, "completed") in _of(archive, waits):
                    break
    assert archive.verify().holds


async def test_the_books_are_rebuilt_from_an_archive(here: World, archive: Archive, tmp_path: Path) -> None:
    began = now()
    payment = (await here.pay()).id
    refund = (await here.refund(payment, 1_000)).id
    with archive.writing():
        await _until_archived(here, archive, began, payment, refund)
    rebuilt = Rebuilt(Books())
    await rebuild.fold(archive.runs(began), here.client.data_converter, rebuilt)
    assert {f"{payment}:sale:1", f"{refund}:reserve", f"{refund}:refund:1"} <= set(rebuilt.books.postings)
    told = rebuilt.books
    mine = Books(
        payments=Shelf({payment: told.payments[payment]}),
        refunds=Shelf({refund: told.refunds[refund]}),
        postings=Shelf({key: it for key, it in told.postings.items() if key.startswith((payment, refund))}),
        effects=Shelf({key: it for key, it in told.effects.items() if it.payment_id == payment}),
        fates=Shelf({key: it for key, it in told.fates.items() if key.startswith((payment, refund))}),
    )
    found = Rebuilt(mine)
    target = Database(f"sqlite:///{tmp_path / 'rebuilt.db'}")
    try:
        await rebuild.write(found, target, here.wired.edge.providers)
        await rebuild.beside_live(found, target, here.database)
        with pytest.raises(rebuild.NotFresh):
            await rebuild.write(found, target, here.wired.edge.providers)
    finally:
        await target.close()
    assert found.comparison is not None
    assert [str(it) for table in found.comparison.tables for it in table.differences] == []
    assert found.holds


_A_MOMENT = timedelta(milliseconds=200)


async def _until(passes: AsyncIterator[Pass], enough: Callable[[], bool]) -> AsyncIterator[Pass]:
    async for done in passes:
        yield done
        if enough():
            return


async def _until_archived(here: World, archive: Archive, began: datetime, *ids: str) -> None:
    """The server's list of runs lags behind, so one export may come too early."""
    while not set(ids) <= {line.object_id for line in archive.lines()}:
        await export(here.client, archive, "b1", now, began)
