"""A step commits, its worker is killed before any history learns of it, and others follow: the repeat tells of it."""

from pathlib import Path
from typing import Any

import pytest

from corridor.domain.money import Money
from tests.workflows.killed import find_no_rate, kill_after
from tests.workflows.told import told_since
from tests.workflows.world import World, now

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_decision_and_the_failure_after_it_in_one_workflow_task(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Local steps of one workflow task reach the history together: a worker killed in the second told of neither."""
    began = now()
    payment = await here.pay(amount=Money(600_000, "EUR"))

    async def no_rate_is_to_be_had() -> None:
        await here.database.write(find_no_rate, payment.id)

    kill_after(here, monkeypatch, "_decide", no_rate_is_to_be_had)
    await here.decide(payment.id, "approve")
    await here.until(payment.id, "failed")
    await _histories_tell_everything(here, tmp_path, began, payment.id)


async def test_a_capture_that_was_refunded_before_its_step_could_tell(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows say that it is captured, and that is what a refund goes by."""
    began = now()
    payment_id = await here.accept()

    async def the_buyer_returns_a_part() -> None:
        await here.refund(payment_id, 1_000)

    kill_after(here, monkeypatch, "record_answer", the_buyer_returns_a_part)
    await here.start(payment_id)
    await here.until(payment_id, "captured")
    await _histories_tell_everything(here, tmp_path, began, payment_id)


async def test_a_settlement_that_was_followed_by_a_refund_before_its_step_could_tell(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = now()
    payment = await here.pay()

    async def the_buyer_returns_a_part() -> None:
        await here.refund(payment.id, 1_000)

    kill_after(here, monkeypatch, "_settle", the_buyer_returns_a_part)
    await here.settle()
    await here.until(payment.id, "settled")
    await _histories_tell_everything(here, tmp_path, began, payment.id)


async def _histories_tell_everything(here: World, directory: Path, began: Any, payment_id: str) -> None:
    told = await told_since(here, directory, began)
    found = await told.compared()
    assert told.rebuilt.problems == []
    assert [str(difference) for table in found.tables for difference in table.differences] == []
    assert any(carried.former for carried in (told.rebuilt.books.payments[payment_id],)), (
        "nothing was told again"
    )
    assert told.rebuilt.holds
