"""PaymentWorkflow: one payment from acceptance to settlement; reads top to bottom as its story.

The payment's status decides what happens next (see `_carry`), so a payment resumed from the database after its history
was lost walks the same path as one that was never interrupted. Handlers only record; one coroutine acts.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import chain, repeat

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import ApplicationError

from activities.contracts import (
    REQUOTE,
    SETTLE,
    EffectPlan,
    Executed,
    RequoteIn,
    SettleIn,
)
from corridor.domain.effect import Operation
from corridor.domain.failure import Refusal, broken
from corridor.domain.outcome import Outcome
from corridor.domain.payment import CANCELABLE, CAPTURABLE, Status, StatusReason, require
from workflows import names
from workflows.commands import check_decision, refusal_of, refuse_unless
from workflows.finishing import every_command_answered, finish
from workflows.hints import Hints, Pace, seconds_until
from workflows.messages import (
    CancelCommand,
    CaptureCommand,
    CommandDone,
    PaymentAnswer,
    PaymentStart,
    ProviderHint,
    ReviewCommand,
    SettlementFact,
)
from workflows.outcome import carry_out, look_once
from workflows.payment_moves import ask_person, decide, declare, move, prepare
from workflows.payment_state import PaymentState
from workflows.steps import local
from workflows.tickets import Ticket, Tickets
from workflows.undo import VOID_LEAD, finish_undo, voided

MAXIMUM_ATTEMPTS = 2
"""Attempts proven never to have reached the provider before the payment is given up."""
CALLED_OFF = "a-cancel-stops-further-tries"
MAXIMUM_REQUOTES = 5
"""New locks a payment takes before it is given up: one is enough while clocks agree."""
REQUOTE_PAUSE = timedelta(seconds=1)
MAY_BECOME_CAPTURABLE = frozenset({Status.PROCESSING, Status.REQUIRES_ACTION, Status.REQUIRES_REVIEW})
BUYER_POLL_SECONDS = (20, 60, 180, 600, 1800)


@workflow.defn(name=names.PAYMENT, versioning_behavior=VersioningBehavior.PINNED)
class PaymentWorkflow:
    """Carries one payment; every change to it goes through here."""

    @workflow.init
    def __init__(self, start: PaymentStart) -> None:
        self.start = start
        self.state = PaymentState(start)
        self.approved_review = start.resume.approved_review if start.resume else None
        self.tickets = Tickets()
        self.hints = Hints()
        self.pace = Pace()
        self.requotes = 0
        self.no_rate: StatusReason | None = None
        self.facts: list[SettlementFact] = []

    @workflow.run
    async def run(self, start: PaymentStart) -> PaymentAnswer:
        """Walk the stages until the payment is terminal. A Temporal cancel becomes a business cancel."""
        await finish(self._carry(), lambda: self.tickets.put(CancelCommand(requested_by="operator")))
        await every_command_answered()
        return PaymentAnswer(status=self.state.status, sequence=self.state.sequence)

    async def _carry(self) -> None:
        if self.start.resume is not None and self.start.resume.undo is not None:
            await finish_undo(self.state, self.hints, self.start.resume.undo)
        if (
            self.start.resume is not None
            and self.state.plan is not None
            and not self.state.status.is_terminal
        ):
            await self._catch_up(self.state.plan)
        stages: dict[Status, Callable[[], Awaitable[None]]] = {
            Status.PROCESSING: self._collect,
            Status.REQUIRES_ACTION: self._await_buyer,
            Status.REQUIRES_REVIEW: self._await_person,
            Status.AUTHORIZED: self._await_capture,
            Status.CAPTURED: self._await_settlement,
        }
        while not self.state.status.is_terminal:
            self.state.show()
            await stages[self.state.status]()
        self.state.show()
        while self.facts:  # of a payment that ended otherwise: booked as what nobody can attribute
            await self._book(self.facts.pop(0))
        while (ticket := self.tickets.take()) is not None:
            self.state.refuse(
                ticket, Refusal.STATE_CONFLICT, f"the payment is {self.state.status}; nothing was changed"
            )

    async def _catch_up(self, plan: EffectPlan) -> None:
        """A resumed payment looks before it acts; a capture that was asked for and never happened is made now."""
        seen = await look_once(plan)
        self.state.became(seen)
        asked_for = plan.operation is Operation.CAPTURE and self.state.status is Status.AUTHORIZED
        if asked_for and not seen.outcome.is_proven:
            await self._execute(plan)

    # --- processing: prepare, then authorise or sell -----------------------------------------------------------

    async def _collect(self) -> None:
        if self.state.plan is None:
            prepared = await prepare(self.state, self.approved_review)
            self.state.moved(prepared.status, prepared.sequence)
            self.state.plan = prepared.plan
            if prepared.review_id is not None:
                self.state.asked(prepared.review_id, StatusReason.RISK_REVIEW)
        if self.state.plan is not None:
            await self._execute(self.state.plan)

    async def _execute(self, plan: EffectPlan) -> None:
        """Carry the plan out to a proven end, or hand it to a person."""
        inherited = self.start.resume is not None and plan == self.start.resume.plan
        is_last_try = self.state.number(plan.operation) >= MAXIMUM_ATTEMPTS
        executed = await carry_out(plan, self.hints, lambda: bool(self.tickets), inherited, is_last_try)
        self.state.became(executed)
        if executed.quote_expired:
            await self._requote(plan)
        elif executed.outcome is Outcome.NOT_SENT:
            await self._try_again(plan, executed)
        elif executed.outcome in (Outcome.UNKNOWN, Outcome.PENDING):
            await ask_person(self.state, _reason_of(executed), {"effect": plan.effect_key})
        elif executed.outcome is Outcome.ACTION_REQUIRED:
            self.state.action_until = workflow.now() + timedelta(seconds=self.start.action_window_seconds)

    async def _requote(self, plan: EffectPlan) -> None:
        """The lock ran out before anything was sent: a new rate inside the merchant's limit, or no payment.

        Where the clocks of two workers disagree, one may find a lock good that the other never sends on: they are
        asked a few times, with a pause in which another worker can come to the turn, and not for ever.
        """
        self.requotes += 1
        if self.requotes > 1:
            await workflow.sleep(
                REQUOTE_PAUSE, summary="the renewed FX lock was over before it could be used"
            )
        requoted = await local(
            REQUOTE, RequoteIn(payment_id=self.start.payment_id), "FX lock expired: new quote"
        )
        if requoted.accepted and self.requotes < MAXIMUM_REQUOTES:
            return await self._execute(plan)
        self.no_rate = reason = requoted.reason or StatusReason.RATE_UNAVAILABLE
        # Nothing was sent: said of the effect too, or it would stay declared for ever.
        await look_once(plan, absence_is_proof=plan.policy.absence_is_proof)
        if plan.operation is Operation.CAPTURE:
            await self._release(Status.FAILED, reason)
        else:
            await move(self.state, Status.FAILED, reason)

    async def _try_again(self, plan: EffectPlan, absent: Executed) -> None:
        """Absence is proven. A new effect key is only taken where the old one is spent, or never protected anything."""
        is_of_use = absent.key_is_spent or plan.policy.rounds == 1
        is_left = self.state.number(plan.operation) < MAXIMUM_ATTEMPTS
        if is_of_use and is_left and not self._is_called_off(plan):
            self.state.plan = await declare(self.state, plan.operation, plan.amount)
            await self._execute(self.state.plan)
        elif plan.operation is Operation.CAPTURE:
            await ask_person(
                self.state, StatusReason.OUTCOME_UNKNOWN, {"effect": plan.effect_key, "finding": "not sent"}
            )
        else:
            await move(self.state, Status.FAILED, StatusReason.NOT_SENT)

    def _is_called_off(self, plan: EffectPlan) -> bool:
        """A cancel came while nothing had been sent: nothing is sent any more. A capture's cancel has its own stage."""
        waits = bool(self.tickets) and plan.operation is not Operation.CAPTURE
        return waits and workflow.patched(CALLED_OFF)

    # --- requires_action: the buyer is at the bank's page ------------------------------------------------------

    async def _await_buyer(self) -> None:
        plan = self.state.current_plan()
        if self.state.action_until is None:
            self.state.action_until = workflow.now() + timedelta(seconds=self.start.action_window_seconds)
        for poll in chain(BUYER_POLL_SECONDS, repeat(BUYER_POLL_SECONDS[-1])):
            left = seconds_until(self.state.action_until)
            await self.hints.wait(min(poll, left), "the buyer's authentication", lambda: bool(self.tickets))
            if (ticket := await self.tickets.recorded()) is not None:
                return await self._cancel(ticket)
            self.state.became(await look_once(plan))
            if self.state.status is not Status.REQUIRES_ACTION:
                return
            if seconds_until(self.state.action_until) <= 0:
                return await self._release(Status.EXPIRED, StatusReason.AUTHENTICATION_ABANDONED)

    # --- requires_review: a person decides, or evidence arrives first ------------------------------------------

    async def _await_person(self) -> None:
        await self.hints.wait(
            self.pace.next_seconds(),
            f"review {self.state.review_id}: {self.state.review_reason}",
            lambda: bool(self.tickets),
        )
        ticket = await self.tickets.recorded()
        if ticket is None:
            await self._look_during_review()
        elif isinstance(ticket.command, ReviewCommand) and ticket.command.review_id == self.state.review_id:
            await self._decide(ticket, ticket.command)
        elif self.state.review_reason is StatusReason.RISK_REVIEW:
            await self._cancel(ticket)
        else:
            self.state.refuse(
                ticket, Refusal.OUTCOME_UNKNOWN, "an unresolved provider call must be settled first"
            )

    async def _look_during_review(self) -> None:
        if self.state.review_reason is StatusReason.COMPENSATION_STUCK:
            await self._undo_again()
        elif self.state.plan is not None and self.state.review_reason is not StatusReason.RISK_REVIEW:
            self.state.became(await look_once(self.state.plan))

    async def _decide(self, ticket: Ticket, command: ReviewCommand) -> None:
        decided = await decide(self.state, command)
        reason = self.state.review_reason
        self.state.asked(None, None)
        self.state.moved(decided.status, decided.sequence)
        if decided.executed is not None:
            self.state.became(
                decided.executed.model_copy(update={"status": decided.status, "sequence": decided.sequence})
            )
        if reason is StatusReason.RISK_REVIEW and command.decision == "approve":
            self.approved_review = command.review_id
        self.state.done(ticket)
        if reason is StatusReason.COMPENSATION_STUCK:
            await self._undo_again()

    # --- authorized: the merchant captures or cancels before the network's window ends -------------------------

    async def _await_capture(self) -> None:
        until = None if self.state.authorized_until is None else self.state.authorized_until - VOID_LEAD
        seconds = None if until is None else max(seconds_until(until), 1.0)
        try:
            await workflow.wait_condition(
                lambda: bool(self.tickets), timeout=seconds, timeout_summary="the network's capture window"
            )
        except TimeoutError:
            return await self._release(Status.EXPIRED, StatusReason.AUTHORIZATION_EXPIRED)
        ticket = await self.tickets.recorded() or broken("a ticket woke us")
        if isinstance(ticket.command, CaptureCommand):
            return await self._capture(ticket, ticket.command)
        return await self._cancel(ticket)

    async def _capture(self, ticket: Ticket, command: CaptureCommand) -> None:
        try:
            plan = await declare(self.state, Operation.CAPTURE, command.amount)
        except ApplicationError as refused:
            if refused.type not in set(Refusal):
                raise
            return self.state.refuse(ticket, Refusal(refused.type), refused.message)
        authorised, self.state.plan = self.state.plan, plan
        await self._execute(plan)
        if self.state.status is Status.AUTHORIZED:  # declined: the network let go before we did
            self.state.plan = authorised
            await self._release(Status.EXPIRED, StatusReason.AUTHORIZATION_EXPIRED)
        if self.state.status is Status.CAPTURED:
            self.state.done(ticket)
        else:
            code = refusal_of(self.state.status, self.no_rate)
            self.state.refuse(
                ticket, code, f"the capture did not go through; the payment is now {self.state.status}"
            )

    # --- captured: wait for the provider's settlement fact -----------------------------------------------------

    async def _await_settlement(self) -> None:
        deadline = self.state.settle_by or workflow.now() + timedelta(
            seconds=self.start.settle_within_seconds
        )
        try:
            await workflow.wait_condition(
                lambda: bool(self.facts) or bool(self.tickets),
                timeout=seconds_until(deadline) if deadline > workflow.now() else None,
                timeout_summary="settlement by the provider",
            )
        except TimeoutError:
            self.state.show_overdue(workflow.now())
            return
        while (ticket := self.tickets.take()) is not None:
            self.state.refuse(
                ticket, Refusal.STATE_CONFLICT, "the money is captured; use a refund to return it"
            )
        if self.facts:
            await self._book(self.facts.pop(0))

    async def _book(self, fact: SettlementFact) -> None:
        settled = await local(
            SETTLE,
            SettleIn(payment_id=self.start.payment_id, provider=fact.provider, line_id=fact.line_id),
            f"book settlement row {fact.line_id}",
        )
        self.state.moved(settled.status, settled.sequence)

    # --- undo ---------------------------------------------------------------------------------------------------

    async def _cancel(self, ticket: Ticket) -> None:
        """A business cancel: nothing sent yet → just stop; otherwise look, and void what exists.

        Any other command that comes up here was overtaken while it waited, and must not be taken for a cancel.
        """
        if not isinstance(ticket.command, CancelCommand):
            return self._overtaken(ticket)
        by_operator = ticket.command.requested_by == "operator"
        reason = StatusReason.CANCELED_BY_OPERATOR if by_operator else StatusReason.CANCELED_BY_MERCHANT
        await self._release(Status.CANCELED, reason)
        if self.state.status is Status.CANCELED:
            self.state.done(ticket)
        else:
            self.state.refuse(
                ticket,
                refusal_of(self.state.status, self.no_rate),
                f"too late to cancel: the payment is {self.state.status}",
            )

    def _overtaken(self, ticket: Ticket) -> None:
        is_review = isinstance(ticket.command, ReviewCommand)
        code = Refusal.REVIEW_ALREADY_DECIDED if is_review else Refusal.STATE_CONFLICT
        self.state.refuse(ticket, code, f"the payment is {self.state.status} by now; nothing was changed")

    async def _release(self, to: Status, reason: StatusReason) -> None:
        """Void what the provider holds, then close the payment; if the money moved meanwhile, that stands."""
        if self.state.plan is not None and not await voided(self.state, self.hints):
            return
        await move(self.state, to, reason)

    async def _undo_again(self) -> None:
        if await voided(self.state, self.hints, retry_seconds=()):
            await move(self.state, Status.CANCELED, StatusReason.COMPENSATION_STUCK)

    # --- what the outside says; handlers only record -----------------------------------------------------------

    @workflow.update(name=names.ACCEPT)
    async def accept(self) -> PaymentAnswer:
        """Where the payment stands once it left `processing`: the early answer of the API."""
        await workflow.wait_condition(lambda: self.state.answered)
        return PaymentAnswer(status=self.state.status, sequence=self.state.sequence)

    @workflow.update(name=names.CAPTURE)
    async def capture(self, command: CaptureCommand) -> CommandDone:
        return await self.tickets.ask(command)

    @capture.validator
    def _capture_is_possible(self, command: CaptureCommand) -> None:
        """A step under way may have committed `authorized` before we see it: the command waits for the step's end."""
        refuse_unless(lambda: require(self.state.status, CAPTURABLE | MAY_BECOME_CAPTURABLE, "capture"))
        if command.amount is not None and not command.amount <= self.start.amount:
            raise ApplicationError(
                f"at most {self.start.amount} was authorised; nothing was changed",
                type=Refusal.CAPTURE_EXCEEDS_AUTHORIZED,
            )

    @workflow.update(name=names.CANCEL)
    async def cancel(self, command: CancelCommand) -> CommandDone:
        return await self.tickets.ask(command)

    @cancel.validator
    def _cancel_is_possible(self, command: CancelCommand) -> None:
        refuse_unless(lambda: require(self.state.status, CANCELABLE, "cancel"))

    @workflow.update(name=names.DECIDE_REVIEW)
    async def decide_review(self, command: ReviewCommand) -> CommandDone:
        return await self.tickets.ask(command)

    @decide_review.validator
    def _decision_is_possible(self, command: ReviewCommand) -> None:
        check_decision(command, self.state.review_id, self.state.review_reason)

    @workflow.signal(name=names.PROVIDER_HINT)
    def provider_hint(self, hint: ProviderHint) -> None:
        self.hints.receive(hint)

    @workflow.signal(name=names.SETTLEMENT_FACT)
    def settlement_fact(self, fact: SettlementFact) -> None:
        if fact not in self.facts:
            self.facts.append(fact)
            self.hints.receive(ProviderHint(provider_event_id=f"settlement:{fact.line_id}"))


def _reason_of(executed: Executed) -> StatusReason:
    return StatusReason.AMOUNT_MISMATCH if executed.amount_mismatch else StatusReason.OUTCOME_UNKNOWN
