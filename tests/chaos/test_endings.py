"""How orders may end: a reason needs its story, what comes after the faults succeeds, and nearly all good orders do."""

from dataclasses import replace

import pytest

from api.cli.audit.evidence import Paid
from api.cli.audit.proofs import Proof
from corridor.domain.money import Money
from tests.chaos.arrivals import Arrival, Story
from tests.chaos.endings import (
    FEW,
    SHARE_LOST_PERCENT,
    by_status_and_reason,
    endings_are_explained,
    good_orders_succeed,
)

EUR = Money(900, "EUR")
RIGHT_AT = 200.0


def order(number: int, story: Story = Story.BOUGHT, at_seconds: float = 300.0, fault: str = "") -> Arrival:
    return Arrival(at_seconds, f"order-{number}", "porto-leather", "DE", EUR, "pm_card_visa", story, fault)


def paid(
    number: int, status: str = "settled", reason: str | None = None, corridor: str = "DE-EUR>CN-CNY"
) -> Paid:
    zero = Money(0, "EUR")
    return Paid(f"pay_{number}", f"order-{number}", corridor, status, reason, None, 3, EUR, zero, zero, None)


def assert_contradicted(proof: Proof, *words: str) -> None:
    assert not proof.holds
    assert any(all(word in found for word in words) for found in proof.counterexamples), proof.counterexamples


# --- reasons -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "status", "reason"),
    [
        (Story.BOUGHT, "settled", None),
        (Story.BOUGHT, "failed", "rate_unavailable"),
        (Story.BOUGHT, "failed", "not_sent"),
        (Story.DECLINED, "failed", "declined_by_provider"),
        (Story.CHALLENGE_ABANDONED, "expired", "authentication_abandoned"),
        (Story.REVIEW_DECLINED, "failed", "declined_by_reviewer"),
        (Story.CAPTURED, "canceled", "canceled_by_merchant"),
        (Story.CAPTURE_RACING_CANCEL, "canceled", "compensation_stuck"),
    ],
)
def test_an_ending_that_its_story_or_an_outage_gives_is_explained(
    story: Story, status: str, reason: str | None
) -> None:
    assert endings_are_explained([order(1, story)], [paid(1, status, reason)]).holds


@pytest.mark.parametrize(
    ("story", "status", "reason"),
    [
        (Story.BOUGHT, "failed", "declined_by_provider"),
        (Story.BOUGHT, "canceled", "canceled_by_merchant"),
        (Story.REVIEW_APPROVED, "failed", "declined_by_reviewer"),
        (Story.CAPTURED, "expired", "authentication_abandoned"),
        (Story.BOUGHT, "failed", "no_route"),
        (Story.BOUGHT, "failed", "declined_by_risk"),
        (Story.BOUGHT, "failed", None),
    ],
)
def test_an_ending_that_nothing_gives_is_named(story: Story, status: str, reason: str | None) -> None:
    proof = endings_are_explained([order(1, story)], [paid(1, status, reason)])
    assert_contradicted(proof, "pay_1", story, str(reason))


def test_a_closing_order_is_one_that_is_bought() -> None:
    closing = replace(paid(1, "canceled", "canceled_by_merchant"), reference="closing-1-EUR-1")
    assert_contradicted(endings_are_explained([], [closing]), "closing-1-EUR-1")


def test_endings_are_counted_by_status_and_reason() -> None:
    counted = by_status_and_reason([paid(1), paid(2, "failed", "not_sent"), paid(3)])
    assert counted == {"settled": 2, "failed not_sent": 1}


# --- good orders -------------------------------------------------------------------------------------------------


def test_good_orders_that_succeeded_hold() -> None:
    proof = good_orders_succeed([order(1), order(2)], [paid(1), paid(2, "captured")], RIGHT_AT)
    assert proof.holds, proof.counterexamples
    assert proof.looked_at == "2 good orders"


def test_a_share_of_good_orders_lost_to_outages_is_let_pass_and_told_and_more_is_not() -> None:
    orders = [order(number) for number in range(200)]
    most = 200 * SHARE_LOST_PERCENT // 100

    def lost(count: int) -> Proof:
        ends = [paid(n, "failed", "rate_unavailable") if n < count else paid(n) for n in range(200)]
        return good_orders_succeed(orders, ends, RIGHT_AT)

    assert lost(most).holds
    assert lost(most).notes == (
        f"{most} of 200 that nothing was aimed at did not succeed: {most} failed rate_unavailable",
    )
    assert_contradicted(lost(most + 1), f"{most + 1} of 200", "rate_unavailable")


def test_of_a_few_orders_a_handful_is_no_share() -> None:
    orders = [order(number) for number in range(10)]
    ends = [paid(n, "failed", "not_sent") if n < FEW else paid(n) for n in range(10)]
    assert good_orders_succeed(orders, ends, None).holds
    assert not good_orders_succeed(
        orders, [*ends[:FEW], paid(FEW, "failed", "not_sent"), *ends[6:]], None
    ).holds


@pytest.mark.parametrize(
    ("placed", "corridor", "counts"),
    [
        (order(1), "DE-EUR>CN-CNY", True),
        (order(1, at_seconds=199.0), "DE-EUR>CN-CNY", False),
        (order(1, at_seconds=199.0), "DE-EUR>PT-EUR", True),
        (order(1, fault="timeoutAfterEffect"), "DE-EUR>CN-CNY", False),
        (order(1, Story.DECLINED), "DE-EUR>CN-CNY", False),
        (order(1, Story.CAPTURED), "DE-EUR>CN-CNY", False),
    ],
    ids=["spared", "by a wrong clock", "without a rate", "its own fault", "declined", "may be canceled"],
)
def test_only_what_nothing_was_aimed_at_counts(placed: Arrival, corridor: str, counts: bool) -> None:
    proof = good_orders_succeed([placed, order(2)], [paid(1, corridor=corridor), paid(2)], RIGHT_AT)
    assert proof.looked_at == f"{1 + counts} good orders"


def test_a_single_order_that_failed_after_the_faults_is_named() -> None:
    closing = replace(paid(1, "failed", "rate_unavailable"), reference="closing-1-EUR-1")
    assert_contradicted(good_orders_succeed([order(2)], [closing, paid(2)], RIGHT_AT), "closing-1-EUR-1")


def test_a_run_without_a_good_order_proves_nothing() -> None:
    assert not good_orders_succeed([], [], None).holds
