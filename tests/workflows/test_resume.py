"""Temporal is lost, the database is not: every payment goes on from its rows, and no money moves twice."""

import asyncio

import pytest

from corridor.ledger import proof
from tests.workflows.world import World
from workers.resume import Resumed, resume_all
from workflows import names
from workflows.messages import CancelCommand, CaptureCommand
from workflows.starts import payment_start

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def lose_and_resume(here: World, payment_id: str) -> Resumed:
    """Terminate runs no workflow code: to the payment it is the same as a lost server."""
    await here.handle(payment_id).terminate("the server was lost")
    return await resume_all(here.database, here.client, here.wired.edge.providers, here.windows)


async def captures(here: World, payment_id: str) -> list[int]:
    return [amount for effect, amount in await here.moved(payment_id) if effect == "capture"]


async def test_an_authorised_payment_is_captured_by_its_resumed_workflow(here: World) -> None:
    payment = await here.authorize()
    assert payment.status == "authorized"
    assert (await lose_and_resume(here, payment.id)).started == (payment.id,)
    done = await here.handle(payment.id).execute_update("capture", CaptureCommand())
    assert done["status"] == "captured"
    assert await captures(here, payment.id) == [10_000]


async def test_an_authorised_payment_is_canceled_by_its_resumed_workflow(here: World) -> None:
    payment = await here.authorize()
    await lose_and_resume(here, payment.id)
    await here.handle(payment.id).execute_update("cancel", CancelCommand())
    assert (await here.payment(payment.id)).status == "canceled"
    assert "cancel" in [effect for effect, _ in await here.moved(payment.id)]


async def test_a_captured_payment_that_lost_its_settlement_signal_settles_after_resume(here: World) -> None:
    payment = await here.pay()
    await lose_and_resume(here, payment.id)
    await here.settle()
    await here.until(payment.id, "settled")
    assert (await here.database.read(proof.verify)).holds


async def test_a_challenge_completed_while_the_server_was_lost_is_found(here: World) -> None:
    payment = await here.pay("pm_card_authenticationRequired")
    assert payment.status == "requires_action"
    await here.handle(payment.id).terminate("the server was lost")
    await here.control.post(f"/stripe/3ds/{payment.provider_reference}/complete")
    await resume_all(here.database, here.client, here.wired.edge.providers, here.windows)
    await here.until(payment.id, "captured")
    assert await captures(here, payment.id) == [10_000]


async def test_a_sale_whose_outcome_was_lost_with_the_server_is_found_and_not_sent_again(here: World) -> None:
    # The effect happens at once and its answer is held back, so the loss falls between effect and record.
    payment_id = await here.accept("pm_card_visa_sandbox_timeoutAfterEffect")
    row = await here.payment(payment_id)
    await here.client.start_workflow(
        names.PAYMENT,
        payment_start(row, here.windows),
        id=names.payment_workflow_id(payment_id),
        task_queue=names.CORE_QUEUE,
    )
    async with asyncio.timeout(10):
        while not await captures(here, payment_id):
            await asyncio.sleep(0.05)
    assert (await lose_and_resume(here, payment_id)).started == (payment_id,)
    await here.until(payment_id, "captured")
    assert await captures(here, payment_id) == [10_000]
    assert (await here.effects(payment_id)) == [("sale:1", "approved")]


async def test_a_payment_that_still_runs_is_left_alone(here: World) -> None:
    payment = await here.authorize()
    resumed = await resume_all(here.database, here.client, here.wired.edge.providers, here.windows)
    assert (resumed.started, resumed.running) == ((), (payment.id,))
