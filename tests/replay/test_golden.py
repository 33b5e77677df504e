"""The replay gate: every golden history fits this build, and means what it meant when it was recorded."""

from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

from activities.contracts import EffectPlan, Executed
from corridor.runtime.keys import KeyRing
from corridor.runtime.replay import Verdict
from tests.replay import gate, golden
from tests.replay.golden import RING, Golden
from tests.replay.scenarios import SCENARIOS
from workers import wiring
from workflows import outcome

pytestmark = pytest.mark.asyncio(loop_scope="session")

HISTORIES = golden.all_of_them()
each_history = pytest.mark.parametrize("history", HISTORIES, ids=lambda golden_one: golden_one.name)


@each_history
async def test_the_history_replays_on_this_build(history: Golden) -> None:
    verdict = await gate.replayed(history.history)
    assert verdict.verdict is Verdict.FITS, verdict.reason


@each_history
async def test_the_history_rebuilds_the_ledger_and_the_result(history: Golden) -> None:
    assert await golden.postings(history.history, golden.converter()) == history.expected["postings"]
    assert await golden.result_of(history.history, golden.converter()) == history.expected["result"]


@each_history
async def test_this_build_asks_for_the_same_steps_with_the_same_arguments(history: Golden) -> None:
    """A bare replay does not see a changed argument, timeout or result."""
    recorder = gate.Recorder()
    await gate.replayed(history.history, recorder=recorder)
    assert gate.said(recorder.commands) == gate.said(history.expected["commands"])
    assert gate.said(gate.plain(recorder.result)) == gate.said(history.expected["result"])
    told = [
        gate.said(step.given)
        for step in await golden.steps(history.history, golden.converter())
        if step.given is not None
    ]
    asked = [gate.said(command["input"][0]) for command in recorder.commands if command["kind"] == "remote"]
    assert [given for given in told if given not in asked] == []


async def test_every_scenario_and_every_workflow_has_its_history() -> None:
    recorded = {history.scenario for history in HISTORIES if history.version == golden.VERSION}
    assert recorded == set(SCENARIOS)
    assert {history.workflow for history in HISTORIES} == {_name(workflow) for workflow in wiring.WORKFLOWS}


async def test_histories_written_under_an_old_key_replay_after_a_rotation() -> None:
    verdict = await gate.replayed(_scenario("happy").history, ring=RING.rotated())
    assert verdict.verdict is Verdict.FITS, verdict.reason


async def test_a_missing_key_is_not_taken_for_a_changed_workflow() -> None:
    verdict = await gate.replayed(_scenario("happy").history, ring=KeyRing("k2", {"k2": b"2" * 32}))
    assert verdict.verdict is Verdict.NOT_REPLAYABLE


async def test_two_swapped_commands_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate itself is tested: a build that looks an effect up before it sends it does not pass."""
    send = outcome._send

    async def look_then_send(plan: EffectPlan, may_be_under_way: bool) -> Executed | None:
        await outcome.look_once(plan)
        return await send(plan, may_be_under_way)

    assert (await gate.replayed(_scenario("unknown_found").history)).verdict is Verdict.FITS
    monkeypatch.setattr(outcome, "_send", look_then_send)
    verdict = await gate.replayed(_scenario("unknown_found").history)
    assert verdict.verdict is Verdict.NONDETERMINISTIC
    assert "TMPRL1100" in verdict.reason or "ondetermin" in verdict.reason


async def test_a_changed_argument_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay alone would let this pass: the last look would prove nothing, and no payment would ever be sent again."""
    look_once = outcome.look_once

    async def never_a_proof(plan: EffectPlan, absence_is_proof: bool = False) -> Executed:
        return await look_once(plan)

    monkeypatch.setattr(outcome, "look_once", never_a_proof)
    history = _scenario("unknown_not_found")
    recorder = gate.Recorder()
    assert (await gate.replayed(history.history, recorder=recorder)).verdict is Verdict.FITS
    assert gate.said(recorder.commands) != gate.said(history.expected["commands"])


async def test_no_golden_history_holds_a_readable_payload() -> None:
    for history in HISTORIES:
        for event in history.history.events:
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                (payload,) = event.workflow_execution_started_event_attributes.input.payloads
                assert payload.metadata["encoding"] == b"binary/encrypted"


def _scenario(name: str) -> Golden:
    (found,) = [
        history for history in HISTORIES if history.scenario == name and history.version == golden.VERSION
    ]
    return found


def _name(workflow: type) -> Any:
    return vars(workflow)["__temporal_workflow_definition"].name
