"""What counts as recovery: from the last fault on, and of those payments for which something of ours had to recover."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from corridor.domain.money import Money
from corridor.ledger import rules, seal, store
from corridor.storage.database import Database
from tests.chaos import liveness
from tests.chaos.liveness import OWNED, Recovery
from tests.workflows.earlier import empty

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
THEN = {"pay_open": "processing", "pay_held": "authorized", "pay_taken": "captured", "pay_asked": OWNED}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(await empty(tmp_path / "corridor.db"))
    yield opened
    await opened.close()


def test_only_what_waited_for_us_has_recovered() -> None:
    found = Recovery(THEN)
    found.note({"pay_open": "processing", "pay_taken": "captured"}, 2.0)
    found.note({"pay_open": "captured", "pay_new": "processing"}, 4.0)
    found.note({}, 9.0)
    assert found.recovered == {"pay_held": 2.0, "pay_open": 4.0}
    assert found.decided == {**found.recovered, "pay_taken": 0.0, "pay_asked": 0.0}
    assert found.ended == {"pay_held": 2.0, "pay_asked": 2.0, "pay_taken": 4.0, "pay_open": 9.0}


def test_a_payment_that_was_open_and_is_still_under_way_has_not_recovered() -> None:
    found = Recovery(THEN)
    found.note(THEN, 30.0)
    assert found.recovered == {}


async def test_the_audit_waits_until_every_posting_is_in_the_chain(database: Database) -> None:
    sale = rules.capture("pay_1:capture:1", "pay_1", "mer_a", "stripe", Money(100, "EUR"))
    await database.write(store.post, sale, AT)
    waiting = asyncio.create_task(liveness.until_sealed(database))
    await asyncio.sleep(0)
    assert not waiting.done()
    await database.write(seal.seal, AT + seal.SETTLING)
    await waiting
    assert await database.read(liveness._unsealed) == 0


async def test_the_audit_does_not_wait_for_ever_for_a_sealer_that_never_comes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "SEALED_WITHIN_SECONDS", 0.0)
    sale = rules.capture("pay_1:capture:1", "pay_1", "mer_a", "stripe", Money(100, "EUR"))
    await database.write(store.post, sale, AT)
    await liveness.until_sealed(database)
    assert await database.read(liveness._unsealed) == 1
