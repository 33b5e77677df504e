"""The two calls to payment providers: send a declared effect, look an effect up."""

import time
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection
from temporalio import activity

from activities import recording, refund_booking
from activities.contracts import EXECUTE, LOOK_UP, Executed, ExecuteIn, LookUpIn
from activities.edge import Edge
from activities.errors import implements, repeat
from corridor.domain.effect import EffectState, Operation
from corridor.domain.outcome import Outcome, ProviderAnswer
from corridor.fx.store import get_quote
from corridor.providers.port import LookedUp, LookUp, PaymentProvider, send_policy
from corridor.runtime import metrics
from corridor.runtime.crash import crash_point
from corridor.storage import effects, payments

_SENT_INSIDE_A_LOCK = (Operation.SALE, Operation.CAPTURE)


class ProviderSteps:
    """Activities on a provider's own queue. What they return is proof; what they raise proves nothing."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    @implements(EXECUTE)
    async def execute(self, wanted: ExecuteIn) -> Executed:
        """Send the frozen bytes under the effect key and record what came of it.

        Raises (retryable) REPEAT where the contract makes sending the same again safe; Temporal counts the tries.
        """
        effect, lock_holds = await self._edge.database.read(self._load, wanted.effect_key, self._edge.now())
        if EffectState(effect.state).is_final:
            return await self._edge.database.read(recording.as_recorded, effect.key)
        provider = self._edge.providers[effect.provider]
        if not lock_holds:
            return await self._instead_of_sending(effect, provider)
        answer = await self._send(effect, provider)
        if self._may_repeat(effect, provider, answer):
            await self._edge.database.write(effects.add_look, effect.key, answer.evidence)
            raise repeat(f"{answer.outcome}: {answer.evidence.note}", answer.retry_after_seconds)
        return await self._record(effect, _of_every_try(answer))

    def _load(self, connection: Connection, key: str, now: datetime) -> tuple[Any, bool]:
        """The effect, and whether its FX lock outlasts the call (true where there is none to hold)."""
        effect = effects.get(connection, key)
        payment = payments.load(connection, effect.payment_id)
        if effect.operation not in _SENT_INSIDE_A_LOCK or payment.quote_id is None:
            return effect, True
        quote, _ = get_quote(connection, payment.merchant_id, payment.quote_id, now)
        margin = self._edge.providers[effect.provider].capabilities.call_timeout_seconds
        return effect, quote.is_executable(now, int(margin) + 1)

    async def _instead_of_sending(self, effect: Any, provider: PaymentProvider) -> Executed:
        """The lock ran out. If an earlier try moved money inside it, that stands; else nothing was sent.

        A try of this very run may not be visible yet, so only the first attempt may conclude from one look.
        """
        found = await provider.look_up(_wanted(effect))
        if found.answer is not None:
            return await self._record(effect, found.answer)
        nothing = await self._edge.database.read(recording.as_recorded, effect.key)
        if activity.info().attempt > 1 or effect.state != EffectState.DECLARED:
            return nothing
        return nothing.model_copy(update={"outcome": Outcome.NOT_SENT, "quote_expired": True})

    async def _send(self, effect: Any, provider: PaymentProvider) -> ProviderAnswer:
        operation = Operation(effect.operation)
        crash_point("provider.before_send")
        begun = time.perf_counter()
        answer = await provider.send(effect.key, operation, effects.request(effect))
        metrics.provider_called(time.perf_counter() - begun, effect.provider, operation, answer.outcome)
        crash_point("provider.answer_read")
        return answer

    def _may_repeat(self, effect: Any, provider: PaymentProvider, answer: ProviderAnswer) -> bool:
        policy = send_policy(provider.contract)
        inside_key_life = self._edge.now() < effect.declared_at + timedelta(seconds=policy.give_up_after_seconds)
        tries_left = activity.info().attempt < policy.maximum_attempts
        unproven = answer.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT)
        return unproven and answer.repeat_is_safe and tries_left and inside_key_life

    async def _record(self, effect: Any, answer: ProviderAnswer) -> Executed:
        executed = await self._edge.database.write(
            recording.record_answer, effect.key, answer, self._edge.now(), self._edge.settle_within
        )
        crash_point("outcome.committed")
        return executed

    @implements(LOOK_UP)
    async def look_up(self, wanted: LookUpIn) -> Executed:
        """Take the provider's own record of the effect. Raises (retryable) LOOK_UP_FAILED, which proves nothing."""
        effect = await self._edge.database.read(effects.get, wanted.effect_key)
        is_refund = effect.operation == Operation.REFUND
        if EffectState(effect.state).is_final and not (is_refund and effect.state == EffectState.APPROVED):
            return await self._edge.database.read(recording.as_recorded, effect.key)
        found = await self._edge.providers[effect.provider].look_up(_wanted(effect))
        if effect.state == EffectState.APPROVED:
            return await self._edge.database.write(_refund_seen_again, effect.key, found, self._edge.now())
        if found.answer is not None:
            return await self._record(effect, found.answer)
        if wanted.absence_is_proof:
            absent = ProviderAnswer(outcome=Outcome.NOT_SENT, evidence=found.evidence)
            return await self._record(effect, absent)
        return await self._edge.database.write(_missed, effect.key, found)


def _of_every_try(answer: ProviderAnswer) -> ProviderAnswer:
    """`not_sent` is proven of this call alone; an earlier try, in this run or before a reset, may have arrived.

    So it counts as unknown here, and only a look-up can prove that nothing was ever sent.
    """
    if answer.outcome is Outcome.NOT_SENT:
        return answer.model_copy(update={"outcome": Outcome.UNKNOWN})
    return answer


def _wanted(effect: Any) -> LookUp:
    return LookUp(
        effect_key=effect.key,
        operation=Operation(effect.operation),
        payment_id=effect.payment_id,
        declared_at=effect.declared_at,
        provider_reference=effect.provider_reference,
        amount=effects.amount(effect),
    )


def _missed(connection: Connection, key: str, found: LookedUp) -> Executed:
    """Keep the evidence of a look that found nothing; the outcome stays unknown."""
    effects.add_look(connection, key, found.evidence)
    return recording.as_recorded(connection, key).model_copy(update={"outcome": Outcome.UNKNOWN})


def _refund_seen_again(connection: Connection, key: str, found: LookedUp, now: datetime) -> Executed:
    """A proven refund can still come back; only then something changes."""
    effect = effects.get(connection, key)
    payment = payments.lock(connection, effect.payment_id)
    if found.answer is not None and found.answer.outcome is Outcome.DECLINED:
        refund_booking.come_back_once(connection, payment, effect.object_id, effect.provider, now)
    return recording.as_recorded(connection, key)
