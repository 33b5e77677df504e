"""Commands of the harness against the record of acts: what is missing is named, and what nobody gave."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api.cli.audit.evidence import Acted
from api.cli.audit.proofs import Proof
from api.cli.drill.disasters import Recovered
from tests.chaos.desk import RESTORE_CHECK, Desk, Given, acts_are_on_record
from tests.chaos.watch import WentBack

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


RESUME = Given("resume", at(10), at(20), is_done=True)
PROMOTE = Given("deploy promote", at(15), at(25), is_done=True)
ACT = Acted("act_1", at(11), "clerk@host", "resume", {}, "ok")
ACTS = [ACT, replace(ACT, id="act_2", at=at(16), command="deploy promote")]
DECISION = replace(ACT, id="act_3", at=at(99), command="review decide")
BACK = WentBack(at(5), at(30), at(40), 10.0, Recovered())
"""Copied before both commands, struck after them."""


def assert_contradicted(proof: Proof, word: str) -> None:
    assert not proof.holds
    assert any(word in found for found in proof.counterexamples), proof.counterexamples


def test_each_command_has_its_act_and_decisions_are_proven_elsewhere() -> None:
    assert acts_are_on_record([RESUME, PROMOTE], [*ACTS, DECISION]).holds


def test_of_two_that_ran_at_once_each_has_its_own() -> None:
    wide, narrow = Given("resume", at(0), at(30), is_done=True), RESUME
    assert acts_are_on_record([wide, narrow], [ACT, replace(ACT, id="act_2", at=at(25))]).holds
    assert_contradicted(acts_are_on_record([wide, narrow], [ACT]), "resume was done")


def test_an_end_the_database_was_down_for_is_counted_and_no_fault() -> None:
    proof = acts_are_on_record([RESUME], [replace(ACT, outcome=None)])
    assert proof.holds
    assert proof.notes[0] == "1 without an end"


def test_a_try_that_failed_may_be_on_record_and_need_not() -> None:
    tried = replace(RESUME, is_done=False)
    assert acts_are_on_record([tried, PROMOTE], ACTS).holds
    assert acts_are_on_record([tried, PROMOTE], ACTS[1:]).holds


@pytest.mark.parametrize(
    ("acts", "word"),
    [
        (ACTS[1:], "resume was done"),
        ([*ACTS[1:], replace(ACT, outcome="failed: unavailable")], "resume was done"),
        ([*ACTS[1:], replace(ACT, at=at(21))], "resume was done"),
        ([*ACTS, replace(ACT, id="act_9", command="keys new")], "keys new"),
        ([*ACTS, replace(ACT, id="act_9", at=at(50))], "act_9"),
        ([DECISION], "no acts"),
    ],
)
def test_what_is_on_no_record_and_what_nobody_gave_is_named(acts: list[Acted], word: str) -> None:
    assert_contradicted(acts_are_on_record([RESUME, PROMOTE], acts), word)


def test_what_was_on_record_in_a_database_that_came_back_older_is_lost_and_the_recovery_is_not() -> None:
    repair = Given(RESTORE_CHECK, at(32), at(38), is_done=True)
    own = replace(ACT, id="act_4", at=at(33), command=RESTORE_CHECK)
    proof = acts_are_on_record([RESUME, PROMOTE, repair], [own], [BACK])
    assert proof.holds, proof.counterexamples
    assert proof.notes[1] == "2 lost with a database that came back older"
    assert_contradicted(acts_are_on_record([RESUME, PROMOTE, repair], ACTS, [BACK]), RESTORE_CHECK)
    assert_contradicted(
        acts_are_on_record([replace(RESUME, begun=at(41), ended=at(45)), repair], [own], [BACK]), "resume"
    )


def test_a_command_is_at_the_desk_from_its_beginning_to_its_end_also_when_it_fails() -> None:
    desk = Desk()
    with pytest.raises(OSError, match="no such"), desk.gives("resume"):
        raise OSError("no such host")
    with desk.gives("resume") as given:
        given.is_done = True
    assert [it.is_done for it in desk.given] == [False, True]
    assert all(it.begun <= it.ended <= datetime.now(UTC) for it in desk.given)
