"""What may wait when a run is over, and until when: nothing that is overdue, and nothing beyond what a schedule says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api.cli.audit.evidence import Kept, Undelivered
from api.cli.audit.rest import inbox_is_worked_off, on_schedule
from corridor.storage.inbox import InboxState

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR, DAY = 3_600, 86_400
ROUTED = Kept("evt_1", InboxState.ROUTED, 1, NOW - timedelta(minutes=5))
CONFIRMED = replace(ROUTED, event_id="evt_2", state=InboxState.CONFIRMED)
NOBODYS = Kept("evt_3", InboxState.STORED, 3, NOW + timedelta(seconds=80))


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


# --- our own webhooks --------------------------------------------------------------------------------------------


def test_a_webhook_that_waits_for_its_third_attempt_is_on_schedule() -> None:
    waits = [
        Undelivered("evt_1", 2, after(1)),
        Undelivered("evt_2", 2, after(330)),
        Undelivered("evt_3", 3, after(1_980)),
    ]
    assert on_schedule(waits, NOW) == {"evt_1", "evt_2", "evt_3"}


@pytest.mark.parametrize(
    "waits",
    [
        Undelivered("evt_1", 0, after(1)),
        Undelivered("evt_1", 1, after(5)),
        Undelivered("evt_1", 2, after(-31)),
        Undelivered("evt_1", 2, after(331)),
        Undelivered("evt_1", 2, after(DAY)),
        Undelivered("evt_1", 2, None),
        Undelivered("evt_1", 10, after(5)),
    ],
    ids=[
        "never tried",
        "tried once",
        "overdue",
        "beyond its pause",
        "a day ahead",
        "nowhere",
        "after the last",
    ],
)
def test_a_webhook_that_nothing_will_send_is_not_on_schedule(waits: Undelivered) -> None:
    assert on_schedule([waits], NOW) == frozenset()


def test_a_clock_that_was_wrong_explains_its_own_schedule_and_no_other() -> None:
    by_its_clock = Undelivered("evt_1", 2, after(DAY + 300))
    behind = Undelivered("evt_2", 2, after(300 - HOUR))
    assert on_schedule([by_its_clock, behind], NOW, [DAY, -HOUR]) == {"evt_1", "evt_2"}
    assert on_schedule([by_its_clock, behind], NOW, [HOUR]) == frozenset()
    assert on_schedule([replace(by_its_clock, next_attempt_at=after(DAY + 331))], NOW, [DAY]) == frozenset()
    assert on_schedule([replace(by_its_clock, next_attempt_at=after(HOUR))], NOW, [DAY]) == frozenset()


# --- the provider's webhooks -------------------------------------------------------------------------------------


def test_an_inbox_that_was_worked_off_holds_with_what_nobody_can_place() -> None:
    proof = inbox_is_worked_off([ROUTED, CONFIRMED, NOBODYS], {"delivered": 3, "waiting": 0}, NOW)
    assert proof.holds, proof.counterexamples
    assert proof.looked_at == "3 provider webhooks"
    assert proof.notes == ("1 confirmed", "1 routed", "1 stored")


def test_an_inbox_that_nobody_works_off_is_named() -> None:
    stored = Kept("evt_1", InboxState.STORED, 0, NOW - timedelta(minutes=2))
    proof = inbox_is_worked_off([stored, CONFIRMED], {}, NOW)
    assert not proof.holds
    assert "evt_1 is stored" in proof.counterexamples[0]
    assert "looked at 0 times" in proof.counterexamples[0]


def test_what_came_in_a_moment_ago_may_be_under_way() -> None:
    assert inbox_is_worked_off([replace(NOBODYS, tries=0, due_at=after(-5))], {}, NOW).holds


def test_a_turn_that_never_comes_is_named_unless_a_wrong_clock_set_it() -> None:
    far = replace(NOBODYS, due_at=after(DAY + 10))
    assert not inbox_is_worked_off([far], {}, NOW).holds
    assert not inbox_is_worked_off([far], {}, NOW, [HOUR]).holds
    assert inbox_is_worked_off([far], {}, NOW, [DAY]).holds


def test_a_contradiction_is_named() -> None:
    proof = inbox_is_worked_off([replace(ROUTED, state=InboxState.CONTRADICTED)], {}, NOW)
    assert "evt_1 shows money" in proof.counterexamples[0]


def test_webhooks_that_were_refused_until_the_provider_gave_up_are_named() -> None:
    proof = inbox_is_worked_off([ROUTED], {"delivered": 1, "exhausted": 4}, NOW)
    assert proof.counterexamples == ("4 webhooks were refused until the provider gave them up",)


def test_a_run_without_a_provider_webhook_proves_nothing() -> None:
    assert not inbox_is_worked_off([], {}, NOW).holds
