"""PaymentWorkflow: one payment from acceptance to settlement; reads top to bottom as its story.

The payment's status decides what happens next (`_STAGES`), so a payment resumed from the database after its history
was lost walks the same path as one that was never interrupted. Handlers only record; one coroutine acts.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import chain, repeat
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import ActivityError, ApplicationError

from activities.contracts import (
    DECIDE_REVIEW,
    DECLARE,
    MOVE,
    OPEN_REVIEW,
    PREPARE,
    REQUOTE,
    SETTLE,
    DecideReviewIn,
    DeclareIn,
    EffectPlan,
    Executed,
    MoveIn,
    OpenReviewIn,
    PrepareIn,
    RequoteIn,
    SettleIn,
)
from corridor.domain.effect import Operation
from corridor.domain.failure import Refusal, broken
from corridor.domain.money import Money
from corridor.domain.outcome import Outcome
from corridor.domain.payment import CANCELABLE, CAPTURABLE, Status, StatusReason, require
from workflows import names
from workflows.commands import decisions_for, refusal_of, refuse_unless
from workflows.hints import Hints
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
from workflows.steps import local
from workflows.tickets import Ticket, Tickets

UNDO = {Operation.AUTHORISE: Operation.VOID, Operation.SALE: Operation.VOID}
"""What each step that may move money is undone by; the plan is kept before the step is taken (`self.plan`).

Undo means: look first, and void what exists. A capture has no undo here: the money is the merchant's, and giving it
back is a refund, with its own object and limits.
"""
MAXIMUM_ATTEMPTS = 2
"""Attempts proven never to have reached the provider before the payment is given up."""
BUYER_POLL_SECONDS = (20, 60, 180, 600, 1800)
REVIEW_POLL_SECONDS = 3600
UNDO_RETRY_SECONDS = (5, 60, 300)
VOID_LEAD = timedelta(minutes=5)
"""An authorisation is released this long before the network lets it lapse."""


@workflow.defn(name=names.PAYMENT)
class PaymentWorkflow:
    """Carries one payment; every change to it goes through here."""

    @workflow.init
    def __init__(self, start: PaymentStart) -> None:
        self.start = start
        resume = start.resume
        self.status = resume.status if resume else Status.PROCESSING
        self.sequence = resume.sequence if resume else 1
        self.answered = self.status is not Status.PROCESSING
        self.plan: EffectPlan | None = resume.plan if resume else None
        self.numbers: dict[str, int] = dict(resume.operation_numbers) if resume else {}
        self.review_id = resume.review_id if resume else None
        self.review_reason = resume.review_reason if resume else None
        self.approved_review: str | None = None
        self.authorized_until = resume.authorization_expires_at if resume else None
        self.settle_by = resume.settle_by if resume else None
        self.action_until = resume.action_until if resume else None
        self.shown: Status | None = None
        self.tickets = Tickets()
        self.hints = Hints()
        self.facts: list[SettlementFact] = []

    @workflow.run
    async def run(self, start: PaymentStart) -> PaymentAnswer:
        """Walk the stages until the payment is terminal. A Temporal cancel becomes a business cancel."""
        work = asyncio.ensure_future(self._carry())
        while not work.done():
            try:
                await asyncio.shield(work)
            except ActivityError as error:
                broken(f"a step without an expected failure failed: {error.cause}")
            except asyncio.CancelledError:
                if workflow.cancellation_reason() is None:
                    raise  # the worker is dropping its cache; nothing was asked of the payment
                self.tickets.put(CancelCommand(requested_by="operator"))
        await workflow.wait_condition(workflow.all_handlers_finished)
        return PaymentAnswer(status=self.status, sequence=self.sequence)

    async def _carry(self) -> None:
        if self.start.resume is not None and self.plan is not None:
            self._became(await look_once(self.plan))
        stages: dict[Status, Callable[[], Awaitable[None]]] = {
            Status.PROCESSING: self._collect,
            Status.REQUIRES_ACTION: self._await_buyer,
            Status.REQUIRES_REVIEW: self._await_person,
            Status.AUTHORIZED: self._await_capture,
            Status.CAPTURED: self._await_settlement,
        }
        while not self.status.is_terminal:
            self._show()
            await stages[self.status]()
        self._show()
        while (ticket := self.tickets.take()) is not None:
            self._refuse(ticket, Refusal.STATE_CONFLICT, f"the payment is {self.status}; nothing was changed")

    # --- processing: prepare, then authorise or sell -----------------------------------------------------------

    async def _collect(self) -> None:
        if self.plan is None:
            prepared = await local(
                PREPARE,
                PrepareIn(
                    payment_id=self.start.payment_id,
                    amount=self.start.amount,
                    settle_currency=self.start.settle_currency,
                    approved_review=self.approved_review,
                ),
                "risk, FX lock, route, declared effect",
            )
            self.status, self.sequence, self.plan = prepared.status, prepared.sequence, prepared.plan
            if prepared.review_id is not None:
                self.review_id, self.review_reason = prepared.review_id, StatusReason.RISK_REVIEW
        if self.plan is not None:
            await self._execute(self.plan)

    async def _execute(self, plan: EffectPlan) -> None:
        """Carry the plan out to a proven end, or hand it to a person."""
        executed = await carry_out(plan, self.hints)
        self._became(executed)
        if executed.quote_expired:
            await self._requote(plan)
        elif executed.outcome is Outcome.NOT_SENT:
            await self._try_again(plan)
        elif executed.outcome in (Outcome.UNKNOWN, Outcome.PENDING):
            await self._ask_person(_reason_of(executed), {"effect": plan.effect_key})
        elif executed.outcome is Outcome.ACTION_REQUIRED:
            self.action_until = workflow.now() + timedelta(seconds=self.start.action_window_seconds)

    async def _requote(self, plan: EffectPlan) -> None:
        """The lock ran out before anything was sent: a new rate inside the merchant's limit, or no payment."""
        requoted = await local(REQUOTE, RequoteIn(payment_id=self.start.payment_id), "FX lock expired: new quote")
        if requoted.accepted:
            await self._execute(plan)
        elif plan.operation is Operation.CAPTURE:
            await self._release(Status.FAILED, requoted.reason or StatusReason.SLIPPAGE_EXCEEDED)
        else:
            await self._move(Status.FAILED, requoted.reason or StatusReason.SLIPPAGE_EXCEEDED)

    async def _try_again(self, plan: EffectPlan) -> None:
        """Absence is proven, so the same may be tried once more under a new effect key; then it is given up."""
        if self._number(plan.operation) < MAXIMUM_ATTEMPTS:
            self.plan = await self._declare(plan.operation, plan.amount)
            await self._execute(self.plan)
        elif plan.operation in UNDO:
            await self._move(Status.FAILED, StatusReason.NOT_SENT)
        else:
            await self._ask_person(StatusReason.OUTCOME_UNKNOWN, {"effect": plan.effect_key, "finding": "not sent"})

    # --- requires_action: the buyer is at the bank's page ------------------------------------------------------

    async def _await_buyer(self) -> None:
        plan = self._current_plan()
        if self.action_until is None:
            self.action_until = workflow.now() + timedelta(seconds=self.start.action_window_seconds)
        for poll in chain(BUYER_POLL_SECONDS, repeat(BUYER_POLL_SECONDS[-1])):
            left = _seconds_until(self.action_until)
            await self.hints.wait(min(poll, left), "the buyer's authentication", lambda: bool(self.tickets))
            if (ticket := self.tickets.take()) is not None and isinstance(ticket.command, CancelCommand):
                return await self._cancel(ticket)
            self._became(await look_once(plan))
            if self.status is not Status.REQUIRES_ACTION:
                return
            if _seconds_until(self.action_until) <= 0:
                return await self._release(Status.EXPIRED, StatusReason.AUTHENTICATION_ABANDONED)

    # --- requires_review: a person decides, or evidence arrives first ------------------------------------------

    async def _await_person(self) -> None:
        await self.hints.wait(
            REVIEW_POLL_SECONDS, f"review {self.review_id}: {self.review_reason}", lambda: bool(self.tickets)
        )
        ticket = self.tickets.take()
        if ticket is None:
            await self._look_during_review()
        elif isinstance(ticket.command, ReviewCommand):
            await self._decide(ticket, ticket.command)
        elif self.review_reason is StatusReason.RISK_REVIEW:
            await self._cancel(ticket)
        else:
            self._refuse(ticket, Refusal.OUTCOME_UNKNOWN, "an unresolved provider call must be settled first")

    async def _look_during_review(self) -> None:
        if self.review_reason is StatusReason.COMPENSATION_STUCK:
            await self._undo_again()
        elif self.plan is not None and self.review_reason is not StatusReason.RISK_REVIEW:
            self._became(await look_once(self.plan))

    async def _decide(self, ticket: Ticket, command: ReviewCommand) -> None:
        decided = await local(
            DECIDE_REVIEW,
            DecideReviewIn(
                review_id=command.review_id,
                decision=command.decision,
                decided_by=command.decided_by,
                note=command.note,
                effect_key=self.plan.effect_key if self.plan else None,
            ),
            f"{command.decision} by {command.decided_by}",
        )
        self.status, self.sequence = decided.status, decided.sequence
        if self.review_reason is StatusReason.RISK_REVIEW and command.decision == "approve":
            self.approved_review = command.review_id
        self.review_id = self.review_reason = None
        self._done(ticket)

    async def _ask_person(self, reason: StatusReason, facts: dict[str, str]) -> None:
        opened = await local(
            OPEN_REVIEW,
            OpenReviewIn(
                payment_id=self.start.payment_id, object_id=self.start.payment_id, reason=reason, facts=facts
            ),
            f"ask a person: {reason}",
        )
        self.status, self.sequence = opened.status, opened.sequence
        self.review_id, self.review_reason = opened.review_id, reason

    # --- authorized: the merchant captures or cancels before the network's window ends -------------------------

    async def _await_capture(self) -> None:
        until = None if self.authorized_until is None else self.authorized_until - VOID_LEAD
        seconds = None if until is None else max(_seconds_until(until), 1.0)
        try:
            await workflow.wait_condition(
                lambda: bool(self.tickets), timeout=seconds, timeout_summary="the network's capture window"
            )
        except asyncio.TimeoutError:
            return await self._release(Status.EXPIRED, StatusReason.AUTHORIZATION_EXPIRED)
        ticket = self.tickets.take()
        if ticket is None:
            return None
        if isinstance(ticket.command, CaptureCommand):
            return await self._capture(ticket, ticket.command)
        return await self._cancel(ticket)

    async def _capture(self, ticket: Ticket, command: CaptureCommand) -> None:
        plan = await self._declare(Operation.CAPTURE, command.amount)
        authorised, self.plan = self.plan, plan
        await self._execute(plan)
        if self.status is Status.AUTHORIZED:  # declined: the network let the authorisation go before we did
            self.plan = authorised
            await self._release(Status.EXPIRED, StatusReason.AUTHORIZATION_EXPIRED)
        if self.status is Status.CAPTURED:
            self._done(ticket)
        else:
            code = refusal_of(self.status)
            self._refuse(ticket, code, f"the capture did not go through; the payment is now {self.status}")

    # --- captured: wait for the provider's settlement fact -----------------------------------------------------

    async def _await_settlement(self) -> None:
        deadline = self.settle_by or workflow.now() + timedelta(seconds=self.start.settle_within_seconds)
        try:
            await workflow.wait_condition(
                lambda: bool(self.facts) or bool(self.tickets),
                timeout=_seconds_until(deadline) if deadline > workflow.now() else None,
                timeout_summary="settlement by the provider",
            )
        except asyncio.TimeoutError:
            self._flag_overdue()
            return
        while (ticket := self.tickets.take()) is not None:
            self._refuse(ticket, Refusal.STATE_CONFLICT, "the money is captured; use a refund to return it")
        if self.facts:
            fact = self.facts.pop(0)
            settled = await local(
                SETTLE,
                SettleIn(payment_id=self.start.payment_id, provider=fact.provider, line_id=fact.line_id),
                f"book settlement row {fact.line_id}",
            )
            self.status, self.sequence = settled.status, settled.sequence

    def _flag_overdue(self) -> None:
        workflow.upsert_search_attributes([names.NEEDS_REVIEW.value_set(True)])
        self.settle_by = workflow.now()

    # --- undo ---------------------------------------------------------------------------------------------------

    async def _cancel(self, ticket: Ticket) -> None:
        """A business cancel: nothing sent yet → just stop; otherwise look, and void what exists."""
        by_operator = isinstance(ticket.command, CancelCommand) and ticket.command.requested_by == "operator"
        reason = StatusReason.CANCELED_BY_OPERATOR if by_operator else StatusReason.CANCELED_BY_MERCHANT
        await self._release(Status.CANCELED, reason)
        if self.status is Status.CANCELED:
            self._done(ticket)
        else:
            self._refuse(ticket, refusal_of(self.status), f"too late to cancel: the payment is {self.status}")

    async def _release(self, to: Status, reason: StatusReason) -> None:
        """Void what the provider holds, then close the payment; if the money moved meanwhile, that stands."""
        if self.plan is not None and not await self._voided():
            return
        await self._move(to, reason)

    async def _voided(self) -> bool:
        """True when the provider proves that nothing is held any more."""
        plan = self._current_plan()
        void = await self._declare(Operation.VOID, plan.amount)
        for seconds in (*UNDO_RETRY_SECONDS, None):
            executed = await carry_out(void, self.hints)
            if executed.outcome in (Outcome.APPROVED, Outcome.NOT_SENT):
                return True
            self._became(await look_once(plan))
            if self.status in (Status.CAPTURED, Status.FAILED):
                return False
            if seconds is not None:
                await workflow.sleep(timedelta(seconds=seconds), summary="before the undo is tried again")
        await self._ask_person(StatusReason.COMPENSATION_STUCK, {"effect": void.effect_key})
        return False

    async def _undo_again(self) -> None:
        if await self._voided():
            await self._move(Status.CANCELED, StatusReason.COMPENSATION_STUCK)

    # --- small moves --------------------------------------------------------------------------------------------

    async def _declare(self, operation: Operation, amount: Money | None) -> EffectPlan:
        self.numbers[operation] = self._number(operation) + 1
        payment = self.start.payment_id
        declared = await local(
            DECLARE,
            DeclareIn(
                payment_id=payment,
                object_id=payment,
                operation=operation,
                number=self.numbers[operation],
                amount=amount,
            ),
            f"declare {operation}",
        )
        return declared.plan

    def _number(self, operation: Operation) -> int:
        """How often the operation was declared; prepare declares the first authorisation or sale."""
        first = 1 if self.plan is not None and self.plan.operation is operation else 0
        return max(self.numbers.get(operation, 0), first)

    async def _move(self, to: Status, reason: StatusReason) -> None:
        moved = await local(MOVE, MoveIn(payment_id=self.start.payment_id, to=to, reason=reason), f"{to}: {reason}")
        self.status, self.sequence = moved.status, moved.sequence

    def _current_plan(self) -> EffectPlan:
        return self.plan or broken(f"a payment that {self.status} has declared an effect")

    def _became(self, executed: Executed) -> None:
        """Take over what an activity recorded of the payment."""
        self.status, self.sequence = executed.status, executed.sequence
        self.authorized_until = executed.authorization_expires_at or self.authorized_until
        self.settle_by = executed.settle_by or self.settle_by

    def _show(self) -> None:
        """Tell operators where the payment is, and let the waiting caller go once there is an answer."""
        if self.status in (Status.PROCESSING, self.shown):
            return
        self.answered, self.shown = True, self.status
        attributes: list[SearchAttributeUpdate[Any]] = [
            names.STATUS.value_set(self.status),
            names.NEEDS_REVIEW.value_set(self.status is Status.REQUIRES_REVIEW),
        ]
        if self.plan is not None:
            attributes.append(names.PROVIDER.value_set(self.plan.provider))
        if self.settle_by is not None:
            attributes.append(names.SETTLE_BY.value_set(self.settle_by))
        workflow.upsert_search_attributes(attributes)
        workflow.set_current_details(self._details())

    def _details(self) -> str:
        waits = f"\n\nWaiting for a person: review `{self.review_id}`" if self.review_id else ""
        return f"**{self.status}** · {self.start.amount} · event {self.sequence}{waits}"

    def _done(self, ticket: Ticket) -> None:
        ticket.done = CommandDone(status=self.status, sequence=self.sequence)

    def _refuse(self, ticket: Ticket, code: Refusal, detail: str) -> None:
        ticket.done = CommandDone(status=self.status, sequence=self.sequence, refused=code, detail=detail)

    # --- what the outside says; handlers only record -----------------------------------------------------------

    @workflow.update(name=names.ACCEPT)
    async def accept(self) -> PaymentAnswer:
        """Where the payment stands once it left `processing`: the early answer of the API."""
        await workflow.wait_condition(lambda: self.answered)
        return PaymentAnswer(status=self.status, sequence=self.sequence)

    @workflow.update(name=names.CAPTURE)
    async def capture(self, command: CaptureCommand) -> CommandDone:
        return await self.tickets.ask(command)

    @capture.validator
    def _capture_is_possible(self, command: CaptureCommand) -> None:
        refuse_unless(lambda: require(self.status, CAPTURABLE, "capture"))
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
        refuse_unless(lambda: require(self.status, CANCELABLE, "cancel"))

    @workflow.update(name=names.DECIDE_REVIEW)
    async def decide_review(self, command: ReviewCommand) -> CommandDone:
        return await self.tickets.ask(command)

    @decide_review.validator
    def _decision_is_possible(self, command: ReviewCommand) -> None:
        if command.review_id != self.review_id:
            raise ApplicationError("this review is not open any more", type=Refusal.REVIEW_ALREADY_DECIDED)
        if command.decision not in decisions_for(self.review_reason):
            allowed = ", ".join(sorted(decisions_for(self.review_reason)))
            raise ApplicationError(f"this review is answered by: {allowed}", type=Refusal.INVALID_PARAMETER)

    @workflow.signal(name=names.PROVIDER_HINT)
    def provider_hint(self, hint: ProviderHint) -> None:
        self.hints.receive(hint)

    @workflow.signal(name=names.SETTLEMENT_FACT)
    def settlement_fact(self, fact: SettlementFact) -> None:
        if fact not in self.facts:
            self.facts.append(fact)
            self.hints.receive(ProviderHint(provider_event_id=f"settlement:{fact.line_id}"))


def _seconds_until(moment: datetime) -> float:
    return max((moment - workflow.now()).total_seconds(), 0.0)


def _reason_of(executed: Executed) -> StatusReason:
    return StatusReason.AMOUNT_MISMATCH if executed.amount_mismatch else StatusReason.OUTCOME_UNKNOWN
