"""What histories alone say, beside what the database holds: equal in every row, and a planted difference is named."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, select, text, update
from temporalio.client import WorkflowHandle

from activities.contracts import EXECUTE
from corridor.domain.accepted import Asked, NewPayment
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.posting import credit, debit, posting
from corridor.ledger import store
from corridor.runtime.histories import of_workflows
from corridor.storage import idempotency, payments
from corridor.storage.database import Database
from corridor.storage.ledger_tables import entries, postings
from corridor.storage.tables import payments as payment_table
from tests.replay import scenarios
from tests.workflows.earlier import copy_of, on
from tests.workflows.told import Told, read_declines_alone, told_since
from tests.workflows.world import World, now
from workers.histories import reading
from workers.rebuild import rebuild
from workers.rebuild.compare import TableReport
from workers.rebuild.fold import Books
from workers.rebuild.rebuild import Rebuilt
from workflows import names
from workflows.messages import ReviewCommand

CHANGE_A_LEG = (
    "UPDATE entries SET amount_minor = amount_minor + :by"
    " WHERE leg = 0 AND posting_id = (SELECT id FROM postings WHERE key = :key)"
)
DROP_THE_LEGS = "DELETE FROM entries WHERE posting_id = (SELECT id FROM postings WHERE key = :key)"

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _a_day(here: World) -> None:
    """Sale, manual capture, 3DS, declines, reviews, refunds of every fate, unknown outcomes, cancels, settlement."""
    promises = here.stripe.promises
    await _pay_with_a_key(here)
    for scenario in (
        scenarios.declined,
        scenarios.canceled,
        scenarios.review_approved,
        scenarios.review_declined,
        scenarios.refund,
        scenarios.refund_over_limit,
        scenarios.refund_came_back,
        scenarios.three_d_secure,
        scenarios.expired_quote,
        scenarios.unknown_found,
        scenarios.unknown_reviewed,
        scenarios.refund_not_sent,
    ):
        await scenario(here)
        here.stripe.promises = promises
        await here.heal()
    part = await here.authorize(merchant_reference="order-7", metadata={"basket": "42"})
    await here.capture(part.id, 6_000)
    for minor in (1_000, 2_500):
        await here.refund(part.id, minor)
    whole = await here.pay()
    await here.refund(whole.id, whole.amount_minor)
    await here.settle()
    await here.until(part.id, "settled")
    await here.until(whole.id, "settled")  # of nothing: zero, where one that has not settled has none
    await here.refund(part.id, 500)
    await here.pay()
    await here.settle()


async def _pay_with_a_key(here: World) -> None:
    """As the API accepts it: claim and row in one transaction, at one time."""
    at = now()
    new = NewPayment(
        id=new_id(Prefix.PAYMENT, at),
        merchant_id=here.merchant_id,
        amount=Money(10_000, "EUR"),
        settle_currency="CNY",
        source_country="DE",
        destination_country="CN",
        payment_token="pm_card_visa",
        instrument="buyer-1",
        asked=Asked(idempotency_key="order-1", fingerprint="f" * 64),
    )

    def accept(connection: Connection) -> None:
        idempotency.claim(connection, new.merchant_id, "order-1", "f" * 64, new.id, at)
        payments.accept(connection, new, at)

    await here.database.write(accept)
    await here.start(new.id)


@pytest.mark.timeout(300)
async def test_what_histories_say_is_what_the_database_holds(everywhere: World, tmp_path: Path) -> None:
    """Ledger, payments, refunds, events, effects, frozen answers and settlement rows: every row, every column."""
    began = now()
    await _a_day(everywhere)
    told = await told_since(everywhere, tmp_path, began)
    found = await told.compared()
    assert told.rebuilt.problems == []
    assert [str(difference) for table in found.tables for difference in table.differences] == []
    assert found.ahead == []
    assert told.rebuilt.holds
    compared = {table.table: table.equal for table in found.tables}
    assert min(compared.values()) >= 1, compared
    assert compared["payments"] >= 15
    assert compared["refunds"] >= 6
    await _each_history_read_twice_changes_nothing(told)


async def _each_history_read_twice_changes_nothing(told: Told) -> None:
    """Branches of a reset and resumed runs tell the same again."""
    books, client = told.rebuilt.books, told.here.client
    before = (len(books.postings), len(books.effects))
    ids = [f"payment-{object_id}" for object_id in books.payments]
    await rebuild.fold(of_workflows(client, ids), client.data_converter, told.rebuilt)
    assert (len(books.postings), len(books.effects)) == before
    assert books.conflicts == []
    assert (await told.compared()).holds


@pytest_asyncio.fixture(loop_scope="session")
async def told(here: World, tmp_path: Path) -> Told:
    """A short day: one capture, one refund, settled; its histories say what its database holds."""
    began = now()
    payment = await here.authorize()
    await here.capture(payment.id)
    await here.refund(payment.id, 1_000)
    await here.settle()
    await here.until(payment.id, "settled")
    found = await told_since(here, tmp_path, began)
    assert (await found.compared()).holds
    return found


async def test_a_changed_amount_in_the_live_ledger_is_named(told: Told) -> None:
    key = await told.here.database.read(_a_key, "%:capture:1")
    await _plant(told, CHANGE_A_LEG, "entries", by=1, key=key)
    (report,) = [table for table in (await told.compared()).tables if not table.holds]
    (difference,) = report.differences
    assert (difference.table, difference.key, difference.column) == ("entries", f"{key} 0", "amount_minor")
    assert int(difference.live) == int(difference.rebuilt) + 1
    await _plant(told, CHANGE_A_LEG, "entries", by=-1, key=key)
    assert (await told.compared()).holds


async def test_a_posting_the_live_ledger_lost_is_named(told: Told) -> None:
    key = await told.here.database.read(_a_key, "%:reserve")
    put_back = await told.here.database.read(_whole_posting, key)
    await _plant(told, DROP_THE_LEGS, "entries", key=key)
    await _plant(told, "DELETE FROM postings WHERE key = :key", "postings", key=key)
    by_name = {table.table: table for table in (await told.compared()).tables}
    assert _only(by_name["postings"]) == [(key, "absent")]
    assert {row for row, _ in _only(by_name["entries"])} == {f"{key} 0", f"{key} 1"}
    assert by_name["payments"].holds
    await told.here.database.write(put_back)
    assert (await told.compared()).holds


async def test_a_posting_no_history_tells_of_is_named(told: Told) -> None:
    pending = f"merchant/{told.here.merchant_id}/pending"
    seven = Money(7, "EUR")
    legs = [debit("clearing/stripe", seven), credit(pending, seven)]
    extra = posting("pay_nobody:extra:1", "capture", "pay_nobody", legs)
    await told.here.database.write(store.post, extra, now())
    by_name = {table.table: table for table in (await told.compared()).tables}
    (difference,) = by_name["postings"].differences
    assert (difference.key, difference.rebuilt) == ("pay_nobody:extra:1", "absent")
    assert by_name["postings"].only_live == 1
    balances = {difference.key for difference in by_name["account_balances"].differences}
    assert balances == {"clearing/stripe/EUR", f"{pending}/EUR"}


async def test_a_column_of_a_payment_that_was_changed_by_hand_is_named(told: Told) -> None:
    (payment_id,) = told.rebuilt.books.payments
    change = "UPDATE payments SET status_reason = 'no_route' WHERE id = :id"
    await _plant(told, change, "payments", id=payment_id)
    (report,) = [table for table in (await told.compared()).tables if not table.holds]
    (difference,) = report.differences
    assert str(difference) == f"payments {payment_id} status_reason: live no_route, rebuilt None"


async def test_what_is_not_rebuilt_is_said(told: Told) -> None:
    """Every table of the schema is compared or named with the reason why not."""
    found = await told.compared()
    named = {table.table for table in found.tables} | {name.partition(" ")[0] for name in found.not_rebuilt}
    every = set(payment_table.metadata.tables)
    assert every - named == {"accounts"}, "an account's row is its name, which entries and balances hold"


async def test_a_payment_the_histories_end_before_is_no_difference(told: Told) -> None:
    """An archive is older than the database: what went on since is counted apart."""
    payment = await told.here.pay()
    found = await told.compared()
    assert payment.id in found.ahead
    by_name = {table.table: table for table in found.tables}
    assert by_name["payments"].ahead == 1
    assert by_name["payments"].holds
    assert by_name["events"].ahead == 2


def _only(report: TableReport) -> list[tuple[str, str]]:
    return [(difference.key, difference.live) for difference in report.differences]


def _a_key(connection: Connection, pattern: str) -> str:
    query = select(postings.c.key).where(postings.c.key.like(pattern)).limit(1)
    return str(connection.execute(query).scalar_one())


def _whole_posting(connection: Connection, key: str) -> Callable[[Connection], None]:
    """Puts the posting back as it was, its row id and time included; balances were never touched."""
    head = dict(connection.execute(select(postings).where(postings.c.key == key)).mappings().one())
    legs = [
        dict(row)
        for row in connection.execute(select(entries).where(entries.c.posting_id == head["id"])).mappings()
    ]

    def put_back(into: Connection) -> None:
        into.execute(postings.insert().values(**head))
        into.execute(entries.insert(), legs)

    return put_back


async def _plant(told: Told, statement: str, table: str, **values: int | str) -> None:
    """Change an append-only table: its triggers are taken away first, as whoever tampers would."""

    def tamper(connection: Connection) -> None:
        for verb in ("update", "delete"):
            on = f" ON {table}" if connection.dialect.name == "postgresql" else ""
            connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_no_{verb}{on}"))
        connection.execute(text(statement), values)

    await told.here.database.write(tamper)


class Questions:
    """Counts what Temporal is asked about single workflows, and how many questions are under way at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        self.at_once = self._under_way = 0
        for question in ("describe", "fetch_history"):
            monkeypatch.setattr(WorkflowHandle, question, self._counted(getattr(WorkflowHandle, question)))
        monkeypatch.setattr(rebuild, "PAUSE_SECONDS", 0.01)

    def _counted(self, really: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def asked(*args: Any, **kwargs: Any) -> Any:
            self.counts[really.__name__] += 1
            self._under_way += 1
            self.at_once = max(self.at_once, self._under_way)
            try:
                return await really(*args, **kwargs)
            finally:
                self._under_way -= 1

        return asked


async def test_what_has_no_history_any_more_is_asked_for_once(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await here.authorize()
    expired = [await here.accept() for _ in range(3)]
    asked, found, converter = Questions(monkeypatch), Rebuilt(Books()), here.client.data_converter
    await rebuild.catch_up(found, here.database, lambda ids: of_workflows(here.client, ids), converter)
    assert set(found.books.payments) == {running.id}
    assert asked.counts == {"describe": len(expired) + 1, "fetch_history": 1}
    assert asked.at_once > 1


async def test_where_looking_again_brings_nothing_it_is_given_up(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of a terminated run may have committed and told no history."""
    payment = await here.authorize()
    ahead = copy_of(here.database.url, tmp_path / "ahead.db")
    asked, found, converter = Questions(monkeypatch), Rebuilt(Books()), here.client.data_converter
    async with on(here, ahead) as edge:
        await edge.database.write(_one_event_further, payment.id)
        await rebuild.catch_up(found, edge.database, lambda ids: of_workflows(here.client, ids), converter)
    assert set(found.books.payments) == {payment.id}
    assert asked.counts == {"describe": 3, "fetch_history": 3}, (
        "one that brought something, and two that did not"
    )


def _one_event_further(connection: Connection, payment_id: str) -> None:
    row = payment_table.c
    further = update(payment_table).where(row.id == payment_id).values(sequence=row.sequence + 1)
    connection.execute(further)


async def test_of_two_who_decide_at_once_the_first_is_told(here: World, tmp_path: Path) -> None:
    """Both commands are in the history before the step of either."""
    began = now()
    payment = await here.pay(amount=Money(600_000, "EUR"))
    review = await here.review(payment.id)
    both = (
        ReviewCommand(review_id=review.id, decision="approve", decided_by="ana", note="known buyer"),
        ReviewCommand(review_id=review.id, decision="decline", decided_by="ben", note="unknown buyer"),
    )
    handle = here.handle(payment.id)
    answers = [asyncio.create_task(handle.execute_update(names.DECIDE_REVIEW, one)) for one in both]
    await asyncio.wait(answers)
    await here.until(payment.id, "captured", "failed")
    found = await (await told_since(here, tmp_path, began)).compared()
    assert [str(difference) for table in found.tables for difference in table.differences] == []


async def test_what_this_build_cannot_read_is_left_out_whole_and_named(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its capture the ledger balances as well; so it would pass for whole."""
    began = now()
    captured, declined = await here.pay(), await here.pay("pm_card_chargeDeclined")
    read_declines_alone(monkeypatch)
    rebuilt = (await told_since(here, tmp_path, began)).rebuilt
    target = Database(f"sqlite:///{tmp_path / 'rebuilt.db'}")
    try:
        await rebuild.write(rebuilt, target, here.wired.edge.providers)
        assert not rebuilt.holds
        assert await target.read(payments.find, captured.id) is None
        assert (await target.read(payments.load, declined.id)).status == "failed"
    finally:
        await target.close()
    (problem,) = rebuilt.problems
    assert problem.startswith(f"payment-{captured.id}: ")
    assert "KnowsDeclines.outcome" in problem


async def test_a_step_of_a_newer_build_is_named_too(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = now()
    payment = await here.pay()
    older = {name: step for name, step in reading.STEPS.items() if name != EXECUTE.name}
    monkeypatch.setattr(reading, "STEPS", older)
    rebuilt = (await told_since(here, tmp_path, began)).rebuilt
    (problem,) = rebuilt.unread.values()
    assert problem.startswith(f"payment-{payment.id}: ")
    assert EXECUTE.name in problem


async def test_an_update_that_a_reset_brought_along_is_read_as_what_it_is(
    here: World, tmp_path: Path
) -> None:
    """In the new run it was admitted before it was accepted, and only the first of the two events has its request."""
    began = now()
    payment = await here.pay()
    refund = await here.refund(payment.id, 1_000)
    await here.reset_refund(refund.id)
    async with asyncio.timeout(20):
        while not await _is_answered(here.refund_handle(refund.id)):
            await asyncio.sleep(0.1)
    told = await told_since(here, tmp_path, began)
    assert told.rebuilt.unread == {}
    assert (await told.compared()).holds


async def _is_answered(handle: Any) -> bool:
    """The run is the newest, so the answer in it is the one after the reset."""
    events = (await handle.fetch_history()).events
    brought = any(it.HasField("workflow_execution_update_admitted_event_attributes") for it in events)
    return brought and any(
        it.HasField("workflow_execution_update_completed_event_attributes") for it in events
    )
