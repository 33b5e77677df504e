"""The settlement import: rows that are bad, nobody's, or told twice; imports that run side by side."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select
from temporalio.client import WorkflowFailureError
from temporalio.testing import ActivityEnvironment

from activities.contracts import BatchesIn, BatchIn, ImportPageIn, PrepareIn, SettleIn
from activities.preparation import Preparation
from activities.settle_step import SettleStep
from activities.settlement_steps import SettlementSteps, Tidings
from corridor.domain.failure import Refusal, Refused
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.settlement import BadRow, SettlementBatch, SettlementPage
from corridor.ledger import store
from corridor.providers.port import LookUpFailed
from corridor.storage import settlement
from corridor.storage.ledger_tables import postings
from corridor.storage.tables import settlement_batches, settlement_lines
from corridor.storage.webhook_endpoints import MOST_ENDPOINTS
from tests.workflows.world import BriefStripe, World, now
from workers import fleet
from workflows import names
from workflows.messages import SettlementStart

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch) -> int:
    """So many slots for steps of our own have the workers of `here`, where a test asks for this first."""
    narrow = 20
    monkeypatch.setattr(fleet, "CORE_SLOTS", narrow)
    return narrow


async def test_a_bad_row_costs_no_good_one(everywhere: World, monkeypatch: pytest.MonkeyPatch) -> None:
    payment = await everywhere.pay()
    original = BriefStripe.settlement_page

    async def with_a_bad_row(self: BriefStripe, batch_id: str, cursor: str | None) -> SettlementPage:
        page = await original(self, batch_id, cursor)
        bad = BadRow(line_id="txn_broken", reason="amount is not an integer", raw="{}")
        return page.model_copy(update={"bad_rows": (*page.bad_rows, bad)})

    monkeypatch.setattr(BriefStripe, "settlement_page", with_a_bad_row)
    await everywhere.settle()
    await everywhere.until(payment.id, "settled")
    assert await everywhere.database.read(_lines, "bad") == ["txn_broken"]


async def test_a_report_that_was_read_before_it_was_complete_is_read_again(
    everywhere: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its control total says that a row is missing; the payment of that row must not wait for ever."""
    payments = [await everywhere.pay() for _ in range(2)]
    original, hidden = BriefStripe.settlement_page, []

    async def without_one_row(self: BriefStripe, batch_id: str, cursor: str | None) -> SettlementPage:
        page = await original(self, batch_id, cursor)
        hidden[:] = hidden or [line.line_id for line in page.lines if line.kind == "charge"][:1]
        shown = tuple(line for line in page.lines if line.line_id not in hidden)
        return page.model_copy(update={"lines": shown})

    monkeypatch.setattr(BriefStripe, "settlement_page", without_one_row)
    await everywhere.settle()
    statuses = [(await everywhere.payment(it.id)).status for it in payments]
    assert statuses.count("captured") >= 1
    monkeypatch.undo()
    await everywhere.import_settlement()
    for payment in payments:
        await everywhere.until(payment.id, "settled")
    assert await everywhere.database.read(_states_of, hidden) == ["imported"]


@pytest.mark.parametrize(
    "trouble",
    [LookUpFailed("the provider does not answer"), Refused(Refusal.NOT_FOUND, "no such thing")],
    ids=["unanswered", "refused"],
)
async def test_a_payout_that_cannot_be_read_holds_up_no_other(
    here: World, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """Neither one that is asked for again and again, nor one that fails at once; the next run has it again."""
    paid = [(await here.pay(amount=Money(10_000, currency))).id for currency in ("EUR", "USD")]
    original, unreadable = BriefStripe.settlement_page, []

    async def the_first_fails(self: BriefStripe, batch_id: str, cursor: str | None) -> SettlementPage:
        unreadable[:] = unreadable or [batch_id]
        if batch_id in unreadable:
            raise trouble
        await asyncio.sleep(1)
        return await original(self, batch_id, cursor)

    monkeypatch.setattr(BriefStripe, "settlement_page", the_first_fails)
    (await here.control.post("/control/settle")).raise_for_status()
    importing = asyncio.create_task(here.import_settlement())
    async with asyncio.timeout(30):
        while [(await here.payment(it)).status for it in paid].count("settled") != 1:
            await asyncio.sleep(0.1)
    if isinstance(trouble, Refused):
        with pytest.raises(WorkflowFailureError) as ended:
            await importing
        assert unreadable[0] in str(ended.value.cause), "the run says which payout it left"
    monkeypatch.undo()
    await (here.import_settlement() if importing.done() else importing)
    for it in paid:
        await here.until(it, "settled")


async def test_merchants_who_never_answer_hold_up_no_settlement(slots: int, here: World) -> None:
    """More webhooks hang than the core queue has slots for steps of our own."""
    hanging: set[asyncio.StreamWriter] = set()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hanging.add(writer)
        while await reader.read(4096):
            pass
        hanging.remove(writer)
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        host, port = silent.sockets[0].getsockname()
        for _ in range(MOST_ENDPOINTS):
            await here.subscribe(("payment.captured",), url=f"http://{host}:{port}/")
        for _ in range(slots // MOST_ENDPOINTS):
            await here.pay()
        payment = await here.pay()
        async with asyncio.timeout(60):
            while len(hanging) <= slots:
                deliveries = await here.dispatch()
        await here.settle()
        assert len(hanging) > slots, "they hang still"
        await here.until(payment.id, "settled")
        for delivery_id in deliveries:
            delivery = here.client.get_workflow_handle(names.delivery_workflow_id(delivery_id))
            await delivery.terminate("nobody will ever answer")
        for writer in hanging:
            writer.transport.abort()


async def test_payments_that_hold_every_worker_of_theirs_hold_up_no_settlement(
    slots: int, here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an outage: more payments go on at once than the core queue's workers have slots."""
    paid = await here.pay()
    original, asking, may_go_on = Preparation._ask_the_market, set[str](), asyncio.Event()

    async def ask_later(self: Preparation, wanted: PrepareIn, at: datetime) -> Any:
        asking.add(wanted.payment_id)
        await may_go_on.wait()
        return await original(self, wanted, at)

    monkeypatch.setattr(Preparation, "_ask_the_market", ask_later)
    waiting = [await here.accept() for _ in range(slots + 10)]
    starts = [asyncio.create_task(here.start(it)) for it in waiting]
    try:
        async with asyncio.timeout(60):
            while len(asking) < slots:
                await asyncio.sleep(0.1)
            await here.settle()
        assert not any(start.done() for start in starts), "they hold their workers still"
    finally:
        may_go_on.set()
        await asyncio.gather(*starts)
    await here.until(paid.id, "settled")


async def test_an_import_that_began_on_the_payments_queue_ends_there(here: World) -> None:
    """By a schedule of an earlier release."""
    payment = await here.pay()
    (await here.control.post("/control/settle")).raise_for_status()
    await here.client.execute_workflow(
        names.SETTLEMENT,
        SettlementStart(provider="stripe"),
        id=f"settlement-{payment.id}",
        task_queue=names.CORE_QUEUE,
    )
    await here.until(payment.id, "settled")


async def test_a_charge_that_is_nobodys_waits_in_suspense(here: World) -> None:
    """Somebody collected with our account at the provider and without us."""
    form = {
        "amount": "700",
        "currency": "eur",
        "confirm": "true",
        "payment_method": "pm_card_visa",
        "automatic_payment_methods[enabled]": "true",
        "automatic_payment_methods[allow_redirects]": "never",
    }
    (
        await here.control.post(
            "/stripe/v1/payment_intents", data=form, headers={"authorization": "Bearer sk_test_x"}
        )
    ).raise_for_status()
    payment = await here.pay()
    await here.settle()
    await here.until(payment.id, "settled")
    assert len(await here.database.read(_lines, "unmatched")) == 1
    assert await here.database.read(_count, "adjustment") == 1
    here.strangers.append(("authorise", 700, "EUR"))
    here.strangers.append(("capture", 700, "EUR"))


async def test_a_refund_of_another_installation_holds_up_no_settlement(here: World) -> None:
    """A second stack on the same account, or a database that is older: its rows name refunds that are not here."""
    theirs = new_id(Prefix.REFUND, now())
    sold = {
        "amount": "700",
        "currency": "eur",
        "confirm": "true",
        "payment_method": "pm_card_refundFail",
        "automatic_payment_methods[enabled]": "true",
        "automatic_payment_methods[allow_redirects]": "never",
    }
    key = {"authorization": "Bearer sk_test_x"}
    intent = await here.control.post("/stripe/v1/payment_intents", data=sold, headers=key)
    back = {"payment_intent": intent.json()["id"], "metadata[corridor_effect]": f"{theirs}:refund:1"}
    (await here.control.post("/stripe/v1/refunds", data=back, headers=key)).raise_for_status()
    (await here.control.post("/control/clock", json={"advance_seconds": 5})).raise_for_status()
    payment = await here.pay()
    await here.settle()
    await here.until(payment.id, "settled")
    assert len(await here.database.read(_lines, "unmatched")) == 3
    assert await here.database.read(_count, "refund_settled") == 0
    for effect in ("authorise", "capture", "refund", "refund_failed"):
        here.strangers.append((effect, 700, "EUR"))


async def test_two_signals_of_one_row_make_one_posting(here: World) -> None:
    payment = await here.pay()
    (await here.control.post("/control/settle")).raise_for_status()
    steps = SettlementSteps(here.wired.edge, _nobody(here), _nobody(here))
    (batch_id,) = (
        await ActivityEnvironment().run(steps.find_batches, BatchesIn(provider="stripe"))
    ).batch_ids
    await ActivityEnvironment().run(steps.import_page, ImportPageIn(provider="stripe", batch_id=batch_id))
    (line_id,) = await here.database.read(_charge_lines)
    fact = {"provider": "stripe", "line_id": line_id}
    await asyncio.gather(*(here.handle(payment.id).signal("settlement_fact", fact) for _ in range(3)))
    await here.until(payment.id, "settled")
    assert await here.database.read(_count, "settle") == 1


async def test_two_imports_at_once_book_every_row_once(everywhere: World) -> None:
    paid = await asyncio.gather(*(everywhere.pay() for _ in range(3)))
    await everywhere.refund(paid[0].id, 1_000)
    (await everywhere.control.post("/control/settle")).raise_for_status()
    await asyncio.gather(everywhere.import_settlement(), everywhere.import_settlement())
    for payment in paid:
        await everywhere.until(payment.id, "settled")
    await everywhere.import_settlement()
    assert await everywhere.database.read(_count, "settle") == 3
    assert await everywhere.database.read(_batch_states) == {"imported"}


async def test_a_payment_that_is_settled_before_its_capture_is_known_is_looked_up_and_settled(
    here: World,
) -> None:
    here.without_keys()
    await here.plant("timeout_after_effect")
    await here.plant("status", "payment_intents.list", times=1000, status=503)
    payment = await here.pay()
    assert payment.status == "requires_review"
    await here.heal()
    await here.settle()
    payment = await here.until(payment.id, "settled")
    assert payment.settled_minor > 0


async def test_a_payment_in_another_currency_than_the_account_settles_at_what_the_provider_paid(
    here: World,
) -> None:
    payment = await here.pay(amount=Money(50_000, "THB"))
    assert payment.status == "captured", payment.status_reason
    await here.settle()
    await here.until(payment.id, "settled")


def _states_of(connection: Connection, lines: list[str]) -> list[str]:
    """Of the batches that these rows are in."""
    of = select(settlement_lines.c.batch_id).where(settlement_lines.c.line_id.in_(lines))
    query = select(settlement_batches.c.state).where(settlement_batches.c.batch_id.in_(of))
    return list(connection.execute(query).scalars())


def _lines(connection: Connection, state: str) -> list[str]:
    query = select(settlement_lines.c.line_id).where(settlement_lines.c.state == state)
    return list(connection.execute(query).scalars())


def _charge_lines(connection: Connection) -> list[str]:
    query = select(settlement_lines.c.line_id).where(settlement_lines.c.kind == "charge")
    return list(connection.execute(query).scalars())


def _count(connection: Connection, kind: str) -> int:
    query = select(func.count()).select_from(postings).where(postings.c.kind == kind)
    return int(connection.execute(query).scalar_one())


def _batch_states(connection: Connection) -> set[str]:
    return set(connection.execute(select(settlement_batches.c.state)).scalars())


async def test_a_second_row_of_a_settled_payment_waits_in_suspense(here: World) -> None:
    payment = await here.pay()
    (await here.control.post("/control/settle")).raise_for_status()
    told = Tidings(here.client, names.payment_workflow_id(""), names.SETTLEMENT_FACT)
    steps = SettlementSteps(here.wired.edge, told, _nobody(here))
    run = ActivityEnvironment().run
    (batch_id,) = (await run(steps.find_batches, BatchesIn(provider="stripe"))).batch_ids
    await run(steps.import_page, ImportPageIn(provider="stripe", batch_id=batch_id))
    await here.database.write(_add_twin_of_the_charge)
    await run(steps.close_batch, BatchIn(provider="stripe", batch_id=batch_id))
    await here.until(payment.id, "settled")
    await here.handle(payment.id).result()
    assert (await here.database.read(_count, "settle"), await here.database.read(_count, "adjustment")) == (
        1,
        1,
    )
    assert len(await here.database.read(_lines, "unmatched")) == 1
    assert await here.database.read(_lines, "signaled") == []


async def test_a_row_told_to_a_payment_that_ended_without_it_waits_in_suspense(here: World) -> None:
    failed = await here.pay("pm_card_visa_chargeDeclined")
    await here.pay()
    (await here.control.post("/control/settle")).raise_for_status()
    steps = SettlementSteps(here.wired.edge, _nobody(here), _nobody(here))
    run = ActivityEnvironment().run
    (batch_id,) = (await run(steps.find_batches, BatchesIn(provider="stripe"))).batch_ids
    await run(steps.import_page, ImportPageIn(provider="stripe", batch_id=batch_id))
    (line_id,) = await here.database.read(_charge_lines)
    wanted = SettleIn(payment_id=failed.id, provider="stripe", line_id=line_id)
    first = await run(SettleStep(here.wired.edge).settle, wanted)
    again = await run(SettleStep(here.wired.edge).settle, wanted)
    assert first == again and first.status == "failed"
    assert [posting.kind for posting in first.postings] == ["adjustment"]
    assert await here.database.read(_lines, "unmatched") == [line_id]
    assert (await here.database.read(store.balance, "suspense/EUR")).minor == -10_000


async def test_a_payout_paid_long_after_it_was_made_is_still_looked_for(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A payout is listed by its creation, but is complete only when paid: behind newer ones that were quicker."""
    made = now()
    newer = SettlementBatch(
        batch_id="po_newer", total=Money(1, "EUR"), status="paid", arrives_at=made, created_at=made
    )
    await here.database.write(settlement.know_batch, "stripe", newer)
    slow = newer.model_copy(update={"batch_id": "po_slow", "created_at": made - timedelta(days=10)})

    async def batches(_: BriefStripe, since: datetime) -> tuple[SettlementBatch, ...]:
        return tuple(batch for batch in (slow, newer) if batch.created_at >= since)

    monkeypatch.setattr(BriefStripe, "settlement_batches", batches)
    steps = SettlementSteps(here.wired.edge, _nobody(here), _nobody(here))
    found = await ActivityEnvironment().run(steps.find_batches, BatchesIn(provider="stripe"))
    assert "po_slow" in found.batch_ids


def _add_twin_of_the_charge(connection: Connection) -> None:
    row = connection.execute(select(settlement_lines).where(settlement_lines.c.kind == "charge")).one()
    twin = {**row._asdict(), "line_id": "txn_twin", "body": {**row.body, "line_id": "txn_twin"}}
    connection.execute(insert(settlement_lines).values(**twin))


def _nobody(here: World) -> Tidings:
    """Tidings that reach no workflow."""
    return Tidings(here.client, "nobody-", "settlement_fact")
