"""Resume: rebuild what a payment's lost workflow knew from the database, and start it again from there.

The workflow looks every unresolved effect up before it does anything new, so a resume moves no money twice. Its id
is the payment's, so one that still runs is left alone.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Table, select
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities import plans
from activities.contracts import EffectPlan
from corridor.domain.effect import EffectState, Operation
from corridor.domain.payment import RefundStatus, Status, StatusReason
from corridor.providers.registry import Registry
from corridor.storage import effects, reviews, settlement
from corridor.storage.database import Database
from corridor.storage.tables import payments, refunds
from workflows import names, starts
from workflows.messages import Resume
from workflows.starts import Windows

OPEN_PAYMENTS = tuple(status for status in Status if not status.is_terminal)
OPEN_REFUNDS = (RefundStatus.PROCESSING, RefundStatus.REQUIRES_REVIEW)
_COLLECTING = (Operation.AUTHORISE, Operation.SALE, Operation.CAPTURE)


@dataclass(frozen=True)
class Resumed:
    """Ids of workflows started again, and of those that were still running and left alone."""

    started: tuple[str, ...]
    running: tuple[str, ...]


async def resume_all(
    database: Database, client: Client, providers: Registry, windows: Windows, batch: int = 500
) -> Resumed:
    """Start every payment and refund that is not terminal and has no running workflow."""
    started: list[str] = []
    running: list[str] = []
    async for row in _pages(database, payments, OPEN_PAYMENTS, batch):
        state = await database.write(resume_of, row, providers, windows)
        (started if await _start_payment(client, row, state, windows) else running).append(row.id)
    async for row in _pages(database, refunds, OPEN_REFUNDS, batch):
        (started if await _start_refund(client, row) else running).append(row.id)
    return Resumed(tuple(started), tuple(running))


async def _pages(database: Database, table: Table, statuses: Sequence[str], batch: int) -> AsyncIterator[Any]:
    """Every open row in the order of its id, a page at a time."""
    after = ""
    while rows := await database.read(_open, table, statuses, after, batch):
        for row in rows:
            yield row
        after = rows[-1].id


def _open(connection: Connection, table: Table, statuses: Sequence[str], after: str, limit: int) -> list[Any]:
    query = (
        select(table)
        .where(table.c.status.in_(statuses), table.c.id > after)
        .order_by(table.c.id)
        .limit(limit)
    )
    return list(connection.execute(query).all())


def resume_of(connection: Connection, row: Any, providers: Registry, windows: Windows) -> Resume:
    """The last durable business state of a payment. Settlement rows it was told of are told again."""
    made = effects.of_payment(connection, row.id)
    own = [effect for effect in made if effect.object_id == row.id]
    review = next(iter(reviews.open_for(connection, row.id)), None)
    settlement.tell_again(connection, row.id)
    plan = _deciding_plan(own, providers)
    challenged = row.status == Status.REQUIRES_ACTION
    return Resume(
        status=Status(row.status),
        sequence=row.sequence,
        plan=plan,
        operation_numbers=_numbers(own),
        review_id=review.id if review is not None else None,
        review_reason=StatusReason(review.reason) if review is not None else None,
        authorization_expires_at=row.authorization_expires_at,
        settle_by=row.settle_by,
        action_until=row.updated_at + timedelta(seconds=windows.action_window_seconds)
        if challenged
        else None,
    )


def _deciding_plan(own: Sequence[Any], providers: Registry) -> EffectPlan | None:
    """The effect whose fate decides what comes next: the unresolved one, else the newest that collects money."""
    collecting = [effect for effect in own if effect.operation in _COLLECTING]
    open_ones = [effect for effect in collecting if not EffectState(effect.state).is_final]
    chosen = (open_ones or collecting)[-1:]
    return plans.plan_of(chosen[0], providers[chosen[0].provider]) if chosen else None


def _numbers(own: Sequence[Any]) -> dict[str, int]:
    """How often each operation was declared, so that the next effect key is a new one."""
    numbers: dict[str, int] = {}
    for effect in own:
        numbers[effect.operation] = max(numbers.get(effect.operation, 0), int(effect.key.rpartition(":")[2]))
    return numbers


async def _start_payment(client: Client, row: Any, state: Resume, windows: Windows) -> bool:
    start = starts.payment_start(row, windows).model_copy(update={"resume": state})
    try:
        await client.start_workflow(
            names.PAYMENT,
            start,
            id=names.payment_workflow_id(row.id),
            task_queue=names.CORE_QUEUE,
            # A closed run under this id is no reason to stop: the payment's own row says that it is not finished.
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            search_attributes=starts.payment_search_attributes(row),
            static_summary=starts.payment_summary(row),
            static_details=starts.payment_details(row),
        )
    except WorkflowAlreadyStartedError:
        return False
    return True


async def _start_refund(client: Client, row: Any) -> bool:
    start = starts.refund_start(row).model_copy(update={"resume": True})
    try:
        await client.start_workflow(
            names.REFUND,
            start,
            id=names.refund_workflow_id(row.id),
            task_queue=names.CORE_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            search_attributes=starts.refund_search_attributes(row),
            static_summary=starts.refund_summary(row),
        )
    except WorkflowAlreadyStartedError:
        return False
    return True
