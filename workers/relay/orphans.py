"""The orphan starter: starts the workflow of every payment and refund that was accepted and then left alone.

Between the commit that accepts and the call that starts, the API can die. The workflow's first step notes that it
runs; what has no such note after a few seconds is started here, with exactly the API's arguments.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from temporalio.client import Client

from corridor.domain.ids import Prefix, is_id
from corridor.runtime.loop import each
from corridor.storage.database import Database
from corridor.storage.unstarted import unstarted_payments, unstarted_refunds
from workers.relay.starting import start_once
from workflows import names, starts
from workflows.starts import Windows

PATIENCE = timedelta(seconds=5)
BATCH = 50


class OrphanStarter:
    """Sweeps payments and refunds in pages, so that one that cannot start never hides those behind it."""

    def __init__(
        self, database: Database, client: Client, windows: Windows, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._client = client
        self._windows = windows
        self._clock = clock
        self._last_payment = ""
        self._last_refund = ""

    async def turn(self) -> int:
        """Returns how many starts were asked for; 0 at the end of a sweep."""
        now = self._clock()
        orphans = await self._database.read(unstarted_payments, now, PATIENCE, self._last_payment, BATCH)
        refunds = await self._database.read(unstarted_refunds, now, PATIENCE, self._last_refund, BATCH)
        # Moved on before the starts: a failing one is met again in the next sweep, not in the next turn.
        self._last_payment = orphans[-1].id if len(orphans) == BATCH else ""
        self._last_refund = refunds[-1].id if len(refunds) == BATCH else ""
        await each([*orphans, *refunds], self._start)
        return len(orphans) + len(refunds)

    async def _start(self, row: Any) -> None:
        await (self._start_refund(row) if is_id(row.id, Prefix.REFUND) else self._start_payment(row))

    async def _start_payment(self, row: Any) -> None:
        await start_once(
            self._client,
            names.PAYMENT,
            starts.payment_start(row, self._windows),
            workflow_id=names.payment_workflow_id(row.id),
            summary=starts.payment_summary(row),
            details=starts.payment_details(row),
            search_attributes=starts.payment_search_attributes(row),
        )

    async def _start_refund(self, row: Any) -> None:
        await start_once(
            self._client,
            names.REFUND,
            starts.refund_start(row),
            workflow_id=names.refund_workflow_id(row.id),
            summary=starts.refund_summary(row),
            search_attributes=starts.refund_search_attributes(row),
        )
