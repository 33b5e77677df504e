"""Resume: rebuild what a payment's lost workflow knew from the database, and start it again from there.

The workflow looks every unresolved effect up before it does anything new, so a resume moves no money twice. Its id
is the payment's, so one that still runs is left alone. What the rows do not tell it cannot look up: where a workflow
has ended and its row has not, the database is older than the world, and starting anew could charge the buyer again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, func, select
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities import plans
from activities.contracts import EffectPlan
from corridor.domain.effect import COLLECTING, EffectState, Operation, effect_number
from corridor.domain.payment import RefundStatus, Status, StatusReason
from corridor.providers.registry import Registry
from corridor.runtime.histories import listed
from corridor.runtime.patience import while_away
from corridor.runtime.side_by_side import side_by_side
from corridor.storage import effects, reviews, settlement
from corridor.storage import payments as payment_rows
from corridor.storage import refunds as refund_rows
from corridor.storage.database import Database
from corridor.storage.payments import PaymentRow
from corridor.storage.tables import payments, refunds, webhook_deliveries
from corridor.storage.webhook_deliveries import PENDING
from workflows import names, starts
from workflows.messages import DeliveryStart, Resume
from workflows.refund import FAILURE_WATCH
from workflows.starts import Windows

WAITED_FOR = tuple(status for status in Status if not status.is_terminal and status is not Status.CAPTURED)
"""A buyer, a merchant or a person waits; a captured payment waits for the provider."""
OPEN_REFUNDS = (RefundStatus.PROCESSING, RefundStatus.REQUIRES_REVIEW)
AT_ONCE = 16
"""One after the other, a hundred thousand would take a quarter of an hour."""
LISTED_WITHIN_SECONDS = 2.0
"""After so long the server's list knows what had ended; one that is later is found by the next run."""
_UNDONE_FROM = (Status.REQUIRES_ACTION, Status.AUTHORIZED)
"""In a review a stuck undo is tried again by the workflow itself; a payment that is captured has none to finish."""


class Found(StrEnum):
    """What came of one that was looked at."""

    STARTED = "started"
    RUNNING = "running"
    BEHIND = "behind"
    """Its workflow came to its end and its row did not: the database is older than the world."""


@dataclass(frozen=True)
class Resumed:
    """Ids of workflows started again, of those still running and left alone, and of those `restore-check` is for."""

    started: tuple[str, ...]
    running: tuple[str, ...]
    behind: tuple[str, ...] = ()

    @staticmethod
    def of(begun: Mapping[str, Found]) -> "Resumed":
        """What was looked at, by what came of it."""
        started, running, behind = (tuple(it for it, came in begun.items() if came is of) for of in Found)
        return Resumed(started, running, behind)


async def resume_all(
    database: Database,
    client: Client,
    providers: Registry,
    windows: Windows,
    now: datetime,
    batch: int = 500,
    begun: dict[str, Found] | None = None,
) -> Resumed:
    """Start every payment, refund and webhook delivery that has something to wait for and no running workflow.

    Those that somebody waits for go first, and the server is asked about each. Most that are open wait for a payout,
    and can: of these the server lists which run, and is asked about the others. What is accepted meanwhile is not
    chased: its own workflow begins with it. `begun` is filled on the way with what was looked at, and what came of it,
    which is all that is left of a run that raises.
    """
    begun = {} if begun is None else begun
    run = _Run(database, client, providers, windows, batch, begun)
    await run.look_at(payments, payments.c.status.in_(WAITED_FOR), run.payment)
    await run.look_at(refunds, refunds.c.status.in_(OPEN_REFUNDS), run.refund)
    began, running = time.monotonic(), await run.listed_as_running()
    bulk: Sequence[tuple[Table, ColumnElement[bool], Begin, Callable[[str], str]]] = (
        (payments, payments.c.status == Status.CAPTURED, run.payment, names.payment_workflow_id),
        (refunds, _may_come_back(now), run.refund, names.refund_workflow_id),
        (webhook_deliveries, _IS_UNDER_WAY, run.delivery, names.delivery_workflow_id),
    )
    left: list[tuple[Begin, str]] = []
    for table, wanted, begin, workflow_id in bulk:
        left += [(begin, it) for it in await run.look_at(table, wanted, begin, (running, workflow_id))]
    await run.look_again(left, began)
    return Resumed.of(begun)


Begin = Callable[[str], Awaitable[Found | None]]
"""Starts what has this row id, if nothing of it runs; None where there is nothing to wait for any more."""


@dataclass(frozen=True)
class _Run:
    """One run of the command, and what it found."""

    database: Database
    client: Client
    providers: Registry
    windows: Windows
    batch: int
    begun: dict[str, Found]

    async def look_at(
        self,
        table: Table,
        wanted: ColumnElement[bool],
        begin: Begin,
        known: tuple[Set[str], Callable[[str], str]] = (frozenset(), str),
    ) -> list[str]:
        """Every wanted row that was not looked at yet. Those whose workflow is known to run are left alone, and returned."""
        left: list[str] = []
        running, workflow_id = known
        async for ids in _pages(self.database, table, wanted, self.batch):
            new = [it for it in ids if it not in self.begun]
            alone = {it for it in new if workflow_id(it) in running}
            self.begun.update(dict.fromkeys(alone, Found.RUNNING))
            left += alone
            await side_by_side([it for it in new if it not in alone], partial(self._note, begin), AT_ONCE)
        return left

    async def look_again(self, left: Sequence[tuple[Begin, str]], began: float) -> None:
        """The list is written behind the workflows: ask about those that were on it and had ended by then."""
        if not left:
            return
        await asyncio.sleep(max(0.0, began + LISTED_WITHIN_SECONDS - time.monotonic()))
        running = {it.partition("-")[2] for it in await self.listed_as_running()}
        ended = [(begin, it) for begin, it in left if it not in running]
        await side_by_side(ended, lambda one: self._note(*one), AT_ONCE)

    async def listed_as_running(self) -> Set[str]:
        """The ids of workflows that the server lists as running; each page costs it less than two questions."""
        types = ", ".join(f'"{it}"' for it in (names.PAYMENT, names.REFUND, names.WEBHOOK_DELIVERY))
        query = f'ExecutionStatus = "Running" AND WorkflowType IN ({types})'
        return {it.id async for it in listed(self.client, query)}

    async def _note(self, begin: Begin, row_id: str) -> None:
        # A server that was just lost may go away again.
        came = await while_away(lambda: begin(row_id))
        if came is not None:
            self.begun[row_id] = came
        else:
            self.begun.pop(row_id, None)

    # The last run is asked for before the row is read: of one that ended in between, the row already tells the end.

    async def payment(self, payment_id: str) -> Found | None:
        last = await _last_run(self.client, names.payment_workflow_id(payment_id))
        if last is WorkflowExecutionStatus.RUNNING:
            return Found.RUNNING
        if last is WorkflowExecutionStatus.COMPLETED:
            row = await self.database.read(payment_rows.load, payment_id)
            return None if Status(row.status).is_terminal else Found.BEHIND
        found = await self.database.write(resume_of, payment_id, self.providers, self.windows)
        return None if found is None else await _start_payment(self.client, *found, self.windows)

    async def refund(self, refund_id: str) -> Found | None:
        last = await _last_run(self.client, names.refund_workflow_id(refund_id))
        if last is WorkflowExecutionStatus.RUNNING:
            return Found.RUNNING
        row = await self.database.read(refund_rows.load, refund_id)
        if last is WorkflowExecutionStatus.COMPLETED and row.status != RefundStatus.SUCCEEDED:
            return Found.BEHIND if row.status in OPEN_REFUNDS else None
        # One that succeeded may have been told to listen no longer, which is no sign of a database that is older.
        return await _start_refund(self.client, row)

    async def delivery(self, delivery_id: str) -> Found:
        return await _start_delivery(self.client, delivery_id)


_IS_UNDER_WAY = and_(
    webhook_deliveries.c.status == PENDING, webhook_deliveries.c.workflow_started_at.is_not(None)
)
"""Deliveries whose workflow once started; the dispatcher starts the others."""


def _may_come_back(now: datetime) -> ColumnElement[bool]:
    """Refunds that succeeded, as long as their workflow listens for what the buyer's bank may still say."""
    return and_(refunds.c.status == RefundStatus.SUCCEEDED, refunds.c.updated_at > now - FAILURE_WATCH)


async def _pages(
    database: Database, table: Table, wanted: ColumnElement[bool], batch: int
) -> AsyncIterator[list[str]]:
    """The ids of the wanted rows in their order, a page at a time, up to the newest that there is now."""
    after, last = "", await database.read(_newest, table)
    while ids := await database.read(_page, table, and_(wanted, table.c.id <= last), after, batch):
        yield ids
        after = ids[-1]


def _newest(connection: Connection, table: Table) -> str:
    return connection.execute(select(func.max(table.c.id))).scalar_one() or ""


def _page(
    connection: Connection, table: Table, wanted: ColumnElement[bool], after: str, limit: int
) -> list[str]:
    query = select(table.c.id).where(wanted, table.c.id > after).order_by(table.c.id).limit(limit)
    return list(connection.execute(query).scalars())


def resume_of(
    connection: Connection, payment_id: str, providers: Registry, windows: Windows
) -> tuple[PaymentRow, Resume] | None:
    """The payment and its last durable business state; None when it has ended meanwhile.

    Settlement rows it was told of are told again.
    """
    row = payment_rows.lock(connection, payment_id)
    if Status(row.status).is_terminal:
        return None
    settlement.tell_again(connection, row.id)
    return row, _state_of(connection, row, providers, windows)


def _state_of(connection: Connection, row: PaymentRow, providers: Registry, windows: Windows) -> Resume:
    made = effects.of_payment(connection, row.id)
    own = [effect for effect in made if effect.object_id == row.id]
    review = next(iter(reviews.open_for(connection, row.id)), None)
    plan = _deciding_plan(own, providers)
    challenged = row.status == Status.REQUIRES_ACTION
    return Resume(
        status=Status(row.status),
        sequence=row.sequence,
        plan=plan,
        undo=_open_undo(own, providers) if row.status in _UNDONE_FROM else None,
        operation_numbers=_numbers(own),
        review_id=review.id if review is not None else None,
        review_reason=_review_reason(row, review),
        approved_review=reviews.approved_for(connection, row.id, StatusReason.RISK_REVIEW),
        authorization_expires_at=row.authorization_expires_at,
        settle_by=row.settle_by,
        action_until=row.updated_at + timedelta(seconds=windows.action_window_seconds)
        if challenged
        else None,
    )


def _review_reason(row: PaymentRow, review: Any) -> StatusReason | None:
    """Why it waits. A stuck undo waits on after its review was decided, until the undo is proven."""
    if review is not None:
        return StatusReason(review.reason)
    waits = row.status == Status.REQUIRES_REVIEW and row.status_reason is not None
    return StatusReason(row.status_reason) if waits else None


def _deciding_plan(own: Sequence[Any], providers: Registry) -> EffectPlan | None:
    """The effect whose fate decides what comes next: the unresolved one, else the newest that collects money."""
    collecting = sorted(
        (effect for effect in own if effect.operation in COLLECTING),
        key=lambda effect: (effect.operation == Operation.CAPTURE, effect_number(effect.key)),
    )
    open_ones = [effect for effect in collecting if not EffectState(effect.state).is_final]
    chosen = (open_ones or collecting)[-1:]
    return plans.plan_of(chosen[0], providers[chosen[0].provider]) if chosen else None


def _open_undo(own: Sequence[Any], providers: Registry) -> EffectPlan | None:
    """The newest void, unless it was refused or never sent: one that is approved wants its payment closed still."""
    voids = [effect for effect in own if effect.operation == Operation.VOID]
    newest = max(voids, key=lambda effect: effect_number(effect.key), default=None)
    if newest is None or newest.state in (EffectState.DECLINED, EffectState.NOT_SENT):
        return None
    return plans.plan_of(newest, providers[newest.provider])


def _numbers(own: Sequence[Any]) -> dict[str, int]:
    """How often each operation was declared, so that the next effect key is a new one."""
    numbers: dict[str, int] = {}
    for effect in own:
        numbers[effect.operation] = max(numbers.get(effect.operation, 0), effect_number(effect.key))
    return numbers


async def _last_run(client: Client, workflow_id: str) -> WorkflowExecutionStatus | None:
    """How the newest run under this id stands; None where there is none (any more). COMPLETED is only ever an end.

    A workflow returns when its payment is terminal, or its refund is decided, and never before.
    """
    try:
        return (await client.get_workflow_handle(workflow_id).describe()).status
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return None
        raise


async def _start_payment(client: Client, row: PaymentRow, state: Resume, windows: Windows) -> Found:
    start = starts.payment_start(row, windows).model_copy(update={"resume": state})
    try:
        await client.start_workflow(
            names.PAYMENT,
            start,
            id=names.payment_workflow_id(row.id),
            task_queue=names.CORE_QUEUE,
            # A run under this id that was cut off is no reason to stop: the payment's row says that it is not finished.
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            search_attributes=starts.payment_search_attributes(row),
            static_summary=starts.payment_summary(row),
            static_details=starts.payment_details(row),
        )
    except WorkflowAlreadyStartedError:
        return Found.RUNNING
    return Found.STARTED


async def _start_refund(client: Client, row: Any) -> Found:
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
        return Found.RUNNING
    return Found.STARTED


async def _start_delivery(client: Client, delivery_id: str) -> Found:
    """Its schedule begins anew with an attempt at once; one that was delivered meanwhile finds nothing to do."""
    try:
        await client.start_workflow(
            names.WEBHOOK_DELIVERY,
            DeliveryStart(delivery_id=delivery_id),
            id=names.delivery_workflow_id(delivery_id),
            task_queue=names.CORE_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            static_summary="goes on after its workflow was lost",
        )
    except WorkflowAlreadyStartedError:
        return Found.RUNNING
    return Found.STARTED
