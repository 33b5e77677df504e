"""Temporal is lost, the database is not: every payment goes on from its rows, and no money moves twice."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select, update
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

import workers.resume
from activities import recording
from activities.contracts import DecideReviewIn, DeclareIn, ExecuteIn, RefundIn
from activities.payment_steps import PaymentSteps
from activities.provider_steps import ProviderSteps
from activities.refund_steps import RefundSteps
from activities.review_steps import ReviewSteps
from corridor.domain.effect import Operation
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.outcome import Evidence, Outcome, ProviderAnswer
from corridor.ledger import proof
from corridor.runtime import patience
from corridor.storage import effects, refunds, webhook_deliveries, webhook_endpoints
from corridor.storage.tables import effects as effect_table
from corridor.storage.tables import events
from tests.fakes.temporal import attempt
from tests.workflows.lost import declare, leave_the_undo_stuck, resumed
from tests.workflows.world import World, now
from workers.resume import Resumed, resume_all, resume_of
from workflows import names
from workflows.messages import CancelCommand, CaptureCommand, DeliveryStart
from workflows.starts import payment_start

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def lose_and_resume(here: World, payment_id: str) -> Resumed:
    """Terminate runs no workflow code: to the payment it is the same as a lost server."""
    await here.handle(payment_id).terminate("the server was lost")
    return await resumed(here)


def _undelivered_webhook(connection: Connection, merchant_id: str, payment_id: str) -> str:
    """A delivery whose workflow was started, to an endpoint where nobody listens."""
    webhook_endpoints.create(
        connection,
        endpoint_id=new_id(Prefix.WEBHOOK_ENDPOINT, now()),
        merchant_id=merchant_id,
        url="https://127.0.0.1:1/",
        event_types=[],
        secret_sealed=b"",
        now=now(),
    )
    event = connection.execute(select(events).where(events.c.object_id == payment_id)).first()
    assert event is not None
    (delivery_id,) = webhook_deliveries.create_for_event(connection, event.id, merchant_id, event.type, now())
    webhook_deliveries.mark_started(connection, [delivery_id], now())
    return delivery_id


async def _lost_while_undoing(here: World, payment_id: str, *, carried_out: bool) -> None:
    """A cancel got as far as its declared void, or as the provider; then Temporal was gone."""
    await here.handle(payment_id).terminate("the server was lost")
    plan = await declare(here, payment_id, Operation.VOID)
    if carried_out:
        effect = await here.database.read(effects.get, plan.effect_key)
        await here.stripe.send(effect.key, Operation.VOID, effects.request(effect))


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("status", ["requires_action", "authorized"])
async def test_an_undo_that_was_lost_on_its_way_is_carried_to_its_end(
    here: World, status: str, carried_out: bool
) -> None:
    """To look at the sale alone would take the provider's "canceled" for a decline."""
    paid = here.pay("pm_card_threeDSecure2Required") if status == "requires_action" else here.authorize()
    payment = await paid
    assert payment.status == status
    await _lost_while_undoing(here, payment.id, carried_out=carried_out)
    await resumed(here)
    payment = await here.until(payment.id, "canceled", seconds=20)
    assert payment.status_reason == "canceled_by_merchant"
    assert ("void:1", "approved") in await here.effects(payment.id)
    released = [effect for effect, _ in await here.moved(payment.id)].count("cancel")
    assert released == (1 if status == "authorized" else 0)  # before its challenge nothing was held


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
    await resumed(here)
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


async def test_a_webhook_whose_delivery_was_under_way_is_delivered_after_resume(here: World) -> None:
    payment = await here.pay()
    delivery_id = await here.database.write(_undelivered_webhook, here.merchant_id, payment.id)
    await here.client.start_workflow(
        names.WEBHOOK_DELIVERY,
        DeliveryStart(delivery_id=delivery_id),
        id=names.delivery_workflow_id(delivery_id),
        task_queue=names.CORE_QUEUE,
    )
    handle = here.client.get_workflow_handle(names.delivery_workflow_id(delivery_id))
    assert delivery_id in (await resumed(here)).running
    await handle.terminate("the server was lost")
    assert delivery_id in (await resumed(here)).started
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    await handle.terminate("the test is over")


async def test_a_payment_that_still_runs_is_left_alone(here: World) -> None:
    payment = await here.authorize()
    found = await resumed(here)
    assert (found.started, found.running) == ((), (payment.id,))


async def test_orders_of_the_meantime_are_not_chased(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop sells one for each that is asked about; a page after page of new ones would never end."""
    payment = await here.authorize()
    await here.handle(payment.id).terminate("the server was lost")
    sold: list[str] = []
    last_run = workers.resume._last_run

    async def selling(client: Client, workflow_id: str) -> WorkflowExecutionStatus | None:
        sold.append(await here.accept())
        return await last_run(client, workflow_id)

    monkeypatch.setattr(workers.resume, "_last_run", selling)
    async with asyncio.timeout(20):
        found = await resume_all(
            here.database, here.client, here.wired.edge.providers, here.windows, now(), batch=1
        )
    assert found.started == (payment.id,)
    assert len(sold) == 1


async def test_a_server_that_goes_away_in_the_middle_is_waited_for(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await here.authorize()
    await here.handle(payment.id).terminate("the server was lost")
    refusals = [
        RPCError("tcp connect error", status, b"")
        for status in (RPCStatusCode.UNKNOWN, RPCStatusCode.UNAVAILABLE)
    ]
    last_run = workers.resume._last_run

    async def away_at_first(client: Client, workflow_id: str) -> WorkflowExecutionStatus | None:
        if refusals:
            raise refusals.pop()
        return await last_run(client, workflow_id)

    monkeypatch.setattr(workers.resume, "_last_run", away_at_first)
    assert (await resumed(here)).started == (payment.id,)
    monkeypatch.setattr(patience, "AWAY_SECONDS", -1.0)
    refusals.append(RPCError("tcp connect error", RPCStatusCode.UNAVAILABLE, b""))
    with pytest.raises(RPCError):
        await resumed(here)


async def test_a_refund_that_was_sent_under_a_second_key_is_found_under_it(here: World) -> None:
    """The first key was spent, the second was sent, and the workflow that knew was lost with the answer."""
    payment = await here.pay()
    refund_id = await here.accept_refund(payment.id, 2_000)
    wanted = RefundIn(refund_id=refund_id, payment_id=payment.id)
    reserve = RefundSteps(here.wired.edge).reserve
    first = (await ActivityEnvironment().run(reserve, wanted)).plan
    nothing = ProviderAnswer(outcome=Outcome.NOT_SENT, evidence=Evidence(seen_at=now()))
    deadlines = here.wired.edge.deadlines("stripe")
    await here.database.write(recording.record_answer, first.effect_key, nothing, now(), deadlines)
    again = DeclareIn(payment_id=payment.id, object_id=refund_id, operation=Operation.REFUND, number=2)
    second = (await ActivityEnvironment().run(PaymentSteps(here.wired.edge).declare, again)).plan
    bytes_of_it = effects.request(await here.database.read(effects.get, second.effect_key))
    await here.stripe.send(second.effect_key, Operation.REFUND, bytes_of_it)
    assert refund_id in (await resumed(here)).started
    async with asyncio.timeout(20):
        while (await here.database.read(refunds.load, refund_id)).status == "processing":
            await asyncio.sleep(0.1)
    assert (await here.database.read(refunds.load, refund_id)).status == "succeeded"
    assert [effect for effect, _ in await here.moved(payment.id)].count("refund") == 1


async def test_a_void_that_was_proven_before_the_loss_closes_its_payment(here: World) -> None:
    payment = await here.authorize()
    void = await declare(here, payment.id, Operation.VOID)
    await attempt().run(ProviderSteps(here.wired.edge).execute, ExecuteIn(effect_key=void.effect_key))
    assert (await here.payment(payment.id)).status == "authorized"
    await lose_and_resume(here, payment.id)
    await here.until(payment.id, "canceled")


async def test_which_attempt_is_the_newest_is_no_question_of_clocks(here: World) -> None:
    """The first was declared by a worker whose clock was a day ahead."""
    here.without_keys()
    await here.plant("reset_before_effect")
    payment = await here.pay()
    assert len(await here.effects(payment.id)) == 2
    await here.database.write(_declare_tomorrow, f"{payment.id}:sale:1")
    newest = await here.database.read(effects.newest, payment.id, payment.id, (Operation.SALE,))
    assert newest is not None
    assert newest.key == f"{payment.id}:sale:2"
    _, state = await here.database.write(resume_of, payment.id, here.wired.edge.providers, here.windows)
    assert state.plan.effect_key == f"{payment.id}:sale:2"


def _declare_tomorrow(connection: Connection, key: str) -> None:
    later = now() + timedelta(days=1)
    connection.execute(update(effect_table).where(effect_table.c.key == key).values(declared_at=later))


async def test_a_capture_that_was_asked_for_before_the_loss_is_made_after_it(here: World) -> None:
    payment = await here.authorize()
    await declare(here, payment.id, Operation.CAPTURE)
    await lose_and_resume(here, payment.id)
    await here.until(payment.id, "captured")
    assert await captures(here, payment.id) == [10_000]


async def test_a_stuck_undo_whose_review_was_decided_is_undone_after_resume(here: World) -> None:
    payment = await here.authorize()
    await here.handle(payment.id).terminate("the server was lost")
    await here.database.write(leave_the_undo_stuck, payment.id)
    await resumed(here)
    await here.hint(payment.id)
    await here.until(payment.id, "canceled", seconds=30)


async def test_an_approved_risk_review_is_not_asked_again_after_resume(here: World) -> None:
    payment = await here.pay(amount=Money(600_000, "EUR"))
    assert payment.status_reason == "risk_review"
    review = await here.review(payment.id)
    await here.handle(payment.id).terminate("the server was lost")
    approval = DecideReviewIn(review_id=review.id, decision="approve", decided_by="ana")
    await ActivityEnvironment().run(ReviewSteps(here.wired.edge).decide, approval)
    await resumed(here)
    payment = await here.until(payment.id, "captured", "requires_review", seconds=30)
    assert payment.status == "captured"


async def test_who_is_waited_for_is_resumed_first(here: World) -> None:
    older, newer = await here.pay(), await here.authorize()
    for payment in (older, newer):
        await here.handle(payment.id).terminate("the server was lost")
    found = await resumed(here)
    assert found.started == (newer.id, older.id)
    assert not found.running


async def test_of_what_waits_for_a_payout_only_those_that_are_not_listed_are_asked_about(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume asked the server about each of thousands of captured payments, and tried to start each of their refunds."""
    runs, lost = await here.pay(), await here.pay()
    refund = await here.refund(runs.id, 2_000)
    await here.handle(lost.id).terminate("the server was lost")
    running = f'ExecutionStatus = "Running" AND WorkflowId = "{names.refund_workflow_id(refund.id)}"'
    while not (await here.client.count_workflows(running)).count:
        await asyncio.sleep(0.1)
    asked = list[str]()
    last_run = workers.resume._last_run

    async def noted(client: Client, workflow_id: str) -> Any:
        asked.append(workflow_id)
        return await last_run(client, workflow_id)

    monkeypatch.setattr(workers.resume, "_last_run", noted)
    found = await resumed(here)
    assert asked == [names.payment_workflow_id(lost.id)]
    assert found.started == (lost.id,)
    assert len(found.running) == 2


async def test_a_list_that_is_behind_hides_nothing_that_was_lost(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await here.pay()
    await here.handle(payment.id).terminate("the server was lost")
    lists = iter([{names.payment_workflow_id(payment.id)}, set[str]()])

    async def behind(run: Any) -> set[str]:
        return next(lists)

    monkeypatch.setattr(workers.resume._Run, "listed_as_running", behind)
    assert (await resumed(here)).started == (payment.id,)


async def test_a_payment_that_ended_after_it_was_listed_is_not_started_again(here: World) -> None:
    payment = await here.authorize()
    await here.cancel(payment.id)
    found = await here.database.write(resume_of, payment.id, here.wired.edge.providers, here.windows)
    assert found is None


async def test_a_refund_that_comes_back_after_the_loss_is_heard_by_its_resumed_workflow(here: World) -> None:
    payment = await here.pay("pm_card_refundFail")
    refund = await here.refund(payment.id, 2_000)
    await here.refund_handle(refund.id).terminate("the server was lost")
    found = await resumed(here)
    assert found.started == (refund.id,)
    (await here.control.post("/control/clock", json={"advance_seconds": 5})).raise_for_status()
    await here.route_webhooks()
    async with asyncio.timeout(30):
        while (await here.database.read(refunds.load, refund.id)).status != "failed":
            await asyncio.sleep(0.1)


async def test_a_refund_that_can_no_longer_come_back_is_not_resumed(here: World) -> None:
    payment = await here.pay()
    refund = await here.refund(payment.id, 2_000)
    await here.refund_handle(refund.id).terminate("the server was lost")
    a_month_later = now() + timedelta(days=31)
    found = await resume_all(
        here.database, here.client, here.wired.edge.providers, here.windows, a_month_later
    )
    assert found.started == ()
