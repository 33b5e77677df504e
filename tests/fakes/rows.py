"""A row of `payments` without a database: every column that starting a workflow reads."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

ACCEPTED_AT = datetime(2026, 11, 20, 9, tzinfo=UTC)


def payment_row(**changes: Any) -> Any:
    """100.00 EUR from Germany, settled in China in CNY; `changes` by column."""
    columns = {
        "id": "pay_1",
        "merchant_id": "mer_1",
        "merchant_reference": None,
        "amount_minor": 10_000,
        "currency": "EUR",
        "settle_currency": "CNY",
        "source_country": "DE",
        "destination_country": "CN",
        "corridor": "DE-EUR>CN-CNY",
        "capture_method": "manual",
        "payment_token": "pm_card_visa",
        "instrument": "card-1",
        "payer_reference": None,
        "return_url": None,
        "quote_id": None,
        "slippage_max_bps": 50,
        "slippage_policy": "requote",
        "extra": {},
        "idempotency_key": "order-1",
        "request_fingerprint": "f" * 64,
        "created_at": ACCEPTED_AT,
        "workflow_started_at": None,
    }
    return SimpleNamespace(**{**columns, **changes})
