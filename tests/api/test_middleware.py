"""What the outermost layer says when a request is cut off."""

import asyncio
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from api.middleware import Edge


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
