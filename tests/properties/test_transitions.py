"""The payment's and the refund's transition tables are closed: every pair is either declared or our bug."""

from itertools import product

import pytest

from corridor.domain.effect import Operation
from corridor.domain.failure import InvariantBroken, Refusal, Refused
from corridor.domain.outcome import Outcome
from corridor.domain.payment import (
    CANCELABLE,
    CAPTURABLE,
    REFUND_TRANSITIONS,
    REFUNDABLE,
    TRANSITIONS,
    RefundStatus,
    Status,
    advance,
    require,
    status_after,
)

S = Status
OPEN = {S.PROCESSING, S.REQUIRES_ACTION, S.REQUIRES_REVIEW, S.AUTHORIZED}
TERMINAL = {S.SETTLED, S.FAILED, S.CANCELED, S.EXPIRED}

ALLOWED = (
    {(source, target) for source in OPEN for target in (S.REQUIRES_REVIEW, S.CAPTURED, S.FAILED, S.CANCELED, S.EXPIRED)}
    | {(source, S.AUTHORIZED) for source in OPEN}
    | {(S.PROCESSING, S.REQUIRES_ACTION), (S.REQUIRES_REVIEW, S.REQUIRES_ACTION)}
    | {(S.REQUIRES_ACTION, S.PROCESSING), (S.REQUIRES_REVIEW, S.PROCESSING)}
    | {(S.CAPTURED, S.SETTLED)}
) - {(same, same) for same in Status}  # fmt: skip
"""Written from the product's description, apart from the table in the code, so that the two check each other."""


@pytest.mark.parametrize(("source", "target"), list(product(Status, Status)))
def test_every_pair_of_statuses_is_allowed_or_our_bug(source: Status, target: Status) -> None:
    if (source, target) in ALLOWED:
        assert advance(source, target) is target
        return
    with pytest.raises(InvariantBroken):
        advance(source, target)


def test_both_tables_know_every_status_and_only_terminal_ones_lead_nowhere() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert set(REFUND_TRANSITIONS) == set(RefundStatus)
    assert {status for status in Status if status.is_terminal} == TERMINAL


def test_money_once_captured_is_never_shown_as_not_taken() -> None:
    reachable, border = {S.CAPTURED}, [S.CAPTURED]
    while border:
        found = TRANSITIONS[border.pop()] - reachable
        reachable |= found
        border.extend(found)
    assert reachable == {S.CAPTURED, S.SETTLED}


def test_a_terminal_status_is_reachable_from_every_status() -> None:
    for status in Status:
        seen, border = {status}, [status]
        while border:
            found = TRANSITIONS[border.pop()] - seen
            seen |= found
            border.extend(found)
        assert seen & TERMINAL, status


@pytest.mark.parametrize(("source", "target"), list(product(RefundStatus, RefundStatus)))
def test_every_pair_of_refund_statuses_is_as_described(source: RefundStatus, target: RefundStatus) -> None:
    waiting = {RefundStatus.PROCESSING, RefundStatus.REQUIRES_REVIEW}
    came_back = (RefundStatus.SUCCEEDED, RefundStatus.FAILED)
    expected = (source in waiting and source is not target) or (source, target) == came_back
    assert (target in REFUND_TRANSITIONS[source]) is expected


@pytest.mark.parametrize(("operation", "outcome"), list(product(Operation, Outcome)))
def test_only_an_explicit_answer_moves_a_payment(operation: Operation, outcome: Outcome) -> None:
    if (operation, outcome) == (Operation.AUTHORISE, Outcome.APPROVED):
        expected: Status | None = S.AUTHORIZED
    elif outcome is Outcome.APPROVED and operation in (Operation.SALE, Operation.CAPTURE):
        expected = S.CAPTURED
    elif outcome is Outcome.DECLINED and operation in (Operation.SALE, Operation.AUTHORISE):
        expected = S.FAILED
    elif outcome is Outcome.ACTION_REQUIRED and operation in (Operation.SALE, Operation.AUTHORISE):
        expected = S.REQUIRES_ACTION
    else:
        expected = None
    assert status_after(operation, outcome) is expected


@pytest.mark.parametrize(
    ("status", "command", "allowed"),
    [
        (status, command, allowed)
        for status in Status
        for command, allowed in (("capture", CAPTURABLE), ("cancel", CANCELABLE), ("refund", REFUNDABLE))
    ],
)
def test_a_command_is_refused_where_the_status_does_not_allow_it(
    status: Status, command: str, allowed: frozenset[Status]
) -> None:
    if status in allowed:
        require(status, allowed, command)
        return
    with pytest.raises(Refused) as refused:
        require(status, allowed, command)
    assert refused.value.code is Refusal.STATE_CONFLICT
    assert refused.value.facts["current_status"] == status


def test_what_may_be_canceled_has_taken_no_money_and_what_may_be_refunded_has() -> None:
    assert not CANCELABLE & REFUNDABLE
    assert all(S.CANCELED in TRANSITIONS[status] for status in CANCELABLE)
    assert all(S.CAPTURED in TRANSITIONS[status] for status in CAPTURABLE)
