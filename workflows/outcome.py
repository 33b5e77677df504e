"""One effect from send to proof: the procedure every money call goes through, whatever the rail.

An explicit answer is the end. Everything else (a timeout, a lost worker, a broken connection, an answer we do not
understand) is *unknown* and is looked up by our own reference until it is found or its absence is proven. When the
procedure is exhausted the outcome stays unknown, and the caller asks a person; nothing is ever guessed.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.contracts import EXECUTE, LOOK_UP, EffectPlan, Executed, ExecuteIn, LookUpIn
from corridor.domain.effect import Operation
from corridor.domain.outcome import Outcome
from corridor.domain.sending import SendPolicy
from workflows import steps
from workflows.hints import Hints, seconds_until

WAITING = (Outcome.UNKNOWN, Outcome.PENDING)
ABSENCE_COUNTS_LESS = "absence-counts-less"
"""Before it, a server error that the provider keeps was taken for the end of the matter. Stripe calls such an outcome
indeterminate, may roll a charge forward later, tells that by webhook, and advises against another key
(https://docs.stripe.com/error-low-level#server-errors)."""
NEWS_IS_NO_DELAY = "news-is-no-delay"
"""Before it, each piece of news took the place of one of the waits that absence is concluded after."""
PENDING_POLL_SECONDS = (5, 30, 120, 600)
"""A provider that says `processing` is asked again at these intervals, and at once on each webhook."""


async def carry_out(
    plan: EffectPlan,
    hints: Hints,
    stop: Callable[[], bool] = lambda: False,
    inherited: bool = False,
    is_last_try: bool = False,
) -> Executed:
    """Send the declared effect, then look until its fate is proven; send again under the same key while it is not.

    A call that nobody answered may still be running at the provider. Under the same key it cannot become a second
    effect, so that is what is repeated; absence is concluded once, at the end. `stop` ends the repeats early. An
    `inherited` plan may have been sent by a workflow that was lost: where no key protects a repeat it is only looked up.
    Returns with `unknown` or `pending` when every look of the policy was spent and proved nothing. `is_last_try` says
    that the caller declares no other key after this one.
    """
    if inherited and plan.policy.rounds == 1:
        return await _find_out(plan, hints, is_last_try)
    may_be_under_way = inherited or _is_reset()
    for left in reversed(range(plan.policy.rounds)):
        executed = await _send(plan, may_be_under_way)
        may_be_under_way = True
        if executed is None or not executed.outcome.is_proven:
            hints.forget()  # news of a proven effect may be of what came after, such as a refund that came back
        if executed is not None and executed.outcome not in WAITING:
            return executed
        if executed is not None and executed.quote_expired:
            break  # nothing more is sent, only the fate of earlier tries is open
        if executed is not None and executed.outcome is Outcome.PENDING:
            return await _poll(plan, hints, executed)
        if executed is not None and plan.policy.answers_are_kept and _is_kept_error(executed):
            is_proof = _absence_counts(plan, is_last_try, last_word=True)
            found = await _look(plan, hints, _after_last_word(plan.policy), conclude=is_proof)
            return found.model_copy(update={"key_is_spent": found.outcome is Outcome.NOT_SENT})
        if left == 0 or stop():
            break
        found = await _look(plan, hints, plan.policy.lookup_delays_seconds, conclude=False)
        if found.outcome is not Outcome.UNKNOWN:
            return found
    return await _find_out(plan, hints, is_last_try)


def _absence_counts(plan: EffectPlan, is_last_try: bool, *, last_word: bool) -> bool:
    """Whether not finding the effect may prove that it never was. The provider's `last_word` was a server error: it may
    still act on that by itself, and only what happens once is safe under another key. A capture is concluded absent only
    where another try follows; else a person is asked, and evidence that comes meanwhile must still count.
    """
    if plan.operation is Operation.CAPTURE:
        counts = (last_word or plan.policy.rounds == 1) and not is_last_try
    else:
        counts = not last_word or plan.operation is Operation.VOID
    return counts or not workflow.patched(ABSENCE_COUNTS_LESS)


def _is_kept_error(executed: Executed) -> bool:
    """The provider's last word under this key. A server error said for the first time may come from a machine in front

    of the one that is still at work on an earlier try.
    """
    evidence = executed.evidence
    return evidence is not None and evidence.replayed and (evidence.http_status or 0) >= 500


def _is_reset() -> bool:
    info = workflow.info()
    return info.run_id != info.first_execution_run_id


async def _send(plan: EffectPlan, may_be_under_way: bool) -> Executed | None:
    """The answer, or None when the call ended without one. Only what the activity *returns* is proof:

    a start-to-close timeout, a worker that shut down and every unforeseen error count as unknown alike.
    """
    try:
        return await steps.send(
            EXECUTE,
            ExecuteIn(effect_key=plan.effect_key, may_be_under_way=may_be_under_way or None),
            plan,
            f"{plan.operation} {plan.amount} at {plan.provider}",
        )
    except ActivityError:
        return None


def _after_last_word(policy: SendPolicy) -> tuple[int, ...]:
    """The call itself is over: only the provider's visibility lag is waited for."""
    chosen = policy.last_word_delays_seconds
    return policy.lookup_delays_seconds if chosen is None else chosen


async def _find_out(plan: EffectPlan, hints: Hints, is_last_try: bool) -> Executed:
    """Look the effect up after each declared delay; the last miss proves absence where it counts."""
    delays, longer = plan.policy.lookup_delays_seconds, plan.policy.last_look_delay_seconds
    waits_longer = longer > 0 and len(delays) > 0
    is_proof = _absence_counts(plan, is_last_try, last_word=False)
    return await _look(plan, hints, (*delays, longer) if waits_longer else delays, conclude=is_proof)


async def _look(plan: EffectPlan, hints: Hints, delays: Sequence[int], *, conclude: bool) -> Executed:
    for number, delay in enumerate(delays, start=1):
        summary = f"look-up {number} of {len(delays)}: unknown outcome of {plan.operation}"
        is_last = number == len(delays)
        found = await _look_on_news(plan, hints, delay, summary) or await look_once(
            plan, absence_is_proof=conclude and is_last and plan.policy.absence_is_proof
        )
        if found.outcome is Outcome.PENDING:
            return await _poll(plan, hints, found)
        if found.outcome is not Outcome.UNKNOWN or is_last:
            return found
    return await look_once(plan)


async def _look_on_news(plan: EffectPlan, hints: Hints, seconds: int, summary: str) -> Executed | None:
    """What a look proved before `seconds` had passed; None when they have, and a look is due.

    News may be late, and of another effect of the payment: they are a reason to look at once, and none to conclude from
    not finding anything that the whole time was waited for.
    """
    due = workflow.now() + timedelta(seconds=seconds)
    while await hints.wait(seconds_until(due), summary):
        if not workflow.patched(NEWS_IS_NO_DELAY):
            return None
        found = await look_once(plan)
        if found.outcome not in WAITING:
            return found
    return None


async def _poll(plan: EffectPlan, hints: Hints, pending: Executed) -> Executed:
    for seconds in PENDING_POLL_SECONDS:
        summary = f"{plan.provider} is still processing the {plan.operation}"
        pending = await _look_on_news(plan, hints, seconds, summary) or await look_once(plan)
        if pending.outcome not in WAITING:
            return pending
    return pending


async def look_once(plan: EffectPlan, absence_is_proof: bool = False) -> Executed:
    """One look at the provider's own record of the effect."""
    return await steps.look(
        LOOK_UP,
        LookUpIn(effect_key=plan.effect_key, absence_is_proof=absence_is_proof),
        plan,
        f"look up {plan.operation} at {plan.provider}",
    )
