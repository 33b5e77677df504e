"""The OpenAPI document is checked in and whole, and the running code keeps what it says.

After a wanted change: `WRITE_GOLDEN=1 pytest tests/api/test_openapi.py` and review the difference.
"""

import json
import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from api.problems import MEDIA_TYPE
from tests.api.conftest import Stand

GOLDEN = Path(__file__).parents[2] / "docs" / "openapi.json"
METHODS = {"get", "post", "put", "patch", "delete"}


def document_of(stand: Stand) -> dict[str, Any]:
    app: FastAPI = stand.http._transport.app  # type: ignore[attr-defined]
    return app.openapi()


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    }


async def test_checked_in_document_is_the_code(small_stand: Stand) -> None:
    text = json.dumps(document_of(small_stand), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("WRITE_GOLDEN"):
        GOLDEN.write_text(text, "utf-8")
    assert GOLDEN.read_text("utf-8") == text


async def test_version_is_3_1_and_every_route_is_documented(small_stand: Stand) -> None:
    document = document_of(small_stand)
    assert document["openapi"].startswith("3.1")
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(names) == len(set(names))
    assert {
        "POST /v1/payments", "GET /v1/payments", "GET /v1/payments/{payment_id}", "GET /v1/payments/{payment_id}/events",
        "POST /v1/payments/{payment_id}:capture", "POST /v1/payments/{payment_id}:cancel",
        "POST /v1/refunds", "GET /v1/refunds", "GET /v1/refunds/{refund_id}", "GET /v1/refunds/{refund_id}/events",
        "POST /v1/quotes", "GET /v1/quotes/{quote_id}",
        "GET /v1/reviews", "GET /v1/reviews/{review_id}", "POST /v1/reviews/{review_id}:decide",
        "GET /v1/balances", "GET /v1/events", "GET /v1/events/stream",
        "POST /v1/webhook_endpoints", "GET /v1/webhook_endpoints", "GET /v1/webhook_endpoints/{endpoint_id}",
        "PATCH /v1/webhook_endpoints/{endpoint_id}", "DELETE /v1/webhook_endpoints/{endpoint_id}",
        "GET /v1/webhook_deliveries", "POST /v1/provider_webhooks/{provider}", "GET /livez", "GET /readyz",
    } == set(operations(document))  # fmt: skip


async def test_every_error_is_a_declared_problem(small_stand: Stand) -> None:
    document = document_of(small_stand)
    for name, operation in operations(document).items():
        errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert {"400", "404", "500", "503"} <= set(errors), name
        for status, answer in errors.items():
            assert answer == {"$ref": f"#/components/responses/Problem{status}"}, name
    for shared in document["components"]["responses"].values():
        assert list(shared["content"]) == [MEDIA_TYPE]


async def test_every_post_of_a_merchant_needs_a_key(small_stand: Stand) -> None:
    for name, operation in operations(document_of(small_stand)).items():
        if name.startswith("POST") and "provider_webhooks" not in name:
            required = {one["name"] for one in operation.get("parameters", []) if one["required"]}
            assert "Idempotency-Key" in required, name
