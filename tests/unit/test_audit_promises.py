"""Every proof about promises holds on a small true world, and names the planted counterexample on a false one."""

from dataclasses import replace

import pytest

from api.cli.audit import promises, proofs
from api.cli.audit.evidence import Effect, Movement, Paid, Received, Told
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
