"""How what a payment holds at the provider is released, and how a release that was lost on its way is finished."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.contracts import EffectPlan
from corridor.domain.effect import Operation
from corridor.domain.failure import Refusal
from corridor.domain.outcome import Outcome
from corridor.domain.payment import Status, StatusReason
from workflows.hints import Hints, seconds_until
from workflows.outcome import carry_out, look_once
from workflows.payment_moves import ask_person, declare, move
from workflows.payment_state import PaymentState

UNDO = {
    Operation.AUTHORISE: Operation.VOID,
    Operation.SALE: Operation.VOID,
    Operation.CAPTURE: Operation.VOID,
}
"""What each step that may move money is undone by; the plan is kept before the step is taken (`state.plan`).

Undo means: void what the provider still holds, and look at what the step itself became. A capture that went through
is not undone here: the money is the merchant's, and giving it back is a refund, with its own object and limits.
"""
UNDO_RETRY_SECONDS = (5, 60, 300)
VOID_LEAD = timedelta(minutes=5)
"""An authorisation is released this long before the network lets it lapse."""


async def voided(
    state: PaymentState, hints: Hints, retry_seconds: tuple[int, ...] = UNDO_RETRY_SECONDS
) -> bool:
    """True when the provider proves that nothing is held any more."""
    plan = state.current_plan()
    for seconds in (*retry_seconds, None):
        # All that is held, also where the step to undo was a capture of less.
        try:
            void = await declare(state, UNDO[plan.operation], state.start.amount)
        except ApplicationError as refused:
            if refused.type not in set(Refusal):
                raise
            break  # a person found the payment, and did not say under which reference
        executed = await carry_out(void, hints)
        if executed.outcome is Outcome.APPROVED:
            return True
        state.became(await look_once(plan))
        if state.status in (Status.CAPTURED, Status.FAILED):
            return False
        if seconds is not None:
            await workflow.sleep(timedelta(seconds=seconds), summary="before the undo is tried again")
    await ask_person(state, StatusReason.COMPENSATION_STUCK, {"effect": plan.effect_key})
    return False


async def finish_undo(state: PaymentState, hints: Hints, void: EffectPlan) -> None:
    """An undo that was declared is carried to its end. Who asked for it is not known any more, what it was is."""
    executed = await carry_out(void, hints, inherited=True)
    if executed.outcome is not Outcome.APPROVED and not await voided(state, hints):
        return
    if state.plan is not None and state.plan.operation is Operation.CAPTURE:
        await move(state, Status.FAILED, StatusReason.NOT_SENT)
    elif state.action_until is not None and seconds_until(state.action_until) <= 0:
        await move(state, Status.EXPIRED, StatusReason.AUTHENTICATION_ABANDONED)
    elif state.authorized_until is not None and workflow.now() >= state.authorized_until - VOID_LEAD:
        await move(state, Status.EXPIRED, StatusReason.AUTHORIZATION_EXPIRED)
    else:
        await move(state, Status.CANCELED, StatusReason.CANCELED_BY_MERCHANT)
