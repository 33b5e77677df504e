"""The drill counts what it must: a payment a client was told of and nobody knows any more is never overlooked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.cli.audit.evidence import Movement
from api.cli.demo.shop import Answer
from api.cli.drill import account
from api.cli.drill.crowd import Crowd, Deal
from api.cli.drill.disasters import Scenario
from api.cli.drill.exercise import Clock, Run
from api.cli.drill.purchases import Kind, draw
from api.cli.drill.standing import Moment, Stood
from corridor.domain.money import Money

T0 = 100.0
EUR = Money(1_000, "EUR")


def answered(sequence: int) -> Answer:
    return Answer(201, b'{"id": "pay_1", "last_sequence": %d}' % sequence, 1.0, 1)


def moment(told: frozenset[str] = frozenset(), **objects: Stood) -> Moment:
    return Moment(objects, told)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """One payment, acknowledged at event 2 before T0, that came through; the proofs are another test's."""
    monkeypatch.setattr(account, "proven", lambda _: ())
    purchases = draw(1, 1)
    deal = Deal(purchases[0], asked_at=90.0, answered_at=95.0, answer=answered(2))
    there = moment(frozenset({"evt_1", "evt_2"}), pay_1=Stood("settled", 3, purchases[0].name))
    nobody: Any = None
    return Run(
        Scenario.DATABASE_RESTORED,
        1,
        nobody,
        purchases,
        crowd=Crowd({}, nobody, nobody, [deal]),
        clock=Clock(backup=40.0, disaster=T0, released=120.0, quiet=150.0),
        moments=dict.fromkeys(("at T0", "damaged", "recovered", "at the end"), there),
        received_before=frozenset({"evt_1", "evt_2"}),
    )


def test_a_run_in_which_nothing_was_lost_holds(run: Run) -> None:
    counted = account.of(run)
    assert counted.holds
    assert (counted.rpo_payments, counted.rpo_events, counted.lost) == ((), (), ())


def test_a_payment_the_recovered_database_does_not_know_counts_as_lost_data(run: Run) -> None:
    run.moments["recovered"] = moment(frozenset({"evt_1", "evt_2"}))
    assert account.of(run).rpo_payments == ("pay_1",)


def test_a_payment_recovered_to_before_what_its_client_was_told_counts_as_lost_data(run: Run) -> None:
    run.moments["recovered"] = moment(frozenset({"evt_1", "evt_2"}), pay_1=Stood("processing", 1))
    assert account.of(run).rpo_payments == ("pay_1",)


def test_an_event_a_merchant_received_and_nobody_knows_counts(run: Run) -> None:
    run.moments["recovered"] = replace(run.moments["recovered"], told=frozenset({"evt_1"}))
    counted = account.of(run)
    assert counted.rpo_events == ("evt_2",)
    assert not counted.holds


def test_an_acknowledged_payment_that_ends_nowhere_is_lost(run: Run) -> None:
    run.moments["at the end"] = moment(pay_1=Stood("processing", 1, "drill-1-1"))
    assert account.of(run).lost == ("pay_1",)


def test_money_the_recovery_itself_moved_counts_and_the_providers_own_fees_do_not(run: Run) -> None:
    run.books_after = (Movement("fee", "pay_1", EUR), Movement("capture", "pay_1:sale:1", EUR))
    counted = account.of(run)
    assert counted.effects_by_recovery == 1
    assert not counted.holds


def test_the_same_seed_draws_the_same_purchases_and_a_third_wait() -> None:
    assert draw(7, 200) == draw(7, 200) != draw(8, 200)
    waiting = [it for it in draw(7, 200) if it.kind.waits and it.is_patient]
    assert 0.25 <= len(waiting) / 200 <= 0.38
    assert {it.kind for it in draw(7, 200)} == set(Kind)
