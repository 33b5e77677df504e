"""What is read out of a history, and what many of them say together."""

from dataclasses import replace
from typing import Any

import pytest

from activities.contracts import EXECUTE, PREPARE, SETTLE, Executed, ExecuteIn, Prepared, Settled, Step
from corridor.domain.outcome import Frozen
from corridor.domain.posting import Entry, Posting
from corridor.runtime.keys import KeyRing
from tests.replay import golden
from workers.histories import reading
from workers.histories.reading import Reading, Sealed
from workers.rebuild.fold import Books
from workflows.messages import CommandDone, PaymentAnswer, PaymentStart, ReviewCommand, SettlementFact


def _history(scenario: str) -> golden.Golden:
    (found,) = [it for it in golden.all_of_them() if (it.scenario, it.version) == (scenario, "v1")]
    return found


async def _read(scenario: str) -> Reading:
    return await reading.read(_history(scenario).history, golden.converter())


async def test_a_settled_payment_reads_as_typed_steps() -> None:
    told = await _read("happy")
    assert isinstance(told.start, PaymentStart)
    assert (told.ending, told.object_id, told.event_count) == ("completed", told.start.payment_id, 23)
    assert [step.name for step in told.steps] == [PREPARE.name, EXECUTE.name, SETTLE.name]
    assert [type(step.result) for step in told.steps] == [Prepared, Executed, Settled]
    assert [step.is_local for step in told.steps] == [True, False, True]
    (executed,) = told.of(EXECUTE)
    assert executed.given == ExecuteIn(effect_key=f"{told.object_id}:sale:1")
    assert executed.attempt == 1
    assert [type(signal.argument) for signal in told.signals] == [SettlementFact]
    (accept,) = told.updates
    assert isinstance(accept.answer, PaymentAnswer)
    assert isinstance(told.answer, PaymentAnswer)
    assert told.unread == ()


async def test_a_person_s_decision_reads_as_a_command_and_its_answer() -> None:
    told = await _read("review_approved")
    (decision,) = [update for update in told.updates if update.name == "decide_review"]
    assert isinstance(decision.argument, ReviewCommand)
    assert decision.argument.decision == "approve"
    assert isinstance(decision.answer, CommandDone)


async def test_a_running_workflow_has_no_answer_yet() -> None:
    told = await _read("unknown_found")
    assert (told.ending, told.is_closed, told.answer) == ("running", False, None)


async def test_without_the_key_nothing_is_read() -> None:
    converter = golden.converter(KeyRing("k2", {"k2": b"2" * 32}))
    with pytest.raises(Sealed, match="k1"):
        await reading.read(_history("happy").history, converter)


async def test_a_field_of_a_newer_build_is_kept_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class OldPrepared(Frozen):
        verdict: str

    older: dict[str, Step[Any, Any]] = {
        **reading.STEPS,
        PREPARE.name: Step(PREPARE.name, Frozen, OldPrepared),
    }
    monkeypatch.setattr(reading, "STEPS", older)
    told = await _read("happy")
    assert told.steps[0].result["verdict"] == "proceed"
    assert told.unread[0].startswith("event 6: OldPrepared.status")


async def test_one_fact_told_twice_counts_once_and_told_otherwise_is_a_conflict() -> None:
    told, books = await _read("happy"), Books()
    books.add(told)
    books.add(told)
    key = f"{told.object_id}:sale:1"
    assert (set(books.effects), books.conflicts) == ({key}, [])
    assert {key, f"{told.object_id}:settle:{_line(told)}"} == set(books.postings)
    books.add(replace(told, steps=tuple(_doubled(step) for step in told.steps)))
    assert len(books.conflicts) == 2
    assert books.conflicts[0].startswith(f"posting {key}: ")


async def test_histories_of_builds_that_told_less_are_named() -> None:
    told, books = await _read("happy"), Books()
    books.add(told)
    assert books.silent == {told.workflow_id}


def _line(told: Reading) -> str:
    return str(told.signals[0].argument.line_id)


def _doubled(step: reading.StepTaken) -> reading.StepTaken:
    made: tuple[Posting, ...] = getattr(step.result, "postings", ())
    changed = tuple(
        posting.model_copy(
            update={
                "entries": tuple(
                    Entry(account=leg.account, amount=leg.amount + leg.amount) for leg in posting.entries
                )
            }
        )
        for posting in made
    )
    return replace(step, result=step.result.model_copy(update={"postings": changed})) if made else step
