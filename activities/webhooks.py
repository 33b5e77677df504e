"""The delivery step: post one event to one endpoint, once, and write down what came of it.

Delivery is at least once: a worker that dies between the answer and its record posts again under the same
`webhook-id`, by which receivers drop repeats.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection

from activities.contracts import ATTEMPT_WEBHOOK, Attempted, AttemptIn
from activities.errors import implements
from corridor.notify import schedule, signing
from corridor.notify.outbound import Answer, Outbound, Trouble, Undelivered
from corridor.notify.schedule import Judgement, Verdict
from corridor.runtime import metrics
from corridor.runtime.crash import crash_point
from corridor.storage import webhook_deliveries, webhook_endpoints
from corridor.storage.database import Database
from corridor.storage.sealing import Sealer
from corridor.storage.webhook_deliveries import Outgoing

GONE = "receiver_answered_410"
NO_SUCCESS = "five_days_without_success"


class WebhookSteps:
    """Holds what an attempt needs; made once per worker."""

    def __init__(
        self, database: Database, outbound: Outbound, sealer: Sealer, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._outbound = outbound
        self._sealer = sealer
        self._clock = clock

    @implements(ATTEMPT_WEBHOOK)
    async def attempt(self, step: AttemptIn) -> Attempted:
        """One attempt. An endpoint that fails is a result; only our own trouble raises, and Temporal repeats it."""
        outgoing = await self._database.write(webhook_deliveries.next_attempt, step.delivery_id)
        if outgoing is None:
            return Attempted(result="closed")
        crash_point("delivery.before_send")
        answer = await self._post(outgoing)
        crash_point("delivery.sent")
        now = self._clock()
        if isinstance(answer, Trouble):
            metrics.webhook_delivered("unreachable")
            return await self._database.write(
                _record_failure, step, now, Judgement(Verdict.RETRY), None, str(answer)
            )
        judgement = schedule.judge(answer.status_code, answer.retry_after, now)
        if judgement.verdict is Verdict.DELIVERED:
            metrics.webhook_delivered("delivered")
            await self._database.write(
                webhook_deliveries.record_delivered, step.delivery_id, step.number, answer.status_code, now
            )
            crash_point("delivery.recorded")
            return Attempted(result="delivered", status_code=answer.status_code)
        metrics.webhook_delivered("refused")
        return await self._database.write(_record_failure, step, now, judgement, answer.status_code, None)

    async def _post(self, outgoing: Outgoing) -> Answer | Trouble:
        # One secret, or while it is rotated two, the newer first.
        opened = self._sealer.open(outgoing.secret_sealed, webhook_endpoints.place(outgoing.endpoint_id))
        headers = {
            "content-type": "application/json",
            "user-agent": "Corridor-Webhooks/1",
            **signing.headers(opened.decode().split(), outgoing.event_id, self._clock(), outgoing.body),
        }
        try:
            return await self._outbound.post(outgoing.url, headers, outgoing.body)
        except Undelivered as undelivered:
            return undelivered.trouble


def _record_failure(
    connection: Connection,
    step: AttemptIn,
    now: datetime,
    judgement: Judgement,
    status_code: int | None,
    error: str | None,
) -> Attempted:
    """Record the failed attempt, decide on the next one, and give up on an endpoint that is gone, in one go."""
    pause = schedule.pause_seconds(step.number, step.spread_permille, judgement.retry_after_seconds)
    if judgement.verdict is Verdict.DISABLE:
        pause = None
    failing_since = webhook_deliveries.record_failure(
        connection,
        step.delivery_id,
        step.number,
        now,
        status_code=status_code,
        error=error,
        next_attempt_at=now + timedelta(seconds=pause) if pause is not None else None,
    )
    if judgement.verdict is Verdict.DISABLE:
        webhook_deliveries.disable_endpoint(connection, step.delivery_id, GONE, now)
    elif schedule.is_out_of_patience(failing_since, now):
        webhook_deliveries.disable_endpoint(connection, step.delivery_id, NO_SUCCESS, now)
        pause = None
    return Attempted(result="failed" if pause is None else "retry", retry_in_seconds=pause)
