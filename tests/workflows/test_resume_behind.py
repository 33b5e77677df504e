"""The database came back older and nobody repaired it: what ended in the lost stretch is not begun a second time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update
from temporalio.client import ScheduleHandle

from api.cli import resume
from api.cli.exit_codes import ExitCode
from corridor.domain.payment import CaptureMethod
from corridor.runtime.keys import KeyRing
from corridor.storage import operator_acts
from corridor.storage.tables import refunds
from tests.workflows.earlier import copy_of, on
from tests.workflows.world import World, now
from workers.resume import Resumed, resume_all
from workflows import names

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def resumed_on(here: World, url: str) -> Resumed:
    """What `corridor resume` does beside a database that was put back."""
    async with on(here, url) as edge:
        return await resume_all(edge.database, here.client, edge.providers, here.windows, now())


async def accepted_and_copied(here: World, tmp_path: Path, token: str, **changes: Any) -> tuple[str, str]:
    """A payment nothing was done for yet, and a copy of the database as it is then."""
    payment_id = await here.accept(token, **changes)
    return payment_id, copy_of(here.database.url, tmp_path / "before.db")


async def test_a_payment_that_was_declined_since_is_not_started(here: World, tmp_path: Path) -> None:
    """Prepared anew, it would be sent anew: no row says that it was sent before."""
    payment_id, before = await accepted_and_copied(here, tmp_path, "pm_card_chargeDeclined")
    await here.start(payment_id)
    await here.handle(payment_id).result()
    assert await resumed_on(here, before) == Resumed((), (), (payment_id,))


async def test_a_payment_that_settled_since_is_not_started(here: World, tmp_path: Path) -> None:
    payment_id, before = await accepted_and_copied(here, tmp_path, "pm_card_visa")
    await here.start(payment_id)
    await here.settle()
    await here.handle(payment_id).result()
    assert await resumed_on(here, before) == Resumed((), (), (payment_id,))


async def test_a_payment_whose_run_was_cut_off_is_started(here: World, tmp_path: Path) -> None:
    """A terminated run is no end of the payment."""
    manual = CaptureMethod.MANUAL
    payment_id, before = await accepted_and_copied(here, tmp_path, "pm_card_visa", capture_method=manual)
    await here.start(payment_id)
    await here.handle(payment_id).terminate("the server was lost")
    assert await resumed_on(here, before) == Resumed((payment_id,), (), ())
    await here.handle(payment_id).terminate("the workers of this world have another database")


async def test_a_payment_that_ended_here_too_is_no_sign_of_an_older_database(here: World) -> None:
    payment = await here.pay("pm_card_chargeDeclined")
    await here.handle(payment.id).result()
    async with on(here, here.database.url) as edge:
        assert await resume_all(edge.database, here.client, edge.providers, here.windows, now()) == Resumed(
            (), (), ()
        )


async def test_a_refund_that_was_refused_since_is_not_started(here: World, tmp_path: Path) -> None:
    payment = await here.pay()
    refund_id = await here.accept_refund(payment.id, 10_001)
    before = copy_of(here.database.url, tmp_path / "before.db")
    await here.start_refund(refund_id)
    await here.refund_handle(refund_id).result()
    assert await resumed_on(here, before) == Resumed((), (payment.id,), (refund_id,))


async def test_a_refund_that_was_told_to_listen_no_longer_is_no_sign_of_an_older_database(
    here: World, tmp_path: Path
) -> None:
    payment = await here.pay()
    refund = await here.refund(payment.id, 2_000)
    await here.refund_handle(refund.id).cancel()
    await here.refund_handle(refund.id).result()
    found = await resumed_on(here, here.database.url)
    assert found == Resumed((refund.id,), (payment.id,), ())
    open_again = copy_of(here.database.url, tmp_path / "open.db")
    async with on(here, open_again) as edge:
        await edge.database.write(_open, refund.id)
    await here.refund_handle(refund.id).cancel()
    await here.refund_handle(refund.id).result()
    assert (await resumed_on(here, open_again)).behind == (refund.id,)


def _open(connection: Connection, refund_id: str) -> None:
    connection.execute(update(refunds).where(refunds.c.id == refund_id).values(status="processing"))


async def test_the_command_names_it_points_to_the_repair_and_fails(
    here: World, key_ring: KeyRing, imports: ScheduleHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    payment_id, before = await accepted_and_copied(here, tmp_path, "pm_card_chargeDeclined")
    await here.start(payment_id)
    ended = await here.handle(payment_id).describe()
    await here.handle(payment_id).result()
    monkeypatch.setenv("DATABASE_URL", before)
    _, _, port = here.client.service_client.config.target_host.rpartition(":")
    given = {"temporal_port": int(port), "encryption_keys": key_ring.render()}
    assert await asyncio.to_thread(resume.run, given, as_json=False) is ExitCode.FAILURE
    printed = capsys.readouterr()
    assert f"NEEDS YOU  {payment_id}" in printed.out
    assert "nothing of them was changed" in printed.err
    assert "corridor restore-check --repair" in printed.err
    newest = await here.client.get_workflow_handle(names.payment_workflow_id(payment_id)).describe()
    assert newest.run_id == ended.run_id
    async with on(here, before) as edge:
        (act,) = await edge.database.read(operator_acts.since, None)
        assert (act.outcome, act.result["not started"]) == ("failed: failure", 1)
