"""Operators' acts where Temporal answers: commands that worked, were cut off or refused, and the decision of a review."""

import asyncio
from typing import Any

import pytest
from temporalio.client import ScheduleActionStartWorkflow, ScheduleHandle

import workers.resume
from api.cli import deploy, resume
from api.cli.acts import whoever_runs_this
from api.cli.exit_codes import ExitCode
from corridor.domain.money import Money
from corridor.runtime.keys import KeyRing
from corridor.storage import operator_acts, reviews
from corridor.storage.database import DatabaseUnavailable
from tests.workflows.world import World
from workflows import names

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def given(here: World, key_ring: KeyRing, imports: ScheduleHandle) -> dict[str, Any]:
    """The operator's settings lead to the same database and the same Temporal, whose schedules were lost."""
    _, _, port = here.client.service_client.config.target_host.rpartition(":")
    return {"temporal_port": int(port), "encryption_keys": key_ring.render()}


async def told(here: World) -> list[tuple[str, str, str | None, dict[str, Any]]]:
    acts = await here.database.read(operator_acts.since, None)
    return [(it.who, it.command, it.outcome, it.result) for it in acts]


async def test_a_resume_is_on_record_with_what_it_found(here: World, given: dict[str, Any]) -> None:
    await here.authorize()
    assert await asyncio.to_thread(resume.run, given, as_json=True) is ExitCode.OK
    found = {"started": 0, "left running": 1}
    assert await told(here) == [(whoever_runs_this(), "resume", "ok", found)]


async def test_after_a_resume_payouts_are_imported_again(
    given: dict[str, Any], imports: ScheduleHandle
) -> None:
    """The schedule was in the lost Temporal alone, and workers that lived on look for it once a minute only."""
    assert await asyncio.to_thread(resume.run, given, as_json=True) is ExitCode.OK
    action = (await imports.describe()).schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    assert (action.workflow, action.task_queue) == (names.SETTLEMENT, names.SETTLEMENT_QUEUE)


async def test_a_resume_that_loses_its_database_says_what_it_had_started(
    here: World, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = await here.authorize()
    await here.handle(lost.id).terminate("the server was lost")
    pages = workers.resume._page

    def away_at_the_second_table(*arguments: Any) -> list[str]:
        if arguments[1].name != "payments":
            raise DatabaseUnavailable("ConnectionResetError")
        return pages(*arguments)

    monkeypatch.setattr(workers.resume, "_page", away_at_the_second_table)
    assert await asyncio.to_thread(resume.run, given, as_json=True) is ExitCode.UNAVAILABLE
    said = capsys.readouterr().err
    assert "1 were started and go on, 0 were running" in said
    assert "nothing" not in said
    ((_, _, outcome, result),) = await told(here)
    assert outcome is not None
    assert (outcome.startswith("failed"), result) == (True, {"started": 1, "left running": 0})


async def test_an_adoption_that_was_refused_is_on_record_with_its_reason(
    here: World, given: dict[str, Any]
) -> None:
    named = {**given, "operator": "alice"}
    code = await asyncio.to_thread(deploy.adopt, named, "no-such-build", force=False)
    assert code is ExitCode.NOT_FOUND
    assert await told(here) == [("alice", "deploy adopt", "failed: not_found", {})]


async def test_a_decision_is_on_record_under_the_operators_key(everywhere: World) -> None:
    payment = await everywhere.pay(amount=Money(600_000, "EUR"))
    await everywhere.decide(payment.id, "approve")
    await everywhere.until(payment.id, "captured")
    (row,) = await everywhere.database.read(operator_acts.since, None)
    assert (row.command, row.outcome, row.words["decision"]) == ("review decide", "ok", "approve")
    review = await everywhere.database.read(reviews.get, row.words["review"])
    assert review.payment_id == payment.id
    assert (row.who, row.at) == (review.decided_by, review.decided_at)
