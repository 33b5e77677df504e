"""What counts as recovery: from the last fault on, and of those payments for which something of ours had to recover."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection, insert

from corridor.domain.money import Money
from corridor.ledger import rules, seal, store
from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.embedded import EmbeddedSandbox
from corridor.storage.database import Database
from corridor.storage.tables import settlement_batches
from tests.chaos import liveness
from tests.chaos.liveness import OWNED, Moving, Recovery
from tests.chaos.run import LATE_SECONDS, late
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


def test_what_the_provider_had_paid_out_waits_for_our_import() -> None:
    found = Recovery(THEN)
    found.note({"pay_open": "captured", "pay_taken": "captured"}, 1.0)
    found.owe(["pay_taken", "pay_open", "pay_of_another_day"])
    assert "pay_taken" not in found.decided
    found.note({"pay_open": "captured", "pay_taken": "captured"}, 70.0)
    assert "pay_taken" not in found.decided, "an import that stands still is nobody else's"
    found.note({"pay_open": "captured"}, 80.0)
    assert set(found.waited_for_us) == {"pay_open", "pay_held", "pay_taken"}
    assert found.recovered == {"pay_open": 1.0, "pay_held": 1.0, "pay_taken": 80.0}


def test_what_was_booked_before_we_asked_is_decided_then() -> None:
    found = Recovery(THEN)
    found.note({"pay_open": "captured"}, 3.0)
    found.owe(["pay_taken"])
    assert found.recovered["pay_taken"] == 3.0


async def test_payments_that_were_paid_out_are_found_in_the_payouts_that_we_do_not_have(
    database: Database, tmp_path: Path
) -> None:
    with EmbeddedSandbox(SandboxConfig(port=0, data_dir=tmp_path / "sandbox")) as sandbox:
        async with httpx.AsyncClient(base_url=sandbox.url, timeout=10, trust_env=False) as client:
            assert await liveness.paid_out(database, client, "sk_test_1", time.time()) == set()
            for payment_id in ("pay_1", "pay_2"):
                await _sale(client, payment_id)
            (payout,) = (await client.post("/control/settle")).json()["payouts"]
            await _sale(client, "pay_3")
            assert await liveness.paid_out(database, client, "sk_test_1", time.time()) == {"pay_1", "pay_2"}
            assert await liveness.paid_out(database, client, "sk_test_1", time.time() - 3_600) == set()
            await database.write(_imported, payout)
            assert await liveness.paid_out(database, client, "sk_test_1", time.time()) == set()


async def _sale(client: httpx.AsyncClient, payment_id: str) -> None:
    form = {
        "amount": "1099", "currency": "eur", "confirm": "true", "payment_method": "pm_card_visa",
        "capture_method": "automatic", "metadata[corridor_payment]": payment_id,
    }  # fmt: skip
    headers = {"Authorization": "Bearer sk_test_1"}
    (await client.post("/stripe/v1/payment_intents", data=form, headers=headers)).raise_for_status()


def _imported(connection: Connection, batch_id: str) -> None:
    connection.execute(
        insert(settlement_batches).values(
            provider="stripe", batch_id=batch_id, state="imported", currency="EUR", total_minor=1, arrives_at=AT,
            created_at=AT,
        )
    )  # fmt: skip


NOTHING = Moving(payments={}, refunds=0, webhooks=0, scheduled=7, payouts=0, provider_webhooks=0)


def test_what_waits_for_its_schedule_does_not_move_and_all_else_does() -> None:
    assert NOTHING.is_nothing
    for moving in (
        replace(NOTHING, payments={"pay_1": "processing"}),
        replace(NOTHING, refunds=1),
        replace(NOTHING, webhooks=1),
        replace(NOTHING, payouts=1),
        replace(NOTHING, provider_webhooks=1),
    ):
        assert not moving.is_nothing
        assert len(list(moving.left())) == 1


def test_payments_that_settled_late_are_looked_into_though_they_were_captured_at_once() -> None:
    found = Recovery(THEN)
    found.note({"pay_taken": "captured", "pay_held": "authorized"}, LATE_SECONDS + 1)
    found.note({"pay_held": "authorized"}, LATE_SECONDS + 2)
    found.left = replace(NOTHING, payments={"pay_held": "authorized"})
    assert found.decided["pay_taken"] == 0.0
    assert late(found) == ["pay_held", "pay_open", "pay_asked", "pay_taken"]


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
