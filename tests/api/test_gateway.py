"""The gateway against a real Temporal server: early answers, joined repeats, deadlines, closed workflows."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from api import gateway as module
from api.gateway import Accepted, Done, TemporalGateway, TemporalUnavailable, WorkflowGone
from corridor.domain.failure import Refusal, Refused
from corridor.domain.payment import Status
from tests.fakes.rows import payment_row
from workflows import names
from workflows.messages import CancelCommand, CaptureCommand, CommandDone, PaymentAnswer, PaymentStart


@workflow.defn(name=names.PAYMENT, sandboxed=False)
class ShortPayment:
    """Speaks the payment's protocol and does nothing: `slow` in the merchant's id makes it answer late."""

    @workflow.init
    def __init__(self, start: PaymentStart) -> None:
        self.start, self.done = start, False

    @workflow.run
    async def run(self, start: PaymentStart) -> PaymentAnswer:
        await workflow.wait_condition(lambda: self.done)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return PaymentAnswer(status=Status.CAPTURED, sequence=3)

    @workflow.update(name=names.ACCEPT)
    async def accept(self) -> PaymentAnswer:
        if "slow" in self.start.merchant_id:
            await workflow.wait_condition(lambda: self.done)
        return PaymentAnswer(status=Status.AUTHORIZED, sequence=2)

    @workflow.update(name=names.CAPTURE)
    async def capture(self, command: CaptureCommand) -> CommandDone:
        await workflow.wait_condition(lambda: self.done)
        return CommandDone(status=Status.CAPTURED, sequence=3)

    @capture.validator
    def _capture_is_possible(self, command: CaptureCommand) -> None:
        if "closed" in self.start.merchant_id:
            raise ApplicationError("not now", {"current_status": "failed"}, type=Refusal.STATE_CONFLICT)

    @workflow.update(name=names.CANCEL)
    async def cancel(self, command: CancelCommand) -> CommandDone:
        self.done = True
        return CommandDone(status=Status.CAPTURED, sequence=3, refused="state_conflict", detail="too late")


@dataclass
class Live:
    client: Client
    gateway: TemporalGateway

    def row(self, merchant_id: str = "mer_1") -> Any:
        return payment_row(
            id=f"pay_{os.urandom(8).hex()}", merchant_id=merchant_id, merchant_reference="order-7781"
        )

    async def command(self, row: Any, update: str, key: str, seconds: float = 5.0) -> Done | Accepted:
        argument = CaptureCommand() if update == names.CAPTURE else CancelCommand()
        return await self.gateway.command(f"payment-{row.id}", update, key, argument, seconds)


@pytest_asyncio.fixture(loop_scope="session")
async def live(temporal_env: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch) -> Live:
    """A queue of its own, so that no other test's worker answers."""
    queue = f"gateway-{os.urandom(6).hex()}"
    monkeypatch.setattr(module, "_ONCE", {**module._ONCE, "task_queue": queue})
    return Live(temporal_env.client, TemporalGateway(temporal_env.client))


@asynccontextmanager
async def working(live: Live) -> AsyncIterator[None]:
    async with Worker(live.client, task_queue=module._ONCE["task_queue"], workflows=[ShortPayment]):
        yield


async def test_payment_is_started_once_and_answered_early(live: Live) -> None:
    row = live.row()
    async with working(live):
        answers = await asyncio.gather(*(live.gateway.start_payment(row, 10) for _ in range(4)))
    assert [answer and answer.status for answer in answers] == [Status.AUTHORIZED] * 4
    described = await live.client.get_workflow_handle(f"payment-{row.id}").describe()
    assert described.typed_search_attributes[names.MERCHANT] == "mer_1"
    assert described.typed_search_attributes[names.AMOUNT] == 10_000
    assert await described.static_summary() == "100.00 EUR → CNY · DE→CN · order-7781"


async def test_no_worker_means_no_answer_but_a_started_payment(live: Live) -> None:
    row = live.row()
    assert await live.gateway.start_payment(row, 0.5) is None
    async with working(live):
        again = await live.gateway.start_payment(row, 10)
    assert again is not None and again.status is Status.AUTHORIZED


async def test_a_payment_that_ran_before_is_joined_and_never_begun_again(live: Live) -> None:
    """Temporal's store was lost: only a resume looks at what the lost workflow has sent."""
    row = live.row()
    ran = payment_row(**{**vars(row), "workflow_started_at": row.created_at})
    async with working(live):
        assert await live.gateway.start_payment(ran, 5) is None
        with pytest.raises(RPCError) as unknown:
            await live.client.get_workflow_handle(f"payment-{row.id}").describe()
        assert unknown.value.status is RPCStatusCode.NOT_FOUND
        await live.gateway.start_payment(row, 10)
        again = await live.gateway.start_payment(ran, 10)
    assert again is not None and again.status is Status.AUTHORIZED


async def test_late_answer_is_none_after_the_deadline(live: Live) -> None:
    async with working(live):
        assert await live.gateway.start_payment(live.row("mer_slow"), 1) is None


async def test_command_accepted_but_not_done_in_time_is_told_apart(live: Live) -> None:
    row = live.row()
    async with working(live):
        await live.gateway.start_payment(row, 10)
        assert await live.command(row, names.CAPTURE, "c1", 5) == Accepted()
        assert await live.command(row, names.CANCEL, "x1") == Done("state_conflict", "too late")
        assert await live.command(row, names.CAPTURE, "c1") == Done(None, "")


async def test_validators_refusal_keeps_its_code_and_facts(live: Live) -> None:
    row = live.row("mer_closed")
    async with working(live):
        await live.gateway.start_payment(row, 10)
        with pytest.raises(Refused) as refused:
            await live.command(row, names.CAPTURE, "c1")
    assert refused.value.code is Refusal.STATE_CONFLICT
    assert (refused.value.detail, refused.value.facts) == ("not now", {"current_status": "failed"})


async def test_command_to_nobody_and_to_a_closed_workflow_is_gone(live: Live) -> None:
    row = live.row()
    with pytest.raises(WorkflowGone):
        await live.command(row, names.CANCEL, "x0")
    async with working(live):
        await live.gateway.start_payment(row, 10)
        await live.command(row, names.CANCEL, "x1")
        await live.client.get_workflow_handle(f"payment-{row.id}").result()
        with pytest.raises(WorkflowGone):
            await live.command(row, names.CAPTURE, "c9")
        answer = await live.gateway.start_payment(row, 5)
        assert answer is None or answer.status is Status.AUTHORIZED, "a closed payment is never started again"


async def test_command_without_a_worker_may_not_have_arrived(live: Live) -> None:
    row = live.row()
    await live.gateway.start_payment(row, 3)
    with pytest.raises(TemporalUnavailable):
        await live.command(row, names.CANCEL, "x1", 0.5)


@pytest.mark.parametrize(
    "status", [RPCStatusCode.UNKNOWN, RPCStatusCode.UNAVAILABLE, RPCStatusCode.RESOURCE_EXHAUSTED]
)
async def test_a_connection_that_breaks_under_a_command_may_have_delivered_it(
    live: Live, status: RPCStatusCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UNKNOWN is what the client library says of its own "transport error"."""

    async def break_off(*_: object, **__: object) -> None:
        raise RPCError("transport error", status, b"")

    monkeypatch.setattr(WorkflowHandle, "start_update", break_off)
    with pytest.raises(TemporalUnavailable):
        await live.command(live.row(), names.CANCEL, "x1")


async def test_a_process_that_leaves_waits_for_nobody(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    is_accepted, result = asyncio.Event(), module._result

    async def noted(handle: Any, seconds: float) -> Any:
        is_accepted.set()
        return await result(handle, seconds)

    monkeypatch.setattr(module, "_result", noted)
    slow, taken = live.row("mer_slow"), live.row()
    async with working(live):
        await live.gateway.start_payment(taken, 10)
        waiting = [
            asyncio.ensure_future(live.gateway.start_payment(slow, 30)),
            asyncio.ensure_future(live.command(taken, names.CAPTURE, "c1", 30)),
        ]
        async with asyncio.timeout(20):
            await is_accepted.wait()
        live.gateway.leave()
        async with asyncio.timeout(8):
            assert await asyncio.gather(*waiting) == [None, Accepted()]


async def test_server_out_of_reach_is_said_before_anything_is_accepted(
    live: Live, unused_tcp_port: int
) -> None:
    client = await Client.connect(f"127.0.0.1:{unused_tcp_port}", lazy=True)
    away = TemporalGateway(client)
    with pytest.raises(TemporalUnavailable):
        await away.require_available()
    await live.gateway.require_available()
