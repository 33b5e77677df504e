"""What the steps of a payment ask of the database: so many statements and transactions, and no more.

A count is the same on a busy machine, and one more statement in a step is one more for every payment there will be.
"""

from collections.abc import AsyncIterator, Awaitable
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from sqlalchemy import Connection

from activities.contracts import ExecuteIn, PrepareIn, SettleIn
from activities.preparation import Preparation
from activities.provider_steps import ProviderSteps
from activities.settle_step import SettleStep
from benchmarks import instant
from benchmarks.figures import counted
from corridor.domain.accepted import NewPayment
from corridor.domain.money import Money
from corridor.domain.outcome import Outcome
from corridor.domain.payment import Status
from corridor.domain.settlement import SettlementLine
from corridor.fx.ecb import EcbRates
from corridor.runtime.keys import KeyRing
from corridor.runtime.settings import load
from corridor.storage import idempotency, merchants, payments, settlement
from corridor.storage.merchants import NewMerchant
from tests.fakes.temporal import attempt
from workers.wiring import Wiring

Result = TypeVar("Result")

AMOUNT, FEE = Money(10_000, "EUR"), Money(320, "EUR")
MERCHANT = NewMerchant(id="mer_1", name="Lantern & Loom", country="CN", settle_currency="CNY")
STEPS = {"accept": (1, 0, 4), "prepare": (1, 1, 12), "execute": (1, 1, 15), "settle": (1, 0, 17)}
"""Writing transactions, reading ones, statements; without what opens, names and ends transactions."""
TURNS_TAKEN = {"prepare": 1}
"""On PostgreSQL payments of one card wait for each other by a lock that is asked for."""


@dataclass
class Payment:
    """Takes the steps of one payment as its workflow does, counting each."""

    wired: Wiring
    id: str
    seen: dict[str, tuple[int, ...]] = field(default_factory=dict)

    async def walk(self) -> None:
        edge, environment = self.wired.edge, attempt()
        await self._count("accept", edge.database.write(_accept, self.id))
        prepare = PrepareIn(payment_id=self.id, amount=AMOUNT, settle_currency="CNY")
        prepared = await self._count("prepare", environment.run(Preparation(edge).prepare, prepare))
        assert prepared.plan is not None, prepared
        execute = ExecuteIn(effect_key=prepared.plan.effect_key)
        executed = await self._count("execute", environment.run(ProviderSteps(edge).execute, execute))
        assert executed.outcome is Outcome.APPROVED, executed
        await edge.database.write(_stage, self.id)
        settle = SettleIn(payment_id=self.id, provider="stripe", line_id=f"txn_{self.id}")
        settled = await self._count("settle", environment.run(SettleStep(edge).settle, settle))
        assert settled.status is Status.SETTLED, settled

    async def _count(self, step: str, taken: Awaitable[Result]) -> Result:
        with counted() as seen:
            result = await taken
        self.seen[step] = astuple(seen)[:3]
        return result


@pytest_asyncio.fixture
async def wired(
    database_url: str, key_ring: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Wiring]:
    """Our own wiring, with a provider and a market that answer at once."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    settings = load(data_dir=tmp_path, encryption_keys=key_ring.render(), market_day=EcbRates().newest_day())
    opened = instant.wire(settings)
    await opened.edge.database.write(merchants.create_merchant, MERCHANT, _now())
    yield opened
    await opened.close()


async def test_a_payment_asks_the_database_so_often_and_no_more(wired: Wiring) -> None:
    first, second = Payment(wired, "pay_1"), Payment(wired, "pay_2")
    await first.walk()
    await second.walk()
    turns = {} if wired.edge.database.is_sqlite else TURNS_TAKEN
    expected = {step: (*own[:2], own[2] + turns.get(step, 0)) for step, own in STEPS.items()}
    assert second.seen == expected
    assert first.seen == expected, "the first of a merchant costs what any other costs"


def _accept(connection: Connection, payment_id: str) -> None:
    new = NewPayment(
        id=payment_id,
        merchant_id=MERCHANT.id,
        amount=AMOUNT,
        settle_currency="CNY",
        source_country="DE",
        destination_country="CN",
        payment_token="pm_card_visa",
        instrument="card_1",
    )
    idempotency.claim(connection, new.merchant_id, new.id, "0" * 64, new.id, _now())
    payments.accept(connection, new, _now())


def _stage(connection: Connection, payment_id: str) -> None:
    told: dict[str, Any] = {
        "line_id": f"txn_{payment_id}", "batch_id": "po_1", "kind": "charge", "provider_kind": "charge",
        "provider_reference": None, "effect_key": f"{payment_id}:sale:1", "payment_id": payment_id,
        "gross": AMOUNT, "fee": FEE, "net": AMOUNT - FEE, "converted_from": None, "rate": None,
        "available_at": _now(), "created_at": _now(),
    }  # fmt: skip
    settlement.stage(connection, "stripe", [SettlementLine(**told)], [], "po_1", _now())


def _now() -> datetime:
    return datetime.now(UTC)
