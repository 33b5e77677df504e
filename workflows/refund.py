"""RefundWorkflow: return captured money to the buyer; outlives its payment and may run many times beside it.

The limit is not decided here: the first step reserves the money in a ledger posting under the payment's row lock,
so of two racing refunds that together exceed the capture, one is refused.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import VersioningBehavior

from activities.contracts import (
    DECIDE_REVIEW,
    DECLARE,
    OPEN_REVIEW,
    RELEASE_REFUND,
    RESERVE_REFUND,
    DecideReviewIn,
    DeclareIn,
    EffectPlan,
    Executed,
    OpenReviewIn,
    RefundIn,
)
from corridor.domain.effect import Operation
from corridor.domain.failure import broken
from corridor.domain.outcome import Outcome
from corridor.domain.payment import RefundStatus, StatusReason
from workflows import names
from workflows.commands import check_decision
from workflows.finishing import every_command_answered, finish
from workflows.hints import Hints, Pace
from workflows.messages import (
    CommandDone,
    ProviderHint,
    RefundAnswer,
    RefundStart,
    ReviewCommand,
)
from workflows.outcome import carry_out, look_once
from workflows.steps import local
from workflows.tickets import Tickets

FAILURE_WATCH = timedelta(days=30)
"""A card refund that succeeded may still come back (docs.stripe.com/refunds#failed-refunds); we listen this long."""


@workflow.defn(name=names.REFUND, versioning_behavior=VersioningBehavior.PINNED)
class RefundWorkflow:
    """Carries one refund from reservation to proof."""

    @workflow.init
    def __init__(self, start: RefundStart) -> None:
        self.start = start
        self.status = RefundStatus.PROCESSING
        self.refused: str | None = None
        self.answered = False
        self.plan: EffectPlan | None = None
        self.review_id: str | None = None
        self.listening = True
        self.hints = Hints()
        self.pace = Pace()
        self.tickets = Tickets()

    @workflow.run
    async def run(self, start: RefundStart) -> RefundAnswer:
        """Carry the refund to its end. A Temporal cancel only ends the listening for a late failure."""
        await finish(self._carry(), self._listen_no_longer)
        await every_command_answered()
        return self._answer()

    async def _carry(self) -> None:
        reserved = await local(RESERVE_REFUND, self._me(), f"reserve {self.start.amount} under the capture")
        self.status, self.refused, self.plan = reserved.status, reserved.refused, reserved.plan
        if self.plan is None:
            self.answered = True
            return
        # A resumed refund may have been sent by its lost predecessor: it looks before anything is sent.
        executed = await look_once(self.plan) if self.start.resume else None
        if executed is None or executed.outcome is Outcome.UNKNOWN:
            executed = await carry_out(self.plan, self.hints, inherited=self.start.resume)
        if executed.outcome is Outcome.NOT_SENT:
            executed = await self._not_sent(self.plan, executed)
        self._became(executed)
        while self.status in (RefundStatus.PROCESSING, RefundStatus.REQUIRES_REVIEW):
            await self._resolve(self.plan)
        while self.tickets:  # evidence was quicker than the person: the decision is answered all the same
            await self._decide(self.plan)
        self.answered = True
        if self.status is RefundStatus.SUCCEEDED:
            await self._watch_for_failure(self.plan)

    async def _not_sent(self, plan: EffectPlan, executed: Executed) -> Executed:
        """Absence is proven: once more under a new effect key where the old one is of no use; then it is released."""
        if executed.key_is_spent or plan.policy.rounds == 1:
            declared = await local(DECLARE, self._second_declaration(), "declare the refund again")
            self.plan = declared.plan
            executed = await carry_out(declared.plan, self.hints)
            if executed.outcome is not Outcome.NOT_SENT:
                return executed
        released = await local(RELEASE_REFUND, self._me(), "proven not sent: release the reserved money")
        return executed.model_copy(update={"refund_status": released.status})

    async def _resolve(self, plan: EffectPlan) -> None:
        """The outcome is not proven: ask a person, and take whatever evidence comes first."""
        if self.review_id is None:
            opened = await local(OPEN_REVIEW, self._review(plan), "ask a person: outcome unknown")
            if opened.review_id is None:  # evidence came first: there is nothing left to ask
                return self._became(await look_once(plan))
            self.review_id, self.status = opened.review_id, RefundStatus.REQUIRES_REVIEW
        self.answered = True
        wake: Callable[[], bool] = lambda: bool(self.tickets)  # noqa: E731 (typed for the wait)
        await self.hints.wait(
            self.pace.next_seconds(), f"review {self.review_id}: refund outcome unknown", wake
        )
        if self.tickets:
            await self._decide(plan)
        else:
            self._became(await look_once(plan))

    async def _decide(self, plan: EffectPlan) -> None:
        ticket = await self.tickets.recorded() or broken("a ticket woke us")
        command = ReviewCommand.model_validate(ticket.command)
        decided = await local(
            DECIDE_REVIEW,
            DecideReviewIn(
                review_id=command.review_id,
                decision=command.decision,
                decided_by=command.decided_by,
                note=command.note,
                provider_reference=command.provider_reference,
                effect_key=plan.effect_key,
            ),
            f"{command.decision} by {command.decided_by}",
        )
        if decided.executed is not None:
            self._became(decided.executed)
        self.review_id = None
        if self.status in (RefundStatus.PROCESSING, RefundStatus.REQUIRES_REVIEW):
            released = await local(RELEASE_REFUND, self._me(), "proven not sent: release the reserved money")
            self.status = released.status
        ticket.done = CommandDone(status=decided.status, sequence=decided.sequence)

    async def _watch_for_failure(self, plan: EffectPlan) -> None:
        ends = workflow.now() + FAILURE_WATCH
        while self._listens(ends):
            left = (ends - workflow.now()).total_seconds()
            await self.hints.wait(
                left, "a refund that succeeded may still come back", lambda: not self.listening
            )
            if self._listens(ends):
                self._became(await look_once(plan))

    def _listens(self, ends: datetime) -> bool:
        return self.listening and self.status is RefundStatus.SUCCEEDED and workflow.now() < ends

    def _listen_no_longer(self) -> None:
        self.listening = False

    def _became(self, executed: Executed) -> None:
        self.status = executed.refund_status or self.status
        if self.status in (RefundStatus.SUCCEEDED, RefundStatus.FAILED):
            self.review_id = None
        workflow.set_current_details(f"**{self.status}** · {self.start.amount} of {self.start.payment_id}")

    def _me(self) -> RefundIn:
        return RefundIn(refund_id=self.start.refund_id, payment_id=self.start.payment_id)

    def _second_declaration(self) -> DeclareIn:
        return DeclareIn(
            payment_id=self.start.payment_id,
            object_id=self.start.refund_id,
            operation=Operation.REFUND,
            number=2,
            amount=self.start.amount,
        )

    def _review(self, plan: EffectPlan) -> OpenReviewIn:
        return OpenReviewIn(
            payment_id=self.start.payment_id,
            object_id=self.start.refund_id,
            reason=StatusReason.OUTCOME_UNKNOWN,
            facts={"effect": plan.effect_key},
        )

    def _answer(self) -> RefundAnswer:
        return RefundAnswer(status=self.status, refused=self.refused)

    @workflow.update(name=names.ACCEPT)
    async def accept(self) -> RefundAnswer:
        """Where the refund stands once the provider answered, or why it was refused."""
        await workflow.wait_condition(lambda: self.answered or self.status is not RefundStatus.PROCESSING)
        return self._answer()

    @workflow.update(name=names.DECIDE_REVIEW)
    async def decide_review(self, command: ReviewCommand) -> CommandDone:
        return await self.tickets.ask(command)

    @decide_review.validator
    def _decision_is_possible(self, command: ReviewCommand) -> None:
        check_decision(command, self.review_id, StatusReason.OUTCOME_UNKNOWN)

    @workflow.signal(name=names.PROVIDER_HINT)
    def provider_hint(self, hint: ProviderHint) -> None:
        self.hints.receive(hint)
