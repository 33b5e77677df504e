"""What Temporal's loss leaves behind in the database, and the resume after it."""

from typing import Any

import pytest
from sqlalchemy import Connection
from temporalio.client import WorkflowHandle, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from activities.contracts import DeclareIn, EffectPlan
from activities.payment_steps import PaymentSteps
from corridor.domain.effect import Operation
from corridor.domain.payment import Status, StatusReason
from corridor.storage import payments
from tests.workflows.world import World, now
from workers.resume import Resumed, resume_all


async def resumed(here: World) -> Resumed:
    """What `corridor resume` does."""
    return await resume_all(here.database, here.client, here.wired.edge.providers, here.windows, now())


async def declare(here: World, payment_id: str, operation: Operation) -> EffectPlan:
    """The first step of a command whose workflow is lost before the next one."""
    wanted = DeclareIn(payment_id=payment_id, object_id=payment_id, operation=operation, number=1)
    return (await ActivityEnvironment().run(PaymentSteps(here.wired.edge).declare, wanted)).plan


def expire(patch: pytest.MonkeyPatch, run_id: str) -> None:
    """Retention removes this run as soon as it has been listed."""
    fetch = WorkflowHandle.fetch_history

    async def fetch_what_is_left(handle: Any, **options: Any) -> WorkflowHistory:
        if handle.run_id == run_id:
            raise RPCError("workflow execution not found", RPCStatusCode.NOT_FOUND, b"")
        return await fetch(handle, **options)

    patch.setattr(WorkflowHandle, "fetch_history", fetch_what_is_left)


def leave_the_undo_stuck(connection: Connection, payment_id: str) -> None:
    """As a decided review leaves it: the payment waits, and no question is open."""
    payments.move(
        connection,
        payments.lock(connection, payment_id),
        "payment.requires_review",
        now(),
        to=Status.REQUIRES_REVIEW,
        reason=StatusReason.COMPENSATION_STUCK,
    )
