"""What an import asks of the database: the same for a payout of twenty payments as for one of two.

Every few minutes each payout of the last weeks is looked at again, beside payments that wait for the same writer.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import astuple, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from sqlalchemy import Connection, update
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.contracts import BatchesIn, BatchIn
from activities.settlement_steps import SettlementSteps, Tidings
from benchmarks import instant
from benchmarks.figures import counted
from corridor.domain.money import Money
from corridor.domain.payment import Status
from corridor.domain.settlement import SettlementBatch, SettlementLine
from corridor.fx.ecb import EcbRates
from corridor.providers.registry import Registry
from corridor.runtime.keys import KeyRing
from corridor.runtime.settings import load
from corridor.storage import settlement
from corridor.storage.tables import payments
from tests.fakes.temporal import FakeTemporal
from tests.unit import relay_rows
from workers.wiring import Wiring
from workflows import names

NET = Money(9_700, "EUR")
FIRST_LOOK, LATER_LOOK, CLOSING = (1, 2, 4), (0, 2, 3), (1, 2, 10)
"""Writing transactions, reading ones, statements; without what opens, names and ends transactions."""


class Paying(instant.InstantProvider):
    """Has paid out so many times."""

    paid: tuple[SettlementBatch, ...] = ()

    async def settlement_batches(self, since: datetime) -> tuple[SettlementBatch, ...]:
        return tuple(batch for batch in self.paid if batch.created_at >= since)


class Import:
    """The steps of an import whose payments all listen."""

    def __init__(self, wired: Wiring) -> None:
        self.provider, self.temporal = Paying(), FakeTemporal()
        self.database = wired.edge.database
        edge = replace(wired.edge, providers=Registry([self.provider]))
        client = cast("Client", self.temporal)
        told = Tidings(client, names.payment_workflow_id(""), names.SETTLEMENT_FACT)
        self.steps = SettlementSteps(edge, told, told)

    async def pay_out(self, payouts: int) -> None:
        self.provider.paid = tuple(batch(f"po_{number}", 0) for number in range(payouts))

    async def stage(self, batch_id: str, charges: int) -> None:
        """A payout of captured payments."""
        for payment_id in await self.database.write(_stage, batch_id, charges):
            self.temporal.running[names.payment_workflow_id(payment_id)] = (names.PAYMENT, None)

    async def look(self) -> tuple[Any, tuple[int, ...]]:
        with counted() as seen:
            found = await ActivityEnvironment().run(self.steps.find_batches, BatchesIn(provider="stripe"))
        return found.batch_ids, astuple(seen)[:3]

    async def close(self, batch_id: str) -> tuple[Any, tuple[int, ...]]:
        wanted = BatchIn(provider="stripe", batch_id=batch_id)
        with counted() as seen:
            closed = await ActivityEnvironment().run(self.steps.close_batch, wanted)
        return closed, astuple(seen)[:3]


@pytest_asyncio.fixture
async def importing(
    database_url: str, key_ring: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Import]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    settings = load(data_dir=tmp_path, encryption_keys=key_ring.render(), market_day=EcbRates().newest_day())
    wired = instant.wire(settings)
    yield Import(wired)
    await wired.close()


@pytest.mark.parametrize("payouts", [2, 20])
async def test_a_look_costs_the_same_however_many_payouts_there_are(importing: Import, payouts: int) -> None:
    await importing.pay_out(payouts)
    found, asked = await importing.look()
    assert (len(found), asked) == (payouts, FIRST_LOOK)
    for batch_id in found:
        await importing.database.write(settlement.close, "stripe", batch_id, _now())
    assert await importing.look() == ((), LATER_LOOK), "what is known and imported is written no more"


@pytest.mark.parametrize("charges", [2, 20])
async def test_telling_payments_costs_the_same_however_many_they_are(importing: Import, charges: int) -> None:
    await importing.stage("po_1", charges)
    closed, asked = await importing.close("po_1")
    assert (closed.signaled, closed.balanced, len(importing.temporal.signals)) == (charges, True, charges)
    assert asked == CLOSING
    await importing.database.write(_settled)
    closed, asked = await importing.close("po_1")
    assert (closed.signaled, closed.postings, asked) == (0, (), CLOSING)


async def test_a_payout_of_more_rows_than_a_statement_can_name_is_told_whole(
    importing: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "NAMED_AT_ONCE", 3)
    await importing.pay_out(7)
    assert len((await importing.look())[0]) == 7
    assert sorted((await importing.look())[0]) == sorted(it.batch_id for it in importing.provider.paid)
    await importing.stage("po_1", 7)
    closed, _ = await importing.close("po_1")
    rows = await importing.database.read(settlement.of_batch, "stripe", "po_1", ("signaled",))
    assert (closed.signaled, len(rows)) == (7, 7)


def batch(batch_id: str, charges: int) -> SettlementBatch:
    total = Money(NET.minor * charges, "EUR")
    return SettlementBatch(
        batch_id=batch_id, total=total, status="paid", arrives_at=_now(), created_at=_now()
    )


def _stage(connection: Connection, batch_id: str, charges: int) -> Sequence[str]:
    merchant = relay_rows.merchant(connection)
    ids = [relay_rows.payment(connection, merchant).id for _ in range(charges)]
    connection.execute(update(payments).values(status=Status.CAPTURED))
    settlement.know_batches(connection, "stripe", [batch(batch_id, charges)])
    lines = [_charge(payment_id, batch_id) for payment_id in ids]
    settlement.stage(connection, "stripe", lines, [], batch_id, _now())
    return ids


def _settled(connection: Connection) -> None:
    """As the payments' own workflows leave the rows behind."""
    for row in settlement.of_batch(connection, "stripe", "po_1", ("signaled",)):
        settlement.mark(connection, "stripe", row.line_id, "posted")


def _charge(payment_id: str, batch_id: str) -> SettlementLine:
    told: dict[str, Any] = {
        "line_id": f"txn_{payment_id}", "batch_id": batch_id, "kind": "charge", "provider_kind": "charge",
        "provider_reference": None, "effect_key": f"{payment_id}:sale:1", "payment_id": payment_id,
        "gross": Money(10_000, "EUR"), "fee": Money(300, "EUR"), "net": NET, "converted_from": None, "rate": None,
        "available_at": _now(), "created_at": _now(),
    }  # fmt: skip
    return SettlementLine(**told)


def _now() -> datetime:
    return datetime.now(UTC)
