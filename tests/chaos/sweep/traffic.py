"""What a sweep lives on: orders of all kinds, commands, refunds, payouts, webhooks; and the good end of them all."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from corridor.domain.money import Money
from corridor.domain.payment import CaptureMethod, StatusReason
from corridor.storage import payments, refunds
from corridor.storage.tables import payments as payment_table
from corridor.storage.tables import refunds as refund_table
from corridor.storage.tables import reviews as review_table
from corridor.storage.tables import webhook_deliveries
from tests.workflows.books import prove
from tests.workflows.world import World
from workers.relay.starting import start_once
from workflows import names
from workflows.messages import CancelCommand, CaptureCommand, ReviewCommand
from workflows.starts import payment_start, refund_start

# For machines that are busy with other things; alone, each takes a tenth of this.
MET_WITHIN_SECONDS = 240
ENDS_WITHIN_SECONDS = 120
ROUNDS_PER_PAYOUT = 5
ANSWERED_WITHIN = timedelta(seconds=5)
"""A command whose worker has died is given again in the next round, as the same update."""
_AT_HOME = {"settle_currency": "EUR", "destination_country": "DE"}
"""Not converted: a quote that comes late on a crowded machine is another test's matter."""
_TO_CANCEL = Money(20_000, "EUR")
"""What a sweep cancels it knows by its amount; all else that is authorised it captures."""
_TO_REVIEW = Money(600_000, "EUR")
Orders = Sequence[tuple[str, Mapping[str, Any]]]
"""Tokens, and what is not as usual."""
SALES: Orders = (
    ("pm_card_visa", {}),
    ("pm_card_visa", {}),
    ("pm_card_threeDSecure2Required", {}),
)
TO_CAPTURE: Orders = (("pm_card_visa", {"capture_method": CaptureMethod.MANUAL}),)
TO_CANCEL: Orders = (("pm_card_visa", {"capture_method": CaptureMethod.MANUAL, "amount": _TO_CANCEL}),)
TO_DECIDE: Orders = (("pm_card_visa", {"amount": _TO_REVIEW}),)
TO_COMMAND: Orders = (*TO_CAPTURE, *TO_CANCEL, *TO_DECIDE)


async def until_met(here: World, left: Callable[[], Sequence[str]], orders: Orders = SALES) -> None:
    """Round after round until none of the points is left to be met."""
    try:
        async with asyncio.timeout(MET_WITHIN_SECONDS):
            for number in itertools.count():
                if not left():
                    return
                await go_round(here, number, orders)
                await asyncio.sleep(1)
    except TimeoutError:
        pytest.fail(f"not met in {MET_WITHIN_SECONDS} s: {', '.join(left())}")


async def wait_for_commands(here: World, orders: Orders) -> None:
    """These orders, up to where each waits for a command."""
    for token, changes in orders:
        await _start_payment(here, await here.accept(token, **_AT_HOME, **changes))
    while await here.database.read(_payments_in, "processing"):
        await asyncio.sleep(0.1)


async def go_round(here: World, number: int, orders: Orders = SALES) -> None:
    """Orders, answers to challenges, commands, refunds, webhooks; and in some rounds a payout.

    A payout's report wakes every payment in it. In each round it would come before the webhooks, which wait a moment
    for the answer they usually follow, and there would be nobody left whom a webhook has to wake.
    """
    for token, changes in orders:
        payment_id = await here.accept(token, **_AT_HOME, **changes)
        await _start_payment(here, payment_id)
    await complete_challenges(here)
    await give_commands(here)
    for payment in await here.database.read(_payments_in, "captured"):
        if not await here.database.read(_refunds_of, payment.id):
            await _start_refund(here, await here.accept_refund(payment.id, 1_000))
    await here.store_webhooks()
    if number % ROUNDS_PER_PAYOUT == 0:
        await _start_import(here)


async def everything_ends(here: World) -> None:
    """Every payment is settled, every refund succeeded, every merchant told, and the books agree."""
    async with asyncio.timeout(ENDS_WITHIN_SECONDS):
        while left := await here.database.read(_unfinished):
            await complete_challenges(here)
            await give_commands(here)
            await here.store_webhooks()
            await _start_import(here)
            await asyncio.sleep(1)
            assert "failed" not in left, left
    await prove(here)


async def complete_challenges(here: World) -> None:
    """Every buyer who was asked to says yes."""
    for payment in await here.database.read(_payments_in, "requires_action"):
        await here.control.post(f"/stripe/3ds/{payment.provider_reference}/complete")


async def give_commands(here: World) -> None:
    """Whatever is authorised is captured or canceled, and a person approves what risk asks about; all at once."""
    held = await here.database.read(_payments_in, "authorized")
    asked = await here.database.read(_open_reviews)
    async with asyncio.TaskGroup() as group:
        for payment in held:
            if payment.amount_minor == _TO_CANCEL.minor:
                group.create_task(_give(here, payment.id, names.CANCEL, CancelCommand(), "cancel"))
            else:
                group.create_task(_give(here, payment.id, names.CAPTURE, CaptureCommand(), "capture"))
        for review in asked:
            decision = ReviewCommand(review_id=review.id, decision="approve", decided_by="ana", note="seen")
            group.create_task(_give(here, review.payment_id, names.DECIDE_REVIEW, decision, review.id))


async def _give(here: World, payment_id: str, update: str, command: Any, update_id: str) -> None:
    """No answer in time, one from a workflow that has ended meanwhile, or from one that does not know of its review yet,

    whose row a killed worker has written: the next look at the rows tells.
    """
    unanswered = (WorkflowUpdateRPCTimeoutOrCancelledError, WorkflowUpdateFailedError, RPCError)
    with contextlib.suppress(*unanswered):
        await here.handle(payment_id).execute_update(
            update, command, id=update_id, rpc_timeout=ANSWERED_WITHIN
        )


def accepted(connection: Connection) -> int:
    """How many payments there are."""
    return int(connection.execute(select(func.count()).select_from(payment_table)).scalar_one())


async def _start_payment(here: World, payment_id: str) -> None:
    row = await here.database.read(payments.load, payment_id)
    await _start(here, names.PAYMENT, payment_start(row, here.windows), names.payment_workflow_id(row.id))


async def _start_refund(here: World, refund_id: str) -> None:
    row = await here.database.read(refunds.load, refund_id)
    await _start(here, names.REFUND, refund_start(row), names.refund_workflow_id(row.id))


async def _start_import(here: World) -> None:
    (await here.control.post("/control/settle")).raise_for_status()
    number = await here.database.read(_count)
    await _start(here, names.SETTLEMENT, {"provider": "stripe"}, f"settlement-{number}-{here.merchant_id}")


async def _start(here: World, workflow: str, argument: Any, workflow_id: str) -> None:
    """Once; where the server is too slow to say so, the relay starts what was accepted, and imports come again."""
    try:
        await start_once(here.client, workflow, argument, workflow_id=workflow_id, summary="chaos")
    except RPCError as error:
        if error.status not in (RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED):
            raise


def _payments_in(connection: Connection, status: str) -> Sequence[Any]:
    return connection.execute(select(payment_table).where(payment_table.c.status == status)).all()


def _open_reviews(connection: Connection) -> Sequence[Any]:
    waiting = (review_table.c.status == "open", review_table.c.reason == StatusReason.RISK_REVIEW)
    return connection.execute(select(review_table).where(*waiting)).all()


def _refunds_of(connection: Connection, payment_id: str) -> Sequence[Any]:
    return connection.execute(select(refund_table.c.id).where(refund_table.c.payment_id == payment_id)).all()


def _count(connection: Connection) -> int:
    """A number that grows with everything that happens: imports get workflow ids of their own."""
    return sum(row.sequence for row in connection.execute(select(payment_table.c.sequence)))


def _unfinished(connection: Connection) -> list[str]:
    """Statuses that are not yet the good end."""
    tables = (
        (payment_table, ("settled", "canceled")),
        (refund_table, ("succeeded",)),
        (webhook_deliveries, ("delivered",)),
    )
    return [
        row.status
        for table, ends in tables
        for row in connection.execute(select(table.c.status).where(table.c.status.not_in(ends)))
    ]
