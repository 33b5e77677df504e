"""Every proof about promises holds on a small true world, and names the planted counterexample on a false one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api.cli.audit import promises, proofs
from api.cli.audit.evidence import (
    Acted,
    Decided,
    Effect,
    Movement,
    Ordered,
    Paid,
    Received,
    Returned,
    Taken,
    Told,
)
from api.cli.audit.proofs import Proof
from corridor.domain.money import Money


def eur(minor: int) -> Money:
    return Money(minor, "EUR")


def assert_contradicted(proof: Proof, *words: str) -> None:
    assert not proof.holds
    assert any(all(word in found for word in words) for found in proof.counterexamples), proof.counterexamples


NOTHING = eur(0)
FAILED = Paid(
    "pay_1", "order-1", "DE-EUR>CN-CNY", "failed", "not_sent", None, 2, eur(900), NOTHING, NOTHING, None
)
SALE = Effect("pay_1:sale:1", "pay_1", "sale", "not_sent", eur(900))


def told(*statuses: str, object_id: str = "pay_1") -> list[Told]:
    return [Told(f"evt_{n}", "mer_1", object_id, n, n, status) for n, status in enumerate(statuses, start=1)]


# --- transitions -------------------------------------------------------------------------------------------------


def test_declared_steps_hold_in_whatever_order_they_are_read() -> None:
    events = told("processing", "processing", "authorized", "captured", "settled")
    assert promises.steps_are_declared(reversed(events)).holds


@pytest.mark.parametrize(
    "statuses",
    [("captured",), ("processing", "failed", "captured"), ("processing", "captured", "authorized")],
)
def test_a_step_outside_the_table_is_named(statuses: tuple[str, ...]) -> None:
    assert_contradicted(promises.steps_are_declared(told(*statuses)), "pay_1", statuses[-1])


def test_refunds_have_their_own_table() -> None:
    came_back = told("processing", "succeeded", "failed", object_id="rfd_1")
    assert promises.steps_are_declared(came_back).holds
    assert_contradicted(
        promises.steps_are_declared(told("processing", "settled", object_id="rfd_1")), "rfd_1"
    )


def test_a_row_is_what_its_last_event_said() -> None:
    events = [*told("processing", "failed"), *told("processing", "succeeded", object_id="rfd_1")]
    refund = Returned("rfd_1", "pay_1", "succeeded", 2, eur(100), is_reported=False)
    assert promises.rows_say_what_was_told_last([FAILED], [refund], reversed(events)).holds
    assert_contradicted(
        promises.rows_say_what_was_told_last([replace(FAILED, status="captured")], [refund], events),
        "pay_1 is captured", "failed",
    )  # fmt: skip
    assert_contradicted(
        promises.rows_say_what_was_told_last([FAILED], [replace(refund, status="failed")], events), "rfd_1"
    )
    assert_contradicted(promises.rows_say_what_was_told_last([FAILED], [refund], events[:2]), "nothing")
    assert not promises.rows_say_what_was_told_last([], [], []).holds


# --- answers -----------------------------------------------------------------------------------------------------


def test_what_was_acknowledged_and_is_lost_is_named() -> None:
    assert promises.acknowledged_exist({"shop order-1": "pay_1"}, {"pay_1"}).holds
    assert_contradicted(promises.acknowledged_exist({"shop order-1": "pay_1"}, {"pay_2"}), "order-1", "pay_1")
    assert not promises.acknowledged_exist({}, set()).holds


def test_a_key_that_made_two_objects_is_named() -> None:
    assert promises.one_key_made_one_object({"shop order-1": {"pay_1"}}, [FAILED]).holds
    twice = promises.one_key_made_one_object({"shop order-1": {"pay_1", "pay_2"}}, [FAILED])
    assert_contradicted(twice, "order-1", "pay_2")
    second = replace(FAILED, id="pay_2")
    unseen = promises.one_key_made_one_object({"shop order-1": {"pay_1"}}, [FAILED, second])
    assert_contradicted(unseen, "2 payments", "order-1")


# --- commands ----------------------------------------------------------------------------------------------------

SETTLED = replace(FAILED, status="settled", reason=None, captured=eur(900))
CANCELED = replace(FAILED, status="canceled", reason="canceled_by_merchant")
CAPTURE = Ordered("pay_1", "capture", "order-1-capture", frozenset({202, 200}), eur(900))
CANCEL = Ordered("pay_1", "cancel", "order-1-cancel", frozenset({200}), eur(0))


def test_commands_that_came_about_or_were_refused_are_proven() -> None:
    assert promises.commands_are_reflected([CAPTURE], [SETTLED]).holds
    assert promises.commands_are_reflected([CANCEL], [CANCELED]).holds
    acknowledged = replace(CAPTURE, statuses=frozenset({202}), captured=None)
    assert promises.commands_are_reflected([acknowledged], [SETTLED]).holds, "done, and nobody was told"
    refused = replace(acknowledged, statuses=frozenset({202, 409}))
    assert promises.commands_are_reflected([refused], [CANCELED]).holds
    never_taken = replace(CANCEL, statuses=frozenset({409}))
    assert promises.commands_are_reflected([CAPTURE, never_taken], [SETTLED]).holds


@pytest.mark.parametrize(
    ("ordered", "payment", "word"),
    [
        (CAPTURE, CANCELED, "answered 200, and the payment is canceled"),
        (CAPTURE, replace(SETTLED, captured=eur(600)), str(eur(600))),
        (CANCEL, SETTLED, "answered 200, and the payment is settled"),
        (replace(CANCEL, statuses=frozenset({200, 409})), SETTLED, "answered 200"),
        (replace(CANCEL, statuses=frozenset({202})), SETTLED, "never refused"),
        (replace(CAPTURE, statuses=frozenset({202, 503})), FAILED, "never refused"),
        (CAPTURE, replace(SETTLED, id="pay_2"), "does not exist"),
    ],
)
def test_a_command_that_was_acknowledged_and_did_nothing_is_named(
    ordered: Ordered, payment: Paid, word: str
) -> None:
    assert_contradicted(promises.commands_are_reflected([ordered], [payment]), "order-1", word)


def test_a_payment_that_a_restoration_handed_to_a_person_is_noted() -> None:
    proof = promises.commands_are_reflected([CAPTURE], [CANCELED], {"pay_1"})
    assert proof.holds
    assert proof.notes[-1] == "1 with a person since a restoration"


def test_a_webhook_the_provider_was_thanked_for_and_nobody_has_is_named() -> None:
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)
    taken = [Taken("evt_1", at), Taken("evt_2", at + timedelta(seconds=30)), Taken("evt_2", at)]
    assert promises.provider_webhooks_are_kept(taken, {"evt_1", "evt_2"}).holds
    assert_contradicted(promises.provider_webhooks_are_kept(taken, {"evt_2"}), "evt_1")
    assert not promises.provider_webhooks_are_kept([], set()).holds
    gone = [(at - timedelta(seconds=5), at + timedelta(seconds=5))]
    lost = promises.provider_webhooks_are_kept(taken, {"evt_2"}, gone)
    assert lost.holds
    assert lost.notes == ("1 lost with a database that came back older",)
    assert_contradicted(promises.provider_webhooks_are_kept(taken[1:2], set(), gone), "evt_2")


# --- limits ------------------------------------------------------------------------------------------------------

OF = {
    "pay_1:sale:1": "pay_1",
    "pay_1:capture:2": "pay_1",
    "rfd_1:refund:1": "pay_1",
    "rfd_2:refund:1": "pay_1",
}
TAKEN = Movement("capture", "pay_1:sale:1", eur(900))


def test_a_refund_within_the_capture_holds_also_when_one_came_back_before() -> None:
    moved = [
        TAKEN,
        Movement("refund", "rfd_1:refund:1", eur(900)),
        Movement("refund_failed", "rfd_1:refund:1:came_back", eur(900)),
        Movement("refund", "rfd_2:refund:1", eur(900)),
    ]
    assert promises.money_moved_within_limits(moved, OF).holds


def test_a_second_capture_is_named() -> None:
    moved = [TAKEN, Movement("capture", "pay_1:capture:2", eur(900))]
    assert_contradicted(promises.money_moved_within_limits(moved, OF), "pay_1", "2 times")


def test_refunds_beyond_the_capture_are_named() -> None:
    moved = [
        TAKEN,
        Movement("refund", "rfd_1:refund:1", eur(600)),
        Movement("refund", "rfd_2:refund:1", eur(600)),
    ]
    assert_contradicted(promises.money_moved_within_limits(moved, OF), "pay_1", "300", "EUR")


# --- failures ----------------------------------------------------------------------------------------------------


def test_a_failure_with_its_answer_stored_is_proven() -> None:
    assert promises.failures_are_proven([FAILED], [SALE], set()).holds


@pytest.mark.parametrize(
    ("effect", "word"),
    [
        (replace(SALE, state="unknown"), "unknown"),
        (replace(SALE, is_answered=False), "without an answer"),
        (replace(SALE, state="approved"), "without anything"),
    ],
)
def test_a_failure_on_a_guess_is_named(effect: Effect, word: str) -> None:
    assert_contradicted(promises.failures_are_proven([FAILED], [effect], set()), "pay_1", word)


def test_a_refusal_needs_somebody_who_refused() -> None:
    declined = replace(FAILED, reason="declined_by_reviewer")
    assert promises.failures_are_proven([declined], [], {"pay_1"}).holds
    assert_contradicted(promises.failures_are_proven([declined], [], set()), "pay_1", "declined_by_reviewer")


# --- webhooks that are still on their schedule -------------------------------------------------------------------


def test_a_webhook_on_its_schedule_explains_what_has_not_arrived() -> None:
    events = told("processing", "failed")
    arrived = [Received("shop", "evt_1", "pay_1", 1, is_verified=True, status=200)]
    names = {"mer_1": "shop"}
    assert proofs.webhooks_arrived(arrived, events, names, {"evt_2"}).holds
    assert_contradicted(proofs.webhooks_arrived(arrived, events, names), "evt_2")


# --- decisions ---------------------------------------------------------------------------------------------------

DECIDED_AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
DECIDED = Decided("rvw_1", "decided", "approve", "key_op", "the buyer is known", DECIDED_AT)
ACT = Acted("act_1", DECIDED_AT, "key_op", "review decide", {"review": "rvw_1", "decision": "approve"}, "ok")
ANSWER = {
    "id": "rvw_1",
    "status": "decided",
    "decision": "approve",
    "decided_by": "key_op",
    "note": "the buyer is known",
    "decided_at": "2026-11-20T12:00:00.000Z",
}


def test_decisions_as_they_were_answered_are_on_record() -> None:
    by_evidence = replace(DECIDED, id="rvw_2", decided_by="evidence", decision="found")
    withdrawn = replace(DECIDED, id="rvw_3", decided_by="payment", decision="withdrawn")
    still_open = Decided("rvw_4", "open", None, None, None, None)
    rows = [DECIDED, by_evidence, withdrawn, still_open]
    assert promises.decisions_are_on_record([ANSWER, ANSWER], rows, {"key_op"}, [ACT]).holds


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (replace(DECIDED, decision="decline"), "is on record"),
        (replace(DECIDED, decided_by="key_other"), "is on record"),
        (replace(DECIDED, decided_at=DECIDED_AT + timedelta(seconds=1)), "is on record"),
        (replace(DECIDED, note=None), "missing"),
        (replace(DECIDED, decided_by="mer_1"), "no operator"),
        (Decided("rvw_1", "open", None, None, None, None), "is on record"),
        (replace(DECIDED, id="rvw_2"), "who never did"),
    ],
)
def test_a_decision_that_is_recorded_otherwise_is_named(row: Decided, word: str) -> None:
    assert_contradicted(
        promises.decisions_are_on_record([ANSWER], [row], {"key_op", "key_other"}, [ACT]), "rvw_", word
    )


def test_two_decisions_about_one_review_are_named() -> None:
    other = {**ANSWER, "decision": "decline"}
    assert_contradicted(
        promises.decisions_are_on_record([ANSWER, other], [DECIDED], {"key_op"}, [ACT]), "2 decisions"
    )


@pytest.mark.parametrize(
    ("acts", "word"),
    [
        ([], "no record of acts"),
        ([replace(ACT, who="key_other")], "no record of acts"),
        ([replace(ACT, at=DECIDED_AT + timedelta(seconds=1))], "no record of acts"),
        ([replace(ACT, outcome=None)], "no record of acts"),
        ([replace(ACT, command="resume")], "no record of acts"),
        ([ACT, replace(ACT, id="act_2")], "more than it was"),
        ([ACT, replace(ACT, id="act_2", words={"review": "rvw_9", "decision": "decline"})], "rvw_9"),
    ],
)
def test_a_decision_and_its_act_that_do_not_agree_are_named(acts: list[Acted], word: str) -> None:
    proof = promises.decisions_are_on_record([ANSWER], [DECIDED], {"key_op"}, acts)
    assert_contradicted(proof, "rvw_", word)


# --- names of events ---------------------------------------------------------------------------------------------


def test_an_event_that_was_sent_under_two_ids_is_named() -> None:
    events = told("processing", "failed")
    first = Received("shop", "evt_1", "pay_1", 1, is_verified=True, status=200)
    refused = replace(first, status=500)
    assert promises.events_keep_their_names([first, refused], events).holds
    second = replace(first, event_id="evt_9", status=500)
    assert_contradicted(promises.events_keep_their_names([first, second], events), "evt_1, evt_9", "pay_1")
    assert_contradicted(promises.events_keep_their_names([second], events), "evt_9", "it is evt_1")
