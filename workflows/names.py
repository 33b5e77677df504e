"""Durable names: what histories and other processes know workflows, queues and attributes by. Never renamed."""

from collections.abc import Iterable

from temporalio.common import SearchAttributeKey

PAYMENT = "Payment"
REFUND = "Refund"
SETTLEMENT = "Settlement"
WEBHOOK_DELIVERY = "WebhookDelivery"

CORE_QUEUE = "corridor"
WEBHOOK_QUEUE = "webhooks"
"""Calls to merchants' endpoints: one that hangs takes the slot of another webhook and of nothing else."""
SETTLEMENT_QUEUE = "settlement"
"""Imports, workflows and steps both: after an outage payments wait for them, and they must not wait behind payments."""

DEPLOYMENT = "corridor"
"""What Temporal keeps the builds of our workers under."""


def provider_queue(provider: str) -> str:
    """One queue a provider, so that a slow one holds up nobody else; its rate limit is the queue's."""
    return f"provider-{provider}"


def queues(providers: Iterable[str]) -> tuple[str, ...]:
    """Every queue that a worker of ours polls."""
    return (CORE_QUEUE, WEBHOOK_QUEUE, SETTLEMENT_QUEUE, *map(provider_queue, providers))


def payment_workflow_id(payment_id: str) -> str:
    return f"payment-{payment_id}"


def refund_workflow_id(refund_id: str) -> str:
    return f"refund-{refund_id}"


def settlement_workflow_id(provider: str) -> str:
    return f"settlement-{provider}"


def delivery_workflow_id(delivery_id: str) -> str:
    return f"delivery-{delivery_id}"


ACCEPT = "accept"
CAPTURE = "capture"
CANCEL = "cancel"
DECIDE_REVIEW = "decide_review"
PROVIDER_HINT = "provider_hint"
SETTLEMENT_FACT = "settlement_fact"

STATUS = SearchAttributeKey.for_keyword("PaymentStatus")
CORRIDOR = SearchAttributeKey.for_keyword("Corridor")
PROVIDER = SearchAttributeKey.for_keyword("Provider")
MERCHANT = SearchAttributeKey.for_keyword("MerchantId")
AMOUNT = SearchAttributeKey.for_int("AmountMinor")
NEEDS_REVIEW = SearchAttributeKey.for_bool("NeedsReview")
SETTLE_BY = SearchAttributeKey.for_datetime("SettleBy")
