"""SettlementWorkflow: import what a provider paid out, tell each payment, check the control totals.

Started by a Temporal schedule with overlap SKIP, so one run per provider at a time, on a queue of its own; its steps
follow it there, and runs that began on the core queue end on it. Every step is idempotent by the
provider's own row and batch ids, so a second run, or a run on a second stack, changes nothing.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, VersioningBehavior
from temporalio.exceptions import ActivityError, ApplicationError

from activities.contracts import CLOSE_BATCH, FIND_BATCHES, IMPORT_PAGE, BatchesIn, BatchIn, ImportPageIn
from workflows import names
from workflows.messages import SettlementStart
from workflows.steps import PATIENT, regular

PAGE_TIMEOUT = timedelta(seconds=60)
CLOSE_TIMEOUT = timedelta(minutes=5)
HEARTBEAT = timedelta(seconds=10)
"""A worker that dies in a large batch is replaced after this, not after the five minutes the batch may take."""
SOON_AGAIN = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=5),
)
"""When an outage ends, every captured payment waits for the next attempt, and there are few imports to ask again."""

BATCHES_AT_ONCE = 16
"""Payouts share nothing, and one that fails or waits for a worker holds up no other."""
GIVES_UP_AFTER = timedelta(hours=1)
"""A step that has not succeeded by then is left to the next run, which cannot begin before this one has ended."""
PAYOUTS_LEFT = "PAYOUTS_LEFT"


@workflow.defn(name=names.SETTLEMENT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class SettlementWorkflow:
    """One import run for one provider."""

    @workflow.run
    async def run(self, start: SettlementStart) -> int:
        """Returns how many batches were imported and closed. Raises `ApplicationError` (PAYOUTS_LEFT) after them."""
        self._retry = SOON_AGAIN if workflow.patched("imports-ask-again-soon") else PATIENT
        found = await regular(
            FIND_BATCHES,
            BatchesIn(provider=start.provider),
            "payouts not imported yet",
            PAGE_TIMEOUT,
            HEARTBEAT,
            retry=self._retry,
        )
        if workflow.patched("batches-side-by-side"):
            await self._side_by_side(start.provider, found.batch_ids)
        else:
            for batch_id in found.batch_ids:
                await self._import(start.provider, batch_id)
        return len(found.batch_ids)

    async def _side_by_side(self, provider: str, batch_ids: Sequence[str]) -> None:
        """Every batch to its own end, then say which have failed: the next run finds those again."""
        gate = asyncio.Semaphore(BATCHES_AT_ONCE)

        async def one(batch_id: str) -> ActivityError | None:
            async with gate:
                try:
                    await self._import(provider, batch_id, GIVES_UP_AFTER)
                except ActivityError as failed:
                    return failed
            return None

        ends = await asyncio.gather(*(one(it) for it in batch_ids))
        failed = {batch_id: end for batch_id, end in zip(batch_ids, ends, strict=True) if end is not None}
        if failed:
            left = ", ".join(failed)
            detail = f"left to the next run, all others of {len(batch_ids)} payouts are imported: {left}"
            raise ApplicationError(detail, type=PAYOUTS_LEFT) from next(iter(failed.values()))

    async def _import(self, provider: str, batch_id: str, gives_up_after: timedelta | None = None) -> None:
        cursor: str | None = None
        while True:
            page = await regular(
                IMPORT_PAGE,
                ImportPageIn(provider=provider, batch_id=batch_id, cursor=cursor),
                f"rows of {batch_id}",
                PAGE_TIMEOUT,
                HEARTBEAT,
                gives_up_after,
                retry=self._retry,
            )
            cursor = page.next_cursor
            if cursor is None:
                break
        closed = await regular(
            CLOSE_BATCH,
            BatchIn(provider=provider, batch_id=batch_id),
            f"close {batch_id}",
            CLOSE_TIMEOUT,
            HEARTBEAT,
            gives_up_after,
            retry=self._retry,
        )
        workflow.set_current_details(f"{batch_id}: {'balanced' if closed.balanced else '**unbalanced**'}")
