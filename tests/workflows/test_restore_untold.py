"""A capture whose worker was killed before it told, a refund of it, and a database that comes back older than both."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import WorkflowUpdateFailedError

from corridor.storage import refunds
from tests.workflows.earlier import check, copy_of, put_back
from tests.workflows.killed import kill_after
from tests.workflows.lost import resumed
from tests.workflows.world import World, now
from workers.restore.gaps import GapKind

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_capture_that_only_its_refund_tells_of_is_asked_of_the_provider(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker that recorded the capture was killed before it told; the database that knew it is lost."""
    begun = now().isoformat()
    async with _captured_untold(here, tmp_path, monkeypatch) as (payment_id, before):
        refund = await here.refund(payment_id, 1_000)
        put_back(before, here.database.url)
        found = await check(here, here.wired.edge, begun, is_repair=True)
        assert (found.left, found.stopped) == ([], []), list(map(str, found.left))
        again = await here.database.read(refunds.load, refund.id)
        assert (again.status, again.updated_at) == ("succeeded", refund.updated_at)
    assert (await here.payment(payment_id)).status == "captured"


async def test_a_refund_whose_payment_is_not_known_to_be_captured_waits_for_that(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the provider answer while the database is repaired; refused, the refund would be paid back untold."""
    begun = now().isoformat()
    await here.plant("timeout_after_effect", "refunds.create")
    async with _captured_untold(here, tmp_path, monkeypatch) as (payment_id, before):
        refund_id = await here.accept_refund(payment_id, 1_000)
        first = asyncio.create_task(here.start_refund(refund_id))
        async with asyncio.timeout(20):
            while ("refund", 1_000) not in await here.moved(payment_id):
                await asyncio.sleep(0.1)
        for operation in ("list", "retrieve"):
            await here.plant("status", f"payment_intents.{operation}", times=1000, status=503)
        put_back(before, here.database.url)
        found = await check(here, here.wired.edge, begun, is_repair=True)
        assert [gap.kind for gap in found.left if gap.object_id == payment_id] == [GapKind.UNDER_WAY]
        assert found.stopped == [f"refund-{refund_id}"]
        with pytest.raises(WorkflowUpdateFailedError):
            await first
        assert (await resumed(here)).started == (refund_id,)
        await asyncio.sleep(1)
        assert (await here.database.read(refunds.load, refund_id)).status == "processing"
        await here.heal()
    await here.until_refund(refund_id, "succeeded")
    assert [effect for effect, _ in await here.moved(payment_id)].count("refund") == 1


@contextlib.asynccontextmanager
async def _captured_untold(
    here: World, directory: Path, patch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[str, Path]]:
    """A captured payment, and a copy of the database from before; the call that captured it tells at the end only."""
    has_committed, may_tell = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        has_committed.set()
        await may_tell.wait()

    await here.plant("latency", milliseconds=1_000)
    payment_id = await here.accept()
    kill_after(here, patch, "record_answer", wait)
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    before = copy_of(here.database.url, directory / "before.db")
    await has_committed.wait()
    yield payment_id, before
    may_tell.set()
    await starting
