"""The outermost layer: what it says when a request is cut off, and what it counts."""

import asyncio
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from starlette.types import Message, Receive, Scope, Send

from api.middleware import Edge
from corridor.runtime import metrics
from corridor.storage.database import Database, DatabaseUnavailable
from tests.api.conftest import Stand


async def test_a_request_that_a_stopping_server_cuts_off_hears_that_its_key_finds_out() -> None:
    sent: list[Message] = []
    begun = asyncio.Event()

    async def hang(_scope: Scope, _receive: Receive, _send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    dependencies = SimpleNamespace(clock=lambda: datetime(2026, 11, 20, tzinfo=UTC))
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/v1/payments/pay_1",
        "raw_path": b"/v1/payments/pay_1",
        "query_string": b"",
        "headers": [],
        "app": SimpleNamespace(state=SimpleNamespace(dependencies=dependencies)),
    }
    serving = asyncio.ensure_future(Edge(hang)(scope, receive, send))
    await begun.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    problem = json.loads(sent[1]["body"])
    assert (sent[0]["status"], problem["code"], problem["money_state"]) == (503, "unavailable", "unknown")


async def test_every_answer_is_counted_by_its_route_and_class_of_status_never_by_its_path(
    small_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = InMemoryMetricReader()
    counter = MeterProvider([reader]).get_meter("test").create_counter("requests")
    monkeypatch.setattr(metrics, "_requests", counter)
    await small_stand.get("/v1/payments/pay_01m7w6c380fkc8vrbvh5hhe2ng")
    await small_stand.get("/v1/payments")
    await small_stand.http.get("/nowhere/pay_01m7w6c380fkc8vrbvh5hhe2ng")
    monkeypatch.setattr(Database, "read", _broken)
    await small_stand.get("/v1/balances")
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    seen = {
        tuple((point.attributes or {})[name] for name in ("method", "route", "status"))
        for point in metric.data.data_points
    }
    assert seen == {
        ("GET", "/v1/payments/{payment_id}", "4xx"),
        ("GET", "/v1/payments", "2xx"),
        ("GET", "(none)", "4xx"),
        ("GET", "/v1/balances", "5xx"),
    }


async def _broken(*_: object) -> None:
    raise DatabaseUnavailable("ConnectionRefusedError")
