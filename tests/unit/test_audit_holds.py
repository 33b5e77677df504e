"""What a payment that collected nothing left behind, at the provider and with us: every state that may not be is named.

The first is what a planted bug makes (`undo_not_looked_after`): a cancel believes that its void worked. Both books then
show one authorisation, so no comparison of the two notices it.
"""

from dataclasses import replace

import pytest

from api.cli.audit import promises, proofs
from api.cli.audit.evidence import Effect, Movement, Paid
from api.cli.audit.gathering import movement
from api.cli.audit.holds import endings_leave_nothing_open, holds_are_released
from api.cli.audit.proofs import Proof
from corridor.domain.money import Money


def eur(minor: int) -> Money:
    return Money(minor, "EUR")


def assert_contradicted(proof: Proof, *words: str) -> None:
    assert not proof.holds
    assert any(all(word in found for word in words) for found in proof.counterexamples), proof.counterexamples


NOTHING = eur(0)
CANCELED = Paid(
    "pay_1", "order-1", "DE-EUR>DE-EUR", "canceled", "canceled_by_merchant", None, 4, eur(900), NOTHING, NOTHING, None
)  # fmt: skip
SETTLED = replace(CANCELED, id="pay_2", status="settled", reason=None, captured=eur(600), settled=eur(590))
HOLD = Effect("pay_1:authorise:1", "pay_1", "authorise", "approved", eur(900))
VOID = Effect("pay_1:void:1", "pay_1", "void", "approved", eur(900))
SECOND_HOLD = Effect("pay_2:authorise:1", "pay_2", "authorise", "approved", eur(900))
CAPTURE = Effect("pay_2:capture:1", "pay_2", "capture", "approved", eur(600))
HELD = Movement("authorise", HOLD.key, eur(900), None, "pi_1")
RELEASED = Movement("cancel", VOID.key, eur(900), None, "pi_1")
SECOND_HELD = Movement("authorise", SECOND_HOLD.key, eur(900), None, "pi_2")
TAKEN = Movement("capture", CAPTURE.key, eur(600), None, "pi_2")
PAYMENTS = [CANCELED, SETTLED]
EFFECTS = [HOLD, VOID, SECOND_HOLD, CAPTURE]
MOVEMENTS = [HELD, RELEASED, SECOND_HELD, TAKEN]


# --- what the provider holds -------------------------------------------------------------------------------------


def test_what_was_released_or_captured_is_held_no_more() -> None:
    proof = holds_are_released(PAYMENTS, EFFECTS, MOVEMENTS)
    assert proof.holds, proof.counterexamples
    assert (proof.looked_at, proof.notes) == ("2 authorisations", ("1 were released",))


@pytest.mark.parametrize("state", ["not_sent", "declined", "unknown", "declared"])
def test_a_void_that_was_believed_is_noticed_by_this_proof_alone(state: str) -> None:
    believed = replace(VOID, state=state)
    assert proofs.books_agree([HELD], [HOLD, believed], []).holds, "both show one authorisation"
    assert promises.failures_are_proven([CANCELED], [HOLD, believed], set()).holds, "it did not fail"
    assert proofs.nothing_is_left_open([CANCELED], []).holds, "it has ended"
    assert_contradicted(
        holds_are_released([CANCELED], [HOLD, believed], [HELD]),
        "pay_1:authorise:1",
        "holds",
        "pay_1 is canceled",
    )


def test_an_authorisation_that_lapsed_at_the_provider_is_released_by_nobody() -> None:
    lapsed = replace(RELEASED, key="ch_1")
    expired = replace(CANCELED, status="expired", reason="authorization_expired")
    assert holds_are_released([expired], [HOLD], [HELD, lapsed]).holds
    assert_contradicted(holds_are_released([expired], [HOLD], [HELD]), "pay_1 is expired")


@pytest.mark.parametrize(
    ("movements", "word"),
    [
        ([HELD, replace(RELEASED, amount=eur(300))], "released of"),
        ([HELD, RELEASED, RELEASED], "released of"),
        ([HELD, replace(TAKEN, hold="pi_1")], "captured, and pay_1 is canceled"),
        ([HELD, RELEASED, replace(TAKEN, hold="pi_1")], "captured, and"),
        ([replace(HELD, key="pay_9:authorise:1")], "we have no such payment"),
        ([HELD, replace(RELEASED, hold="pi_2")], "holds"),
    ],
)
def test_a_hold_that_ended_otherwise_is_named(movements: list[Movement], word: str) -> None:
    assert_contradicted(holds_are_released([CANCELED], [HOLD, VOID], movements), word)


def test_a_second_hold_of_a_payment_that_was_collected_is_named() -> None:
    other = Effect("pay_2:authorise:2", "pay_2", "authorise", "approved", eur(900))
    held = replace(SECOND_HELD, key=other.key, hold="pi_3")
    proof = holds_are_released([SETTLED], [SECOND_HOLD, CAPTURE, other], [SECOND_HELD, TAKEN, held])
    assert_contradicted(proof, "pay_2:authorise:2", "pay_2 is settled")


@pytest.mark.parametrize("status", ["authorized", "requires_review"])
def test_a_payment_that_is_open_may_hold(status: str) -> None:
    assert holds_are_released([replace(CANCELED, status=status)], [HOLD], [HELD]).holds


def test_a_run_that_held_nothing_proves_nothing() -> None:
    assert not holds_are_released([], [], []).holds


def test_a_line_of_the_books_is_told_with_its_authorisation() -> None:
    row = {
        "effect": "cancel", "intent": "pi_1", "object_id": "ch_1", "amount": 900, "currency": "eur", "metadata": {},
        "idempotency_key": VOID.key, "at_ms": 0,
    }  # fmt: skip
    assert movement(row).hold == "pi_1"


# --- what became of each call ------------------------------------------------------------------------------------


def test_calls_whose_fate_is_known_leave_nothing_open() -> None:
    proof = endings_leave_nothing_open(PAYMENTS, EFFECTS)
    assert proof.holds, proof.counterexamples
    assert proof.looked_at == "2 ended payments"


@pytest.mark.parametrize("status", ["canceled", "expired"])
@pytest.mark.parametrize("state", ["declared", "action_required", "pending", "unknown"])
def test_an_attempt_of_an_ended_payment_that_nobody_answered_is_named(status: str, state: str) -> None:
    ended = replace(CANCELED, status=status)
    sale = Effect("pay_1:sale:1", "pay_1", "sale", state, eur(900))
    assert_contradicted(endings_leave_nothing_open([ended], [sale]), "pay_1:sale:1", state, status)
    for void in (replace(VOID, state="not_sent"), replace(VOID, is_answered=False)):
        assert not endings_leave_nothing_open([ended], [sale, void]).holds


def test_a_void_that_was_confirmed_ends_what_it_undid() -> None:
    abandoned = Effect("pay_1:sale:1", "pay_1", "sale", "action_required", eur(900))
    lost = replace(VOID, state="unknown")
    again = replace(VOID, key="pay_1:void:2")
    given_up = Effect("pay_1:capture:1", "pay_1", "capture", "unknown", eur(900))
    proof = endings_leave_nothing_open([CANCELED], [abandoned, given_up, lost, again])
    assert proof.holds, proof.counterexamples
    assert len(proof.notes) == 3


def test_what_was_collected_ends_its_own_void_and_nothing_else() -> None:
    overtaken = Effect("pay_2:void:1", "pay_2", "void", "unknown", eur(900))
    assert endings_leave_nothing_open([SETTLED], [CAPTURE, overtaken]).holds
    refund = Effect("rfd_1:refund:1", "pay_2", "refund", "unknown", eur(100))
    assert_contradicted(endings_leave_nothing_open([SETTLED], [CAPTURE, refund]), "rfd_1:refund:1")
    second = Effect("pay_2:capture:2", "pay_2", "capture", "declared", eur(600))
    assert_contradicted(endings_leave_nothing_open([SETTLED], [CAPTURE, second]), "pay_2:capture:2")


def test_a_refund_of_what_is_not_settled_may_be_under_way() -> None:
    refund = Effect("rfd_1:refund:1", "pay_2", "refund", "declared", eur(100))
    captured = replace(SETTLED, status="captured", settled=None)
    assert endings_leave_nothing_open([CANCELED, captured], [CAPTURE, refund]).holds


def test_what_is_open_may_wait_for_an_answer() -> None:
    waiting = replace(CANCELED, status="requires_review", reason="outcome_unknown")
    sale = Effect("pay_1:sale:1", "pay_1", "sale", "unknown", eur(900))
    assert endings_leave_nothing_open([waiting, SETTLED], [sale, CAPTURE]).holds
