"""A `Gateway` without Temporal: tests say what the workflow does to the database and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from api.gateway import Accepted, Done, TemporalUnavailable
from corridor.domain.failure import Refused
from corridor.domain.outcome import Frozen
from corridor.domain.payment import RefundStatus, Status
from corridor.storage import payments, refunds
from corridor.storage.database import Database
from workflows.messages import PaymentAnswer, RefundAnswer

Answer = Done | Accepted | Exception


@dataclass(frozen=True)
class Sent:
    """One update as it was sent."""

    workflow_id: str
    update: str
    update_id: str
    argument: Frozen


@dataclass
class FakeGateway:
    """`outcome` is where a started payment goes at once (None: it stays `processing`, no answer in time)."""

    database: Database
    clock: Callable[[], datetime]
    available: bool = True
    outcome: Status | None = Status.CAPTURED
    refund_outcome: RefundStatus | None = RefundStatus.SUCCEEDED
    refund_refused: str | None = None
    answers: list[Answer] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    async def require_available(self) -> None:
        if not self.available:
            raise TemporalUnavailable

    async def start_payment(self, row: Any, deadline_seconds: float) -> PaymentAnswer | None:
        self.started.append(row.id)
        if self.outcome is None or not self.available:
            return None
        moved = await self.database.write(self._move_payment, row.id, self.outcome)
        return PaymentAnswer(status=Status(moved.status), sequence=moved.sequence)

    async def start_refund(self, row: Any, deadline_seconds: float) -> RefundAnswer | None:
        self.started.append(row.id)
        if self.refund_refused is not None:
            await self.database.write(self._refuse_refund, row.id, self.refund_refused)
            return RefundAnswer(status=RefundStatus.FAILED, refused=self.refund_refused)
        if self.refund_outcome is None:
            return None
        await self.database.write(self._move_refund, row.id, self.refund_outcome)
        return RefundAnswer(status=self.refund_outcome)

    async def command(
        self, workflow_id: str, update: str, update_id: str, argument: Frozen, deadline_seconds: float
    ) -> Done | Accepted:
        self.sent.append(Sent(workflow_id, update, update_id, argument))
        answer = self.answers.pop(0) if self.answers else Done()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _move_payment(self, connection: Any, payment_id: str, to: Status) -> Any:
        row = payments.lock(connection, payment_id)
        if row.status != Status.PROCESSING:
            return row
        captured = row.amount_minor if to is Status.CAPTURED else 0
        return payments.move(
            connection, row, f"payment.{to}", self.clock(), to=to, amount_captured_minor=captured
        )

    def _move_refund(self, connection: Any, refund_id: str, to: RefundStatus) -> Any:
        row = refunds.lock(connection, refund_id)
        return refunds.move(connection, row, f"refund.{to}", self.clock(), to=to)

    def _refuse_refund(self, connection: Any, refund_id: str, code: str) -> Any:
        return refunds.refuse(connection, refunds.lock(connection, refund_id), code, self.clock())


def refusal(code: Any, detail: str = "not possible now") -> Refused:
    """What a validator's no arrives as."""
    return Refused(code, detail)
