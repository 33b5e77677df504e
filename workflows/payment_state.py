"""What a payment's workflow knows of its payment, taken over from what activities recorded, and how it is shown."""

from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

from activities.contracts import EffectPlan, Executed
from corridor.domain.effect import Operation
from corridor.domain.failure import Refusal, broken
from corridor.domain.payment import Status, StatusReason
from workflows import names
from workflows.messages import CommandDone, PaymentStart
from workflows.tickets import Ticket


class PaymentState:
    """Begins as `processing`, or where a resumed payment stood; changes only by what activities committed."""

    def __init__(self, start: PaymentStart) -> None:
        resume = start.resume
        self.start = start
        self.status = resume.status if resume else Status.PROCESSING
        self.sequence = resume.sequence if resume else 1
        self.answered = self.status is not Status.PROCESSING
        self.plan: EffectPlan | None = resume.plan if resume else None
        self.review_id = resume.review_id if resume else None
        self.review_reason = resume.review_reason if resume else None
        self.authorized_until = resume.authorization_expires_at if resume else None
        self.settle_by = resume.settle_by if resume else None
        self.action_until = resume.action_until if resume else None
        self._numbers: dict[str, int] = dict(resume.operation_numbers) if resume else {}
        self._shown: Status | None = None
        self._attributes: dict[str, object] = {names.NEEDS_REVIEW.name: False}  # as the start set it

    def moved(self, status: Status, sequence: int) -> None:
        """An activity took the payment to `status`; `sequence` is the event that tells of it."""
        self.status, self.sequence = status, sequence
        if status is not Status.REQUIRES_REVIEW:
            self.asked(None, None)  # evidence may have answered the question before a person did

    def became(self, executed: Executed) -> None:
        """Take over what a provider call made of the payment."""
        self.moved(executed.status, executed.sequence)
        self.authorized_until = executed.authorization_expires_at or self.authorized_until
        self.settle_by = executed.settle_by or self.settle_by

    def asked(self, review_id: str | None, reason: StatusReason | None) -> None:
        """A person was asked (or, with None, has answered)."""
        self.review_id, self.review_reason = review_id, reason

    def current_plan(self) -> EffectPlan:
        return self.plan or broken(f"a payment that {self.status} has declared an effect")

    def number(self, operation: Operation) -> int:
        """How often the operation was declared; prepare declares the first authorisation or sale."""
        first = 1 if self.plan is not None and self.plan.operation is operation else 0
        return max(self._numbers.get(operation, 0), first)

    def next_number(self, operation: Operation) -> int:
        self._numbers[operation] = self.number(operation) + 1
        return self._numbers[operation]

    def show(self) -> None:
        """Tell operators where the payment is, and let the waiting caller go once there is an answer.

        Each upsert is an event in the history, so one is made on a change of status only.
        """
        if self.status in (Status.PROCESSING, self._shown):
            return
        self.answered, self._shown = True, self.status
        workflow.upsert_search_attributes(self._changed_attributes())
        workflow.set_current_details(self._details())

    def _changed_attributes(self) -> list[SearchAttributeUpdate[Any]]:
        """Only what changed since it was shown last: every attribute costs bytes in every history."""
        wanted: list[tuple[SearchAttributeKey[Any], Any]] = [
            (names.STATUS, self.status),
            (names.NEEDS_REVIEW, self.status is Status.REQUIRES_REVIEW),
            (names.PROVIDER, self.plan.provider if self.plan is not None else None),
            (names.SETTLE_BY, self.settle_by),
        ]
        changed = [
            (key, value)
            for key, value in wanted
            if value is not None and self._attributes.get(key.name) != value
        ]
        self._attributes |= {key.name: value for key, value in changed}
        return [key.value_set(value) for key, value in changed]

    def show_overdue(self, now: datetime) -> None:
        """Settlement did not come in time: operators see it; the payment goes on waiting."""
        workflow.upsert_search_attributes([names.NEEDS_REVIEW.value_set(True)])
        self._attributes[names.NEEDS_REVIEW.name] = True
        workflow.set_current_details(f"{self._details()}\n\n**Settlement is overdue**")
        self.settle_by = now

    def _details(self) -> str:
        waits = f"\n\nWaiting for a person: review `{self.review_id}`" if self.review_id else ""
        return f"**{self.status}** · {self.start.amount} · event {self.sequence}{waits}"

    def done(self, ticket: Ticket) -> None:
        """The command was carried out."""
        ticket.done = CommandDone(status=self.status, sequence=self.sequence)

    def refuse(self, ticket: Ticket, code: Refusal, detail: str) -> None:
        """The command was not carried out; `code` says why in a stable word."""
        ticket.done = CommandDone(status=self.status, sequence=self.sequence, refused=code, detail=detail)
