"""Importing a provider's settlement report: rows staged page by page, payments told, everything else booked."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities import standing
from activities.contracts import (
    CLOSE_BATCH,
    FIND_BATCHES,
    IMPORT_PAGE,
    BatchClosed,
    Batches,
    BatchesIn,
    BatchIn,
    ImportedPage,
    ImportPageIn,
)
from activities.edge import Edge
from activities.errors import implements
from activities.heartbeat import beating
from corridor.domain.ids import Prefix, is_id
from corridor.domain.outcome import Frozen
from corridor.domain.payment import RefundStatus
from corridor.domain.posting import Posting
from corridor.domain.settlement import SettlementBatch, SettlementLine, SettlementPage
from corridor.ledger import rules, store
from corridor.runtime.side_by_side import side_by_side
from corridor.storage import refunds, settlement
from corridor.storage.settlement import LineRow

LOOK_BACK = timedelta(days=30)
"""How far behind the newest known batch the next look begins; known batches are skipped by id.

Batches are listed by when they were made, but ready only once paid and complete: a bank's holidays later.
"""
FIRST_LOOK = timedelta(days=30)
TELL_AT_ONCE = 16


class Tidings:
    """How a payment's workflow is told of its settlement row; the composition root says under which names."""

    def __init__(self, client: Client, workflow_id_prefix: str, signal: str) -> None:
        self._client = client
        self._prefix = workflow_id_prefix
        self._signal = signal

    async def tell(self, payment_id: str, fact: Frozen | dict[str, str]) -> bool:
        """False when no such workflow is running: the row stays staged and is told again by the next import."""
        try:
            await self._client.get_workflow_handle(f"{self._prefix}{payment_id}").signal(self._signal, fact)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True


class SettlementSteps:
    """Activities of the import; every one is idempotent by the provider's batch and row ids.

    `tidings` reach payments with the fact of their settlement, `setbacks` reach refunds with a hint to look.
    """

    def __init__(self, edge: Edge, tidings: Tidings, setbacks: Tidings) -> None:
        self._edge = edge
        self._tidings = tidings
        self._setbacks = setbacks

    @implements(FIND_BATCHES)
    async def find_batches(self, wanted: BatchesIn) -> Batches:
        """Batches not imported yet, oldest first. Raises (retryable) LOOK_UP_FAILED."""
        async with beating():
            newest = await self._edge.database.read(settlement.newest_batch_at, wanted.provider)
            since = self._edge.now() - FIRST_LOOK if newest is None else newest - LOOK_BACK
            found = await self._edge.providers[wanted.provider].settlement_batches(since)
            unknown, unfinished = await self._edge.database.read(_unfinished, wanted.provider, found)
            if unknown:
                await self._edge.database.write(settlement.know_batches, wanted.provider, unknown)
            return unfinished

    @implements(IMPORT_PAGE)
    async def import_page(self, wanted: ImportPageIn) -> ImportedPage:
        """Stage one page of rows; a bad row is kept with its reason and costs no good one."""
        async with beating():
            page = await self._edge.providers[wanted.provider].settlement_page(wanted.batch_id, wanted.cursor)
            staged_at = await self._edge.database.write(_stage, wanted, page, self._edge.now())
            return ImportedPage(
                line_count=len(page.lines),
                bad_row_count=len(page.bad_rows),
                next_cursor=page.next_cursor,
                lines=page.lines,
                bad_rows=page.bad_rows,
                staged_at=staged_at,
            )

    @implements(CLOSE_BATCH)
    async def close_batch(self, wanted: BatchIn) -> BatchClosed:
        """Tell payments of their rows, book the rows no payment waits for, and check the control total."""
        async with beating():
            charges = await self._edge.database.read(
                settlement.open_charges, wanted.provider, wanted.batch_id
            )
            told = await self._tell_all(wanted.provider, charges)
            for refund_id, line_id in await self._edge.database.read(_refunds_paid_back, wanted):
                await self._setbacks.tell(refund_id, {"provider_event_id": f"settlement:{line_id}"})
            return await self._edge.database.write(close, wanted, told, self._edge.now())

    async def _tell_all(self, provider: str, charges: list[tuple[str, str]]) -> list[str]:
        """The ids of the rows whose payments were told."""

        async def tell(charge: tuple[str, str]) -> bool:
            payment_id, line_id = charge
            return await self._tidings.tell(payment_id, {"provider": provider, "line_id": line_id})

        told = await side_by_side(charges, tell, TELL_AT_ONCE)
        return [line_id for (_, line_id), was_told in told if was_told]


def _stage(
    connection: Connection, wanted: ImportPageIn, page: SettlementPage, now: datetime
) -> datetime | None:
    """Stage a page's rows; returns when they were first staged, which a repeat does not change."""
    settlement.stage(connection, wanted.provider, page.lines, page.bad_rows, wanted.batch_id, now)
    line_ids = [line.line_id for line in page.lines] + [row.line_id for row in page.bad_rows]
    if not line_ids:
        return None
    first_staged: datetime = settlement.line(connection, wanted.provider, line_ids[0]).created_at
    return first_staged


def _unfinished(
    connection: Connection, provider: str, found: Sequence[SettlementBatch]
) -> tuple[list[SettlementBatch], Batches]:
    """Those not noted yet, and all that are to be imported: most looks find what is known and imported already."""
    ordered = sorted(found, key=lambda batch: batch.created_at)
    states = settlement.batch_states(connection, provider, [batch.batch_id for batch in ordered])
    fresh = [batch.batch_id for batch in ordered if states.get(batch.batch_id) != "imported"]
    waiting = settlement.batches_with_staged_rows(connection, provider)
    wanted = dict.fromkeys([*waiting, *fresh])
    unfinished = Batches(
        batch_ids=tuple(wanted), found=tuple(batch for batch in ordered if batch.batch_id in wanted)
    )
    return [batch for batch in ordered if batch.batch_id not in states], unfinished


def _refunds_paid_back(connection: Connection, wanted: BatchIn) -> list[tuple[str, str]]:
    """(refund id, row id) of rows that give back a refund we still take for done: the webhook was lost."""
    rows = settlement.of_batch(connection, wanted.provider, wanted.batch_id, ("staged",))
    named = [
        (_refund_of(SettlementLine.model_validate(row.body)), row.line_id)
        for row in rows
        if row.kind == "adjustment"
    ]
    return [
        (refund_id, line_id)
        for refund_id, line_id in named
        if refund_id is not None and _is_done(connection, refund_id)
    ]


def _is_done(connection: Connection, refund_id: str) -> bool:
    """False of a refund that another installation made on the same account, too."""
    refund = refunds.find(connection, refund_id)
    return refund is not None and refund.status == RefundStatus.SUCCEEDED


def close(connection: Connection, wanted: BatchIn, told: list[str], now: datetime) -> BatchClosed:
    """Book what no payment waits for and check the control total; closing again books nothing twice."""
    settlement.mark_signaled(connection, wanted.provider, told)
    booked = _booked_before(connection, wanted)
    rows = settlement.bookable(connection, wanted.provider, wanted.batch_id)
    booked += [
        posting for row in rows if (posting := _book(connection, wanted.provider, row, now)) is not None
    ]
    balanced = settlement.close(connection, wanted.provider, wanted.batch_id, now)
    unmatched = settlement.of_batch(connection, wanted.provider, wanted.batch_id, ("unmatched",))
    return BatchClosed(
        balanced=balanced,
        signaled=len(told),
        unmatched=len(unmatched),
        postings=tuple(booked),
        posted_at=standing.posted_at(connection, booked),
        closed_at=now,
    )


def _booked_before(connection: Connection, wanted: BatchIn) -> list[Posting]:
    """What an earlier run of this step booked: its answer may be in no history, and the ledger is rebuilt from those."""
    rows = settlement.of_batch(connection, wanted.provider, wanted.batch_id, ("posted", "unmatched"))
    keys = [f"{wanted.provider}:{row.line_id}" for row in rows if row.kind != "payout"]
    return [it.posting for some in settlement.parts(keys) for it in store.written(connection, some)]


def _book(connection: Connection, provider: str, row: LineRow, now: datetime) -> Posting | None:
    """Book a row no payment's workflow books: refunds, fees, and what cannot be attributed (suspense)."""
    line = SettlementLine.model_validate(row.body)
    key = f"{provider}:{line.line_id}"
    match line.kind:
        case "payout":
            settlement.mark(connection, provider, line.line_id, "posted", "control total")
            return None
        case "refund" | "adjustment" if (refund_id := _refund_of(line)) and refunds.find(
            connection, refund_id
        ):
            posting, state = rules.refund_settled(key, refund_id, provider, line), "posted"
        case "fee":
            posting, state = rules.provider_fee(key, line.line_id, line), "posted"
        case _:
            posting, state = rules.adjustment(key, line.line_id, line), "unmatched"
    store.post(connection, posting, now)
    settlement.mark(connection, provider, line.line_id, state)
    return posting


def _refund_of(line: SettlementLine) -> str | None:
    """The refund a row is about; a failed refund is paid back by an adjustment that names the refund's effect."""
    object_id = (line.effect_key or "").partition(":")[0]
    return object_id if is_id(object_id, Prefix.REFUND) else None
