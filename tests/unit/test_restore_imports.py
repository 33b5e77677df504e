"""Settlement imports made again after a restore: no row is looked at twice."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest_asyncio

from activities.contracts import (
    FIND_BATCHES,
    IMPORT_PAGE,
    Batches,
    BatchesIn,
    ImportedPage,
    ImportPageIn,
    Step,
)
from benchmarks.scale import plans
from corridor.domain.money import Money
from corridor.domain.settlement import SettlementBatch, SettlementLine
from corridor.storage.database import Database
from workers.histories.reading import Reading, StepTaken
from workers.restore.imports import Imports, catch_up
from workflows import names
from workflows.messages import SettlementStart

BEGUN = datetime(2026, 11, 1, tzinfo=UTC)
NOTHING = Money(0, "EUR")
FEE = Money(-100, "EUR")


@pytest_asyncio.fixture
async def database(sqlite_database: str) -> AsyncIterator[Database]:
    opened = Database(sqlite_database)
    yield opened
    await opened.close()


def fee(number: int) -> SettlementLine:
    return SettlementLine(
        line_id=f"txn_{number}", batch_id="po_1", kind="fee", provider_kind="stripe_fee", provider_reference=None,
        effect_key=None, payment_id=None, gross=FEE, fee=NOTHING, net=FEE, converted_from=None, rate=None,
        available_at=BEGUN, created_at=BEGUN,
    )  # fmt: skip


def batch_of(count: int) -> SettlementBatch:
    total = Money(FEE.minor * count, "EUR")
    return SettlementBatch(batch_id="po_1", total=total, status="paid", arrives_at=BEGUN, created_at=BEGUN)


def at(minutes: int) -> datetime:
    return BEGUN + timedelta(minutes=minutes)


def taken(step: Step[Any, Any], minutes: int, given: Any, result: Any) -> StepTaken:
    when = at(minutes)
    return StepTaken(minutes, step.name, False, "completed", when, when, 1, given, result)


def an_import(*steps: StepTaken) -> Reading:
    return Reading(
        workflow_type=names.SETTLEMENT, workflow_id="settlement-1", run_id="1", first_run_id="1",
        started_at=steps[0].at, last_event_at=steps[-1].at, event_count=len(steps), ending="completed",
        start=SettlementStart(provider="stripe"), answer=None, steps=steps, signals=(), updates=(), builds=(),
        key_ids=(), unread=(),
    )  # fmt: skip


def found(batch: SettlementBatch, minutes: int) -> StepTaken:
    result = Batches(batch_ids=(batch.batch_id,), found=(batch,))
    return taken(FIND_BATCHES, minutes, BatchesIn(provider="stripe"), result)


def page(lines: tuple[SettlementLine, ...], staged_at: datetime, minutes: int) -> StepTaken:
    result = ImportedPage(line_count=len(lines), bad_row_count=0, lines=lines, staged_at=staged_at)
    return taken(IMPORT_PAGE, minutes, ImportPageIn(provider="stripe", batch_id="po_1"), result)


async def test_the_rows_of_a_payment_are_found_without_going_through_every_page(database: Database) -> None:
    lines = [tuple(fee(20 * nth + number) for number in range(20)) for nth in range(5)]
    imports = Imports()
    imports.add(an_import(found(batch_of(100), 0), *(page(it, at(nth), nth) for nth, it in enumerate(lines))))
    imports.pages = [replace(it, lines=Walked(it.lines)) for it in imports.pages]
    before = Walked.times
    for number in range(50):
        await database.write(imports.stage_for, f"pay_{number}")
    assert Walked.times - before <= len(lines)


async def test_looking_for_a_pages_rows_costs_as_much_in_a_longer_report(
    tmp_path: Path, database: Database
) -> None:
    steps = []
    for count in (4, 16):
        lines = [tuple(fee(20 * nth + number) for number in range(20)) for nth in range(count)]
        imports = Imports()
        imports.add(an_import(found(batch_of(20 * count), 0), *(page(it, at(1), 1) for it in lines)))
        await catch_up(database, imports, is_repair=True)

        async def look(_desk: Any, imports: Imports = imports) -> None:
            assert await catch_up(database, imports, is_repair=False) == []

        desk: Any = SimpleNamespace(database=database)
        steps.append(await plans.steps(desk, look))
    few, many = steps
    assert many < 5 * few, "four times the pages, and no more for each"


class Walked(tuple[SettlementLine, ...]):
    """Lines that count how often they are gone through."""

    times = 0

    def __iter__(self) -> Iterator[SettlementLine]:
        Walked.times += 1
        return super().__iter__()
