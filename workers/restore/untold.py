"""What a call had done whose worker was killed before it told: the provider says what, and a refund of it says when.

A history has no answer of such a call, and the database that had it is lost. Where a refund was made meanwhile, its steps
tell where the capture had left the payment, with the day by which it must settle; that counts from the capture.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from activities.contracts import EffectPlan, Executed, Standing
from corridor.domain.effect import Operation
from corridor.domain.payment import Status
from corridor.providers.port import LookUp, LookUpFailed
from corridor.providers.registry import Registry
from workers.histories.reading import Reading, StepTaken
from workers.restore.repair import CALLS, Family

_CAPTURES = (Operation.SALE, Operation.CAPTURE)
_RESERVED = "amount_refund_reserved_minor"


async def as_the_provider_tells(family: Family, providers: Registry) -> Family:
    """The same family, with the answer of its payment's open call in the history's place, where that is needed and known.

    A provider that does not answer, or does not know the effect, changes nothing: the call is left as it is.
    """
    call = _open_call(family.payment)
    stood = None if call is None else _told_by_refund(family)
    if call is None or stood is None:
        return family
    plan = _plan_of(family.payment, call.given.effect_key)
    if plan is None or plan.operation not in _CAPTURES:
        return family
    asked = LookUp(
        effect_key=plan.effect_key,
        operation=plan.operation,
        payment_id=family.payment_id,
        declared_at=plan.declared_at,
        provider_reference=stood.row.get("provider_reference"),
        amount=plan.amount,
    )
    try:
        found = await providers[plan.provider].look_up(asked)
    except LookUpFailed:
        return family
    if found.answer is None or not found.answer.outcome.is_proven:
        return family
    last, settle_by = family.payment[-1], datetime.fromisoformat(stood.row["settle_by"])
    captured_at = settle_by - timedelta(seconds=last.start.settle_within_seconds)
    captured = Standing(
        object_id=family.payment_id,
        sequence=stood.sequence - 1,
        event="payment.captured",
        at=captured_at,
        row={name: value for name, value in stood.row.items() if name != _RESERVED},
    )
    executed = Executed(
        outcome=found.answer.outcome,
        status=Status.CAPTURED,
        sequence=captured.sequence,
        answer=found.answer,
        settle_by=settle_by,
        resolved_at=captured_at,
        stands=(captured,),
    )
    answered = replace(call, ending="completed", result=executed)
    steps = tuple(answered if step is call else step for step in last.steps)
    return replace(family, payment=[*family.payment[:-1], replace(last, steps=steps)])


def _open_call(runs: list[Reading]) -> StepTaken | None:
    last = runs[-1].steps[-1:] if runs else ()
    return next((step for step in last if step.ending == "open" and step.name in CALLS), None)


def _told_by_refund(family: Family) -> Standing | None:
    """The payment as the first refund after the capture left it, where that is the event next to the capture's."""
    own = max((it.sequence for it in _standings(family, family.payment)), default=1)
    refunds = [run for runs in family.refunds.values() for run in runs]
    told = (it for it in _standings(family, refunds) if it.sequence == own + 2)
    return next((it for it in told if it.event == "payment.refund_reserved" and "settle_by" in it.row), None)


def _standings(family: Family, runs: Iterable[Reading]) -> list[Standing]:
    results: list[Any] = [step.result for run in runs for step in run.steps]
    every: list[Standing] = [it for result in results for it in getattr(result, "stands", ())]
    return [it for it in every if it.object_id == family.payment_id]


def _plan_of(runs: list[Reading], effect_key: str) -> EffectPlan | None:
    told = [getattr(step.result, "plan", None) for run in runs for step in run.steps]
    resumed = [run.start.resume.plan for run in runs if run.start.resume is not None]
    return next((it for it in (*told, *resumed) if it is not None and it.effect_key == effect_key), None)
