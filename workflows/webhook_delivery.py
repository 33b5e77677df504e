"""WebhookDeliveryWorkflow: one event to one endpoint, attempt after attempt, over the three days of the schedule.

Only the waiting is durable here. What an answer means and how long the pause is are the activity's to say, so a
changed schedule never breaks a history under way. The jitter is drawn here, so that a replay draws the same.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import VersioningBehavior

from activities.contracts import ATTEMPT_WEBHOOK, AttemptIn
from workflows import names
from workflows.messages import DeliveryStart
from workflows.steps import regular

ATTEMPT_TIMEOUT = timedelta(seconds=30)
"""Twice the HTTP client's own limit, so an attempt ends by itself before another can begin."""


@workflow.defn(name=names.WEBHOOK_DELIVERY, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class WebhookDeliveryWorkflow:
    """One delivery; its row in the database tells merchants how it stands."""

    @workflow.run
    async def run(self, start: DeliveryStart) -> str:
        """Returns how it ended: `delivered`, `failed`, or `closed` when there was nothing left to do."""
        queue = names.WEBHOOK_QUEUE if workflow.patched("webhooks-have-a-queue") else None
        number = 1
        while True:
            attempt = AttemptIn(
                delivery_id=start.delivery_id,
                number=number,
                spread_permille=workflow.random().randint(0, 1000),
            )
            done = await regular(ATTEMPT_WEBHOOK, attempt, f"attempt {number}", ATTEMPT_TIMEOUT, queue=queue)
            if done.retry_in_seconds is None:
                return done.result
            number += 1
            await workflow.sleep(done.retry_in_seconds, summary=f"until attempt {number}")
