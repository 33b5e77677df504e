"""The sweep's table: every crash point, the process it is in, and the acknowledgement that is lost there.

A step has happened, and whoever waits for its answer never hears: each point names the edge on which that answer
travels, and the request it answers. A point before a step stands for the answer to the step before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.proxy.fault import Then

IN_THE_API = (
    "payment.before_accept",
    "payment.accepted",
    "payment.started",
    "refund.accepted",
    "refund.started",
    "command.claimed",
    "command.sent",
    "webhook.before_store",
    "webhook.stored",
)
AT_A_COMMAND = (
    "declaration.before_commit",
    "declaration.committed",
    "decision.before_commit",
    "decision.committed",
    "move.before_commit",
    "move.committed",
)
"""Passed on the way of a capture, a cancel or a person's decision."""
AT_A_SALE = (
    "preparation.before_commit",
    "preparation.committed",
    "reservation.before_commit",
    "reservation.committed",
    "provider.before_send",
    "provider.answer_read",
    "outcome.committed",
    "settlement.before_posting",
    "settlement.posted",
    "events.placed",
    "webhook.taken",
    "webhook.routed",
    "delivery.created",
    "delivery.started",
    "delivery.before_send",
    "delivery.sent",
    "delivery.recorded",
)
"""Passed on the way of a sale, its refund, its payout and the webhooks about it."""
IN_A_WORKER = (*AT_A_SALE, *AT_A_COMMAND)


class Way(StrEnum):
    """An edge, by who asks and who answers."""

    CLIENT_API = "client → api"
    PROVIDER_API = "provider → api"
    API_DATABASE = "api → database"
    API_TEMPORAL = "api → temporal"
    WORKER_DATABASE = "worker → database"
    WORKER_TEMPORAL = "worker → temporal"
    WORKER_PROVIDER = "worker → provider"
    WORKER_MERCHANT = "worker → merchant"


@dataclass(frozen=True)
class Lost:
    """The answer to a request that contains `matching` (a database's: to its transaction's COMMIT) is lost."""

    way: Way
    matching: str
    then: Then = Then.RESET


def _rpc(way: Way, method: str) -> Lost:
    return Lost(way, f"/temporal.api.workflowservice.v1.WorkflowService/{method}")


LOST: Mapping[str, tuple[Lost, ...]] = {
    "payment.before_accept": (Lost(Way.CLIENT_API, "POST /v1/payments "),),
    "payment.accepted": (Lost(Way.API_DATABASE, "INSERT INTO payments"),),
    "refund.accepted": (
        Lost(Way.API_DATABASE, "INSERT INTO refunds"),
        Lost(Way.CLIENT_API, "POST /v1/refunds ", Then.STALL),
    ),
    "payment.started": (_rpc(Way.API_TEMPORAL, "ExecuteMultiOperation"),),
    "refund.started": (_rpc(Way.API_TEMPORAL, "ExecuteMultiOperation"),),
    "command.claimed": (
        Lost(Way.API_DATABASE, "INSERT INTO idempotency_keys"),
        Lost(Way.CLIENT_API, ":capture "),
    ),
    "command.sent": (_rpc(Way.API_TEMPORAL, "UpdateWorkflowExecution"),),
    "webhook.before_store": (Lost(Way.PROVIDER_API, "POST /v1/provider_webhooks/stripe "),),
    "webhook.stored": (Lost(Way.API_DATABASE, "INSERT INTO provider_events"),),
    # The server has handed the task out, and it never arrived.
    "preparation.before_commit": (_rpc(Way.WORKER_TEMPORAL, "PollWorkflowTaskQueue"),),
    "preparation.committed": (Lost(Way.WORKER_DATABASE, "INSERT INTO risk_decisions"),),
    "declaration.before_commit": (_rpc(Way.WORKER_TEMPORAL, "PollWorkflowTaskQueue"),),
    "declaration.committed": (Lost(Way.WORKER_DATABASE, "INSERT INTO effects"),),
    "reservation.before_commit": (_rpc(Way.WORKER_TEMPORAL, "PollWorkflowTaskQueue"),),
    "reservation.committed": (Lost(Way.WORKER_DATABASE, "UPDATE refunds SET workflow_started_at"),),
    "decision.before_commit": (_rpc(Way.WORKER_TEMPORAL, "PollWorkflowTaskQueue"),),
    "decision.committed": (Lost(Way.WORKER_DATABASE, "UPDATE reviews"),),
    "move.before_commit": (_rpc(Way.WORKER_TEMPORAL, "PollWorkflowTaskQueue"),),
    "move.committed": (Lost(Way.WORKER_DATABASE, "UPDATE payments"),),
    "provider.before_send": (_rpc(Way.WORKER_TEMPORAL, "PollActivityTaskQueue"),),
    "provider.answer_read": (
        Lost(Way.WORKER_PROVIDER, "POST /stripe/v1/payment_intents "),
        Lost(Way.WORKER_PROVIDER, "POST /stripe/v1/payment_intents ", Then.STALL),
        Lost(Way.WORKER_PROVIDER, "POST /stripe/v1/refunds "),
    ),
    "outcome.committed": (
        Lost(Way.WORKER_DATABASE, "UPDATE effects"),
        _rpc(Way.WORKER_TEMPORAL, "RespondActivityTaskCompleted"),
    ),
    "settlement.before_posting": (Lost(Way.WORKER_PROVIDER, "GET /stripe/v1/balance_transactions"),),
    # What a local activity did is told to the server when the workflow's task is completed.
    "settlement.posted": (
        Lost(Way.WORKER_DATABASE, "settled_minor=$"),
        _rpc(Way.WORKER_TEMPORAL, "RespondWorkflowTaskCompleted"),
    ),
    "events.placed": (Lost(Way.WORKER_DATABASE, "INSERT INTO event_positions"),),
    "webhook.taken": (Lost(Way.WORKER_DATABASE, "UPDATE provider_events"),),
    "webhook.routed": (_rpc(Way.WORKER_TEMPORAL, "SignalWorkflowExecution"),),
    "delivery.created": (Lost(Way.WORKER_DATABASE, "INSERT INTO webhook_deliveries"),),
    "delivery.started": (_rpc(Way.WORKER_TEMPORAL, "StartWorkflowExecution"),),
    "delivery.before_send": (Lost(Way.WORKER_MERCHANT, "POST /merchant/webhooks/shop ", Then.STALL),),
    "delivery.sent": (Lost(Way.WORKER_MERCHANT, "POST /merchant/webhooks/shop "),),
    "delivery.recorded": (Lost(Way.WORKER_DATABASE, "last_status_code=$"),),
}
