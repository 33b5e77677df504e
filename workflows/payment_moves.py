"""The payment's own steps as its workflow takes them: local activities with their arguments, and what they changed."""

from activities.contracts import (
    DECIDE_REVIEW,
    DECLARE,
    MOVE,
    OPEN_REVIEW,
    PREPARE,
    DecideReviewIn,
    DeclareIn,
    EffectPlan,
    MoveIn,
    OpenReviewIn,
    Prepared,
    PrepareIn,
    ReviewDecided,
)
from corridor.domain.effect import Operation
from corridor.domain.money import Money
from corridor.domain.payment import Status, StatusReason
from workflows.messages import ReviewCommand
from workflows.payment_state import PaymentState
from workflows.steps import local


async def prepare(state: PaymentState, approved_review: str | None) -> Prepared:
    """Judge the risk, lock the rate, choose the route and declare the first effect."""
    return await local(
        PREPARE,
        PrepareIn(
            payment_id=state.start.payment_id,
            amount=state.start.amount,
            settle_currency=state.start.settle_currency,
            approved_review=approved_review,
        ),
        "risk, FX lock, route, declared effect",
    )


async def declare(state: PaymentState, operation: Operation, amount: Money | None) -> EffectPlan:
    """Declare the next effect of this operation; its number makes the key."""
    payment = state.start.payment_id
    declared = await local(
        DECLARE,
        DeclareIn(
            payment_id=payment,
            object_id=payment,
            operation=operation,
            number=state.next_number(operation),
            amount=amount,
        ),
        f"declare {operation}",
    )
    return declared.plan


async def move(state: PaymentState, to: Status, reason: StatusReason) -> None:
    """Take a transition that no provider call causes."""
    moved = await local(
        MOVE, MoveIn(payment_id=state.start.payment_id, to=to, reason=reason), f"{to}: {reason}"
    )
    state.moved(moved.status, moved.sequence)


async def ask_person(state: PaymentState, reason: StatusReason, facts: dict[str, str]) -> None:
    """Open a review; the payment shows as waiting for it."""
    payment = state.start.payment_id
    opened = await local(
        OPEN_REVIEW,
        OpenReviewIn(payment_id=payment, object_id=payment, reason=reason, facts=facts),
        f"ask a person: {reason}",
    )
    state.moved(opened.status, opened.sequence)
    # No review means that evidence came first and the payment went on: there is nothing left to ask.
    state.asked(opened.review_id, reason if opened.review_id is not None else None)


async def decide(state: PaymentState, command: ReviewCommand) -> ReviewDecided:
    """Record a person's decision and what it makes of the effect in question."""
    return await local(
        DECIDE_REVIEW,
        DecideReviewIn(
            review_id=command.review_id,
            decision=command.decision,
            decided_by=command.decided_by,
            note=command.note,
            provider_reference=command.provider_reference,
            effect_key=state.plan.effect_key if state.plan else None,
        ),
        f"{command.decision} by {command.decided_by}",
    )
