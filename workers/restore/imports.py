"""Settlement imports the database does not know: their reports' rows staged again, and their batches closed again.

A charge whose payment is missing would be booked as nobody's money. So batches are closed only after every payment is
itself again, and a closing counts only if it books exactly what it booked then. What no history imported is not a gap:
the next import reads it from the provider, and staging a row twice changes nothing.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from sqlalchemy import Connection, select

from activities import settlement_steps
from activities.contracts import CLOSE_BATCH, FIND_BATCHES, IMPORT_PAGE, BatchClosed, BatchIn
from corridor.domain.settlement import BadRow, SettlementBatch, SettlementLine
from corridor.storage import settlement
from corridor.storage.database import Database
from corridor.storage.ledger_tables import postings
from corridor.storage.tables import settlement_batches, settlement_lines
from workers.histories.reading import Reading, StepTaken
from workers.restore.gaps import Gap, GapKind

_ADVICE = (
    "a payment of this report is not repaired; settle that first, then the next import closes the report"
)


@dataclass(frozen=True)
class Page:
    """Rows of one batch that were staged together."""

    provider: str
    batch: SettlementBatch
    lines: tuple[SettlementLine, ...]
    bad_rows: tuple[BadRow, ...]
    staged_at: datetime
    """As the rows tell it. Of a page that was read again with more rows, that is when it was read first."""
    at: datetime
    """When its import was told, by the server's clock: what orders pages and closings of all imports."""


@dataclass
class Imports:
    """What the settlement histories tell: batches that were found, pages that were staged, and closings.

    `blind` are imports under way whose batches no history names: they would look for rows that are not there.
    """

    batches: dict[tuple[str, str], SettlementBatch] = field(default_factory=dict)
    pages: list[Page] = field(default_factory=list)
    closings: list[StepTaken] = field(default_factory=list)
    blind: list[Reading] = field(default_factory=list)

    def add(self, reading: Reading) -> None:
        """Take over what one import did. Pages of an older build, which named no rows, are left to the next import."""
        for step in reading.of(FIND_BATCHES):
            self.batches |= {(step.given.provider, it.batch_id): it for it in step.result.found}
            if not reading.is_closed and len(step.result.found) < len(step.result.batch_ids):
                self.blind.append(reading)
        for step in reading.of(IMPORT_PAGE):
            batch, told = self.batches.get((step.given.provider, step.given.batch_id)), step.result
            if batch is not None and told.staged_at is not None:
                page = Page(step.given.provider, batch, told.lines, told.bad_rows, told.staged_at, step.at)
                self.pages.append(page)
        self.closings += reading.of(CLOSE_BATCH)

    def last_closing(self, batch: BatchIn) -> StepTaken:
        """The one that left the batch as it was. Called when every import was added, for a batch that was closed."""
        return self._last_closings[batch.provider, batch.batch_id]

    @cached_property
    def _last_closings(self) -> dict[tuple[str, str], StepTaken]:
        return {(it.given.provider, it.given.batch_id): it for it in sorted(self.closings, key=_at)}

    def in_order(self) -> list[Page | StepTaken]:
        """Pages and closings as they were done: a closing knew only the pages before it."""
        return sorted([*self.pages, *self.closings], key=_at)

    def stage_for(self, connection: Connection, payment_id: str) -> None:
        """The charges of one payment, which its own settlement step needs. Called when every import was added."""
        for page, line in self._by_payment.get(payment_id, ()):
            _stage(connection, page, [line], [])

    @cached_property
    def _by_payment(self) -> dict[str, list[tuple[Page, SettlementLine]]]:
        """Gone through once: there may be as many pages as payments."""
        found: dict[str, list[tuple[Page, SettlementLine]]] = defaultdict(list)
        for page in sorted(self.pages, key=_at):
            for line in page.lines:
                if line.payment_id is not None and line.kind == "charge":
                    found[line.payment_id].append((page, line))
        return found


def _at(it: Page | StepTaken) -> datetime:
    return it.at


class _Other(Exception):
    """The closing would book something else than it did."""


async def catch_up(database: Database, imports: Imports, is_repair: bool) -> list[Gap]:
    """Stage and close again; returns what of it the database did not know."""
    gaps: list[Gap] = []
    for (provider, batch_id), batch in imports.batches.items():
        if not await database.read(_is_known, provider, batch_id):
            gaps.append(Gap(GapKind.BATCH, batch_id, f"{batch.total}, whose import had begun"))
            if is_repair:
                await database.write(settlement.know_batch, provider, batch)
    for it in imports.in_order():
        if isinstance(it, Page):
            gaps += await _staged(database, it, is_repair)
        else:
            is_last = imports.last_closing(it.given) is it
            gaps += await _closed(database, it, is_repair, is_last=is_last)
    return gaps


async def _staged(database: Database, page: Page, is_repair: bool) -> list[Gap]:
    missing = await database.read(_missing_rows, page)
    if missing and is_repair:
        await database.write(_stage, page, list(page.lines), list(page.bad_rows))
    return [Gap(GapKind.ROWS, page.batch.batch_id, f"{missing} rows")] if missing else []


def _stage(connection: Connection, page: Page, lines: list[SettlementLine], bad: list[BadRow]) -> None:
    settlement.know_batch(connection, page.provider, page.batch)
    settlement.stage(connection, page.provider, lines, bad, page.batch.batch_id, page.staged_at)


def _is_known(connection: Connection, provider: str, batch_id: str) -> bool:
    table = settlement_batches.c
    query = select(table.batch_id).where(table.provider == provider, table.batch_id == batch_id)
    return connection.execute(query).one_or_none() is not None


def _missing_rows(connection: Connection, page: Page) -> int:
    table = settlement_lines.c
    told = {line.line_id for line in page.lines} | {row.line_id for row in page.bad_rows}
    query = select(table.line_id).where(table.provider == page.provider, table.line_id.in_(told))
    return len(told - set(connection.execute(query).scalars()))


async def _closed(database: Database, step: StepTaken, is_repair: bool, *, is_last: bool) -> list[Gap]:
    missing = await database.read(_missing_postings, step.given, step.result, is_last=is_last)
    if missing and is_repair:
        try:
            await database.write(_close, step.given, step.result)
        except _Other as other:
            return [Gap(GapKind.DIVERGED, step.given.batch_id, str(other), _ADVICE)]
    return [Gap(GapKind.POSTING, key, f"of report {step.given.batch_id}") for key in missing]


def _missing_postings(
    connection: Connection, batch: BatchIn, closed: BatchClosed, *, is_last: bool
) -> list[str]:
    """Keys of the postings that are not here; the batch's own id where only its being closed is not known."""
    keys = [posting.key for posting in closed.postings]
    known = set(connection.execute(select(postings.c.key).where(postings.c.key.in_(keys))).scalars())
    absent = [key for key in keys if key not in known]
    table = settlement_batches.c
    query = select(table.state).where(table.provider == batch.provider, table.batch_id == batch.batch_id)
    state = connection.execute(query).scalar_one_or_none()
    return absent or ([] if _is_closed(state, closed, is_last) else [batch.batch_id])


def _is_closed(state: str | None, closed: BatchClosed, is_last: bool) -> bool:
    """A closing that did not add up may be known, and not yet the last one, which did and had nothing more to book.

    Which came last the server says: by the clocks of the workers that closed them an earlier one may be the later.
    """
    if is_last and closed.balanced:
        return state == "imported"
    return state in ("imported", "unbalanced")


def _close(connection: Connection, batch: BatchIn, then: BatchClosed) -> None:
    """Raises `_Other`, and nothing is kept."""
    if then.closed_at is None:
        raise _Other("the history does not say when it was closed")
    now = settlement_steps.close(connection, batch, [], then.closed_at)
    made, was = ({it.key: it for it in closed.postings} for closed in (now, then))
    differing = sorted(key for key in made.keys() | was.keys() if made.get(key) != was.get(key))
    if differing:
        raise _Other(f"row {differing[0]} would be booked otherwise than it was")
