"""Settlement imports made again after a restore: in the order in which they were done, each row looked at once."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, select

from activities import settlement_steps
from activities.contracts import (
    CLOSE_BATCH,
    FIND_BATCHES,
    IMPORT_PAGE,
    Batches,
    BatchesIn,
    BatchIn,
    ImportedPage,
    ImportPageIn,
    Step,
)
from benchmarks.scale import plans
from corridor.domain.accepted import NewPayment
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.settlement import SettlementBatch, SettlementLine
from corridor.storage import merchants, payments, settlement
from corridor.storage.database import Database
from corridor.storage.ledger_tables import postings
from corridor.storage.merchants import NewMerchant
from corridor.storage.tables import settlement_batches, settlement_lines
from tests.workflows.earlier import copy_of
from workers.histories.reading import Reading, StepTaken
from workers.restore.imports import Imports, catch_up
from workflows import names
from workflows.messages import SettlementStart

BEGUN = datetime(2026, 11, 1, tzinfo=UTC)
NOTHING = Money(0, "EUR")
FEE = Money(-100, "EUR")
MERCHANT = NewMerchant(id="mer_1", name="Lantern & Loom", country="CN", settle_currency="CNY")
PAYMENT = NewPayment(
    id=new_id(Prefix.PAYMENT, BEGUN), merchant_id="mer_1", amount=Money(10_000, "EUR"), settle_currency="CNY",
    source_country="DE", destination_country="CN", payment_token="pm_card_visa", instrument="one",
)  # fmt: skip


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


def charge(number: int) -> SettlementLine:
    """Of a payment whose own workflow books it: the import books nothing."""
    return fee(number).model_copy(update={"kind": "charge", "payment_id": PAYMENT.id})


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


THE_BATCH = BatchIn(provider="stripe", batch_id="po_1")


def _import(
    connection: Connection, lines: tuple[SettlementLine, ...], minutes: int, ahead: int = 0
) -> list[StepTaken]:
    """What an import of the report does, as its history tells it; a row that was there before stays as it was.

    The clock of the worker that closes it is so many minutes `ahead`.
    """
    batch = batch_of(2)
    settlement.know_batch(connection, "stripe", batch)
    settlement.stage(connection, "stripe", lines, [], "po_1", at(minutes + 1))
    staged_at = settlement.line(connection, "stripe", lines[0].line_id).created_at
    closed = settlement_steps.close(connection, THE_BATCH, [], at(minutes + 2 + ahead))
    return [
        found(batch, minutes),
        page(lines, staged_at, minutes + 1),
        taken(CLOSE_BATCH, minutes + 2, THE_BATCH, closed),
    ]


def _booked(connection: Connection) -> list[Any]:
    batches = connection.execute(select(settlement_batches)).all()
    lines = select(settlement_lines.c.line_id, settlement_lines.c.state).order_by(settlement_lines.c.line_id)
    posted = select(postings.c.key, postings.c.posted_at).order_by(postings.c.key)
    return [batches, connection.execute(lines).all(), connection.execute(posted).all()]


@pytest.mark.parametrize("ahead", [0, 120], ids=["by one clock", "first by a clock that was ahead"])
@pytest.mark.parametrize("more", [fee(2), charge(2)], ids=["a fee", "a charge"])
async def test_a_report_that_was_complete_only_later_is_closed_again_as_it_was_then(
    database: Database, sqlite_database: str, tmp_path: Path, more: SettlementLine, ahead: int
) -> None:
    """Its first closing did not add up and booked what was there; the same page told of more when it was read again."""
    await database.write(merchants.create_merchant, MERCHANT, BEGUN)
    await database.write(payments.accept, PAYMENT, BEGUN)
    copies = [copy_of(sqlite_database, tmp_path / "before.db")]
    first = await database.write(_import, (fee(1),), 0, ahead)
    copies.append(copy_of(sqlite_database, tmp_path / "between.db"))
    second = await database.write(_import, (fee(1), more), 60)
    for url in copies:
        restored = Database(url)
        imports = Imports()
        for steps in (second, first):  # the server lists the newest first
            imports.add(an_import(*steps))
        repaired = await catch_up(restored, imports, is_repair=True)
        assert repaired
        assert [str(gap) for gap in repaired if not gap.is_provable] == []
        assert await restored.read(_booked) == await database.read(_booked)
        assert await catch_up(restored, imports, is_repair=False) == []
        await restored.close()


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
