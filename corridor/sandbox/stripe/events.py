"""Events: a snapshot of an object at one moment, listed for 30 days and handed to the webhook queue."""

from corridor.sandbox.stripe.errors import Document
from corridor.sandbox.stripe.work import Work, new_id

# Wide enough that two deliveries keep their planned order even when the receiver is slow.
REORDER_STEP_MS = 400


def emit(work: Work, event_type: str, document: Document, previous: Document | None = None) -> None:
    """Record that something happened; deliveries are planned when the unit of work ends."""
    data: Document = {"object": document}
    if previous is not None:
        data["previous_attributes"] = previous
    event: Document = {
        "id": new_id("evt"),
        "object": "event",
        "api_version": work.config.webhook_api_version,
        "created": work.now,
        "data": data,
        "livemode": False,
        "pending_webhooks": 0 if work.webhooks.dropped else 1,
        "request": {"id": work.request_id, "idempotency_key": work.idempotency_key},
        "type": event_type,
    }
    work.insert(event, owner=document.get("payment_intent") or document["id"], subject=event_type)
    work.event_ids.append(event["id"])


def plan_deliveries(work: Work, subject: str) -> None:
    """Queue every event of this unit of work, in Stripe's order unless a fault asks for another."""
    plan = work.webhooks
    if plan.dropped:
        return
    count = len(work.event_ids)
    for position, event_id in enumerate(work.event_ids):
        due = work.now_ms + plan.delay_milliseconds
        if plan.reordered:
            due += (count - 1 - position) * REORDER_STEP_MS
        for copy in range(1 + plan.copies):
            work.connection.execute(
                "INSERT INTO deliveries (event_id, subject, due_ms) VALUES (?, ?, ?)",
                (event_id, subject, due + copy * REORDER_STEP_MS // 2),
            )
