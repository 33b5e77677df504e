"""When something becomes a fact: an intent before its call, an outcome with its posting, the first proof for good."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from sqlalchemy import Connection
from temporalio.testing import ActivityEnvironment

from activities import recording
from activities.contracts import ExecuteIn, PrepareIn
from activities.preparation import Preparation
from activities.provider_steps import ProviderSteps
from corridor.domain.effect import FrozenRequest, Operation
from corridor.domain.money import Money
from corridor.domain.outcome import Evidence, Outcome, ProviderAnswer
from corridor.storage import effects, refunds
from corridor.storage.database import Database
from tests.fakes.temporal import attempt
from tests.workflows import books
from tests.workflows.world import BriefStripe, World, now

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_no_call_is_made_for_an_effect_that_is_not_committed(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies in the middle of a call must leave a row that says which call it was."""
    send, committed = BriefStripe.send, []

    async def after_a_look(
        self: BriefStripe, key: str, operation: Operation, request: FrozenRequest
    ) -> ProviderAnswer:
        row = await here.database.read(effects.find, key)
        committed.append(row is not None and effects.request(row) == request)
        return await send(self, key, operation, request)

    monkeypatch.setattr(BriefStripe, "send", after_a_look)
    payment = await here.authorize()
    await here.capture(payment.id)
    await here.refund(payment.id, 1_000)
    assert len(committed) >= 3 and all(committed)


async def test_after_every_single_commit_effects_postings_and_events_agree(
    everywhere: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it does not matter between which two commits a process dies."""
    write = Database.write
    commits: list[Callable[..., Any]] = []
    wrong: list[str] = []

    async def then_looked_at(self: Database, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = await write(self, work, *args, **kwargs)
        commits.append(work)
        wrong.extend(f"after {work.__name__}: {one}" for one in await self.read(_disagreements))
        return result

    monkeypatch.setattr(Database, "write", then_looked_at)
    payment = await everywhere.authorize()
    await everywhere.capture(payment.id, 4_000)
    await everywhere.refund(payment.id, 1_000)
    await everywhere.settle()
    await everywhere.until(payment.id, "settled")
    assert wrong == []
    assert len(commits) > 10


def _disagreements(connection: Connection) -> list[Any]:
    return [
        *books._unposted(connection),
        *books._wrong_totals(connection),
        *books._gaps(connection),
        *books._left_open(connection),
    ]


@pytest.mark.parametrize("late", [Outcome.PENDING, Outcome.UNKNOWN, Outcome.DECLINED, Outcome.NOT_SENT])
async def test_an_answer_that_comes_after_the_proof_changes_nothing(here: World, late: Outcome) -> None:
    payment = await here.pay()
    answer = ProviderAnswer(outcome=late, evidence=Evidence(seen_at=now()))
    deadlines = here.wired.edge.deadlines("stripe")
    executed = await here.database.write(
        recording.record_answer, f"{payment.id}:sale:1", answer, now(), deadlines
    )
    assert (executed.outcome, executed.status) == (Outcome.APPROVED, "captured")
    assert await here.payment(payment.id) == payment
    assert await here.effects(payment.id) == [("sale:1", "approved")]


async def test_an_approval_of_what_was_proven_never_sent_is_said_aloud_and_books_nothing(here: World) -> None:
    here.without_keys()
    await here.plant("reset_before_effect", times=2)
    payment = await here.pay()
    assert payment.status_reason == "not_sent"
    reference = f"pi_of_{payment.id}"
    evidence = Evidence(seen_at=now())
    late = ProviderAnswer(outcome=Outcome.APPROVED, evidence=evidence, provider_reference=reference)
    key, deadlines = f"{payment.id}:sale:1", here.wired.edge.deadlines("stripe")
    with structlog.testing.capture_logs() as lines:
        executed = await here.database.write(recording.record_answer, key, late, now(), deadlines)
    assert (executed.outcome, executed.status) == (Outcome.NOT_SENT, "failed")
    assert await here.payment(payment.id) == payment
    told = [(line["log_level"], line["effect_key"], line["provider_reference"]) for line in lines]
    assert told == [("error", key, reference)]


async def test_the_events_of_what_went_as_it_should_contradict_nothing(here: World) -> None:
    """Whoever is called for nothing looks away the next time."""
    await here.pay("pm_card_visa_chargeDeclined")
    authorized = await here.authorize()
    await here.capture(authorized.id, 4_000)
    await here.cancel((await here.authorize()).id)
    challenged = await here.pay("pm_card_threeDSecure2Required")
    await here.finish_challenge(challenged.id)
    await here.route_webhooks()
    await here.until(challenged.id, "captured")
    here.without_keys()
    await here.plant("reset_before_effect")
    again = await here.pay()
    assert await here.effects(again.id) == [("sale:1", "not_sent"), ("sale:2", "approved")]
    refunded = await here.pay("pm_card_refundFail")
    refund = await here.refund(refunded.id, 2_000)
    (await here.control.post("/control/clock", json={"advance_seconds": 5})).raise_for_status()
    with structlog.testing.capture_logs() as lines:
        assert await here.route_webhooks() > 0
    async with asyncio.timeout(20):
        while (await here.database.read(refunds.load, refund.id)).status != "failed":
            await asyncio.sleep(0.1)
    assert [line for line in lines if line["log_level"] == "error"] == []


async def test_a_call_that_a_shutdown_breaks_off_proves_nothing(here: World) -> None:
    """The worker went before the answer came; the provider has the money, and the next worker finds out."""
    payment_id = await here.accept()
    wanted = PrepareIn(payment_id=payment_id, amount=Money(10_000, "EUR"), settle_currency="CNY")
    prepared = await ActivityEnvironment().run(Preparation(here.wired.edge).prepare, wanted)
    assert prepared.plan is not None
    await here.plant("timeout_after_effect")
    worker = attempt()
    step = ExecuteIn(effect_key=prepared.plan.effect_key)
    calling = asyncio.ensure_future(worker.run(ProviderSteps(here.wired.edge).execute, step))
    async with asyncio.timeout(30):
        while not await here.fired():
            await asyncio.sleep(0.02)
    worker.worker_shutdown()
    worker.cancel()
    await asyncio.wait([calling])
    await here.start(payment_id)
    assert (await here.payment(payment_id)).status == "captured"
    assert await here.effects(payment_id) == [("sale:1", "approved")]
