"""The two calls to payment providers: send a declared effect, look an effect up."""

from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic, perf_counter
from typing import Any

from opentelemetry.trace import SpanKind, get_tracer
from sqlalchemy import Connection
from temporalio import activity

from activities import plans, recording, refund_booking
from activities.breaker import Breaker
from activities.contracts import EXECUTE, LOOK_UP, Executed, ExecuteIn, LookUpIn
from activities.edge import Edge
from activities.errors import implements, repeat, too_late
from corridor.domain.effect import COLLECTING, EffectState, Operation
from corridor.domain.failure import Refusal, Refused
from corridor.domain.outcome import Evidence, Outcome, ProviderAnswer
from corridor.domain.payment import Status
from corridor.providers.port import LookedUp, LookUp, LookUpFailed, PaymentProvider, send_policy
from corridor.runtime import metrics
from corridor.runtime.crash import crash_point
from corridor.storage import effects, payments

_tracer = get_tracer("corridor.providers")
_SENT_INSIDE_A_LOCK = (Operation.SALE, Operation.CAPTURE)
_SENDING = "about to be sent, the only time"
LOOKS_BEFORE_UNKNOWN = 3
"""Tries of one look-up, a second or two apart; the workflow's own schedule of look-ups goes on after that."""


class ProviderSteps:
    """Activities on a provider's own queue. What they return is proof; what they raise proves nothing."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._breaker = Breaker(edge.database)

    @implements(EXECUTE)
    async def execute(self, wanted: ExecuteIn) -> Executed:
        """Send the frozen bytes under the effect key and record what came of it.

        Raises (retryable) REPEAT where the contract makes sending the same again safe, and TOO_LATE where nothing was sent
        because the attempt's time was running out; Temporal counts the tries.
        """
        now = self._edge.now()
        elapsed = _stopwatch(self._edge.now)
        effect, is_wanted, lock_holds = await self._edge.database.read(self._load, wanted.effect_key)
        provider = self._edge.providers[effect.provider]
        is_first = _is_first_send(effect, wanted)
        if not is_wanted or (not is_first and self._key_life_is_over(effect, provider)):
            return await self._edge.database.read(recording.as_recorded, effect.key)
        if not lock_holds:
            return await self._instead_of_sending(effect, provider, is_first)
        if _is_without_key(provider) and not await self._edge.database.write(_claim, effect.key, now):
            return await self._edge.database.read(recording.as_recorded, effect.key)
        answer = await self._send(effect, provider, elapsed)
        if self._may_repeat(effect, provider, answer):
            await self._edge.database.write(effects.add_look, effect.key, answer.evidence)
            raise repeat(f"{answer.outcome}: {answer.evidence.note}", answer.retry_after_seconds)
        return await self._record(effect, _of_every_try(answer))

    def _load(self, connection: Connection, key: str) -> tuple[Any, bool, bool]:
        """The effect, whether it is still wanted, and whether its FX lock outlasts the call (true without one).

        A lock is judged by the database's clock: by that of a worker that is ahead nothing could be sent any more, by
        that of one that is behind money would be taken at a rate that nobody promises any more.
        """
        effect = effects.to_send(connection, key)
        # A late attempt, or one of a workflow that was reset, must not collect for a payment that has ended.
        is_over = Status(effect.payment_status).is_terminal and effect.operation in COLLECTING
        is_wanted = not is_over and not EffectState(effect.state).is_final
        if effect.operation not in _SENT_INSIDE_A_LOCK or effect.quote_id is None:
            return effect, is_wanted, True
        if effect.lock_expires_at is None:
            raise Refused(Refusal.NOT_FOUND, "no such quote", {"quote": effect.quote_id})
        margin = timedelta(seconds=plans.lock_margin_seconds(self._edge.providers[effect.provider]))
        return effect, is_wanted, effect.asked_at + margin <= effect.lock_expires_at

    async def _instead_of_sending(self, effect: Any, provider: PaymentProvider, is_first: bool) -> Executed:
        """The lock ran out. If an earlier try moved money inside it, that stands; else nothing was sent.

        While an earlier try may be under way, not finding its effect proves nothing: the outcome stays unknown. How
        long ago the lock ended must not decide that: a provider may take longer over a call than we wait for it.
        """
        found = await provider.look_up(_wanted(effect))
        if found.answer is not None:
            return await self._record(effect, found.answer)
        nothing = await self._edge.database.read(recording.as_recorded, effect.key)
        outcome = Outcome.NOT_SENT if is_first else nothing.outcome
        return nothing.model_copy(update={"outcome": outcome, "quote_expired": True})

    async def _send(
        self, effect: Any, provider: PaymentProvider, elapsed: Callable[[], float]
    ) -> ProviderAnswer:
        operation = Operation(effect.operation)
        if operation is Operation.VOID and activity.info().attempt > 1:
            metrics.compensation_retried(operation)
        crash_point("provider.before_send")
        if elapsed() > _seconds_before_a_send(provider):
            raise too_late(effect.key, elapsed())
        begun = perf_counter()
        with _tracer.start_as_current_span(f"{effect.provider} {operation}", kind=SpanKind.CLIENT) as span:
            answer = await provider.send(effect.key, operation, effects.request(effect))
            span.set_attributes({"corridor.effect": effect.key, "corridor.outcome": answer.outcome})
        metrics.provider_called(perf_counter() - begun, effect.provider, operation, answer.outcome)
        crash_point("provider.answer_read")
        await self._breaker.note(effect.provider, effect.key, answer, self._edge.now())
        return answer

    def _key_life_is_over(self, effect: Any, provider: PaymentProvider) -> bool:
        """The provider may have forgotten the key, so a repeat could move money twice: only look-ups can tell now."""
        life = send_policy(provider.contract).give_up_after_seconds
        return life > 0 and self._edge.now() >= effect.declared_at + timedelta(seconds=life)

    def _may_repeat(self, effect: Any, provider: PaymentProvider, answer: ProviderAnswer) -> bool:
        tries_left = activity.info().attempt < send_policy(provider.contract).maximum_attempts
        unproven = answer.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT)
        return (
            unproven and answer.repeat_is_safe and tries_left and not self._key_life_is_over(effect, provider)
        )

    async def _record(self, effect: Any, answer: ProviderAnswer) -> Executed:
        deadlines = self._edge.deadlines(effect.provider)
        executed = await self._edge.database.write(
            recording.record_answer, effect.key, answer, self._edge.now(), deadlines
        )
        crash_point("outcome.committed")
        return executed

    @implements(LOOK_UP)
    async def look_up(self, wanted: LookUpIn) -> Executed:
        """Take the provider's own record of the effect.

        Raises (retryable) LOOK_UP_FAILED, which proves nothing; the last try answers `unknown` instead, so that a
        provider that is away ends in an owned review and holds up no person's decision. A refund that had succeeded is
        looked at until the provider answers.
        """
        effect = await self._edge.database.read(effects.get, wanted.effect_key)
        is_refund = effect.operation == Operation.REFUND
        if EffectState(effect.state).is_final and not (is_refund and effect.state == EffectState.APPROVED):
            return await self._edge.database.read(recording.as_recorded, effect.key)
        try:
            found = await self._edge.providers[effect.provider].look_up(_wanted(effect))
        except LookUpFailed as failed:
            # Nobody waits for what a refund became that had succeeded, and the news that it came back are not told twice.
            if effect.state == EffectState.APPROVED or activity.info().attempt < LOOKS_BEFORE_UNKNOWN:
                raise
            return await self._edge.database.write(
                _missed, effect.key, _seen_nothing(failed, self._edge.now())
            )
        if effect.state == EffectState.APPROVED:
            return await self._edge.database.write(_refund_seen_again, effect.key, found, self._edge.now())
        if found.answer is not None:
            return await self._record(effect, found.answer)
        if wanted.absence_is_proof:
            absent = ProviderAnswer(outcome=Outcome.NOT_SENT, evidence=found.evidence)
            return await self._record(effect, absent)
        return await self._edge.database.write(_missed, effect.key, found.evidence)


def _stopwatch(now: Callable[[], datetime]) -> Callable[[], float]:
    """Seconds since this was called, by the clock that says more: a machine that slept has stopped one of the two."""
    begun, by_the_wall = monotonic(), now()
    return lambda: max(monotonic() - begun, (now() - by_the_wall).total_seconds())


def _seconds_before_a_send(provider: PaymentProvider) -> float:
    """How long an attempt may take until it sends, so that its call ends before the server gives the attempt up.

    A worker that stood still sends nothing when it wakes: the look-ups may have concluded by then that nothing was sent.
    A call's deadline that was raised since the effect was declared may leave no time at all; then the limit itself counts.
    """
    limit = activity.info().start_to_close_timeout
    if limit is None:
        return float("inf")
    before = limit.total_seconds() - provider.capabilities.call_timeout_seconds
    return before if before > 0 else limit.total_seconds()


def _is_without_key(provider: PaymentProvider) -> bool:
    """Nothing at the provider keeps a second send under the same key from moving money again."""
    return send_policy(provider.contract).give_up_after_seconds == 0


def _claim(connection: Connection, key: str, now: datetime) -> bool:
    """Whether this attempt is the one that may send, where no key protects a repeat: the first that ever asked.

    Written down before the call, so a run that was reset while the call is under way finds it and looks instead.
    """
    payments.lock_of_effect(connection, key)
    effect = effects.get(connection, key)
    if effect.state != EffectState.DECLARED or any(look["note"] == _SENDING for look in effect.looks):
        return False
    effects.add_look(connection, key, Evidence(seen_at=now, note=_SENDING))
    return True


def _is_first_send(effect: Any, wanted: ExecuteIn) -> bool:
    """Nobody can have used the key before: however old the effect looks, and by whosever clock, it may be sent.

    A run that a reset made takes over what the one before it had asked for, as a first attempt of its own.
    """
    info = activity.info()
    is_own = effect.declared_by_run == info.workflow_run_id
    return (
        info.attempt == 1 and is_own and effect.state == EffectState.DECLARED and not wanted.may_be_under_way
    )


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


def _seen_nothing(failed: LookUpFailed, now: datetime) -> Evidence:
    return Evidence(seen_at=now, note=f"the look-up failed: {failed}"[:200])


def _missed(connection: Connection, key: str, evidence: Evidence) -> Executed:
    """Keep the evidence of a look that proved nothing; an effect without a proof stays unknown."""
    effects.add_look(connection, key, evidence)
    recorded = recording.as_recorded(connection, key)
    if recorded.outcome.is_proven:
        return recorded
    return recorded.model_copy(update={"outcome": Outcome.UNKNOWN})


def _refund_seen_again(connection: Connection, key: str, found: LookedUp, now: datetime) -> Executed:
    """A proven refund can still come back; only then something changes."""
    effect = effects.get(connection, key)
    payment = payments.lock(connection, effect.payment_id)
    came_back = found.answer is not None and found.answer.outcome is Outcome.DECLINED
    if came_back:
        refund_booking.come_back_once(connection, payment, effect.object_id, effect.provider, now)
    return recording.as_recorded(connection, key, again=came_back)
