"""Health: what the supervisor and load balancers ask."""

import httpx
import pytest

from corridor.storage import payments
from corridor.storage.database import Database, DatabaseUnavailable
from tests.api.conftest import Stand, order


async def test_ready_means_database_schema_and_temporal(stand: Stand) -> None:
    answer = await stand.http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]) == (200, {"database": "ok", "temporal": "ok"})


async def test_not_ready_without_temporal_but_alive(small_stand: Stand) -> None:
    small_stand.gateway.available = False
    answer = await small_stand.http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["temporal"]) == (503, "unavailable")
    assert (await small_stand.http.get("/livez")).status_code == 200


async def test_not_ready_on_another_schema(small_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.routes.health.newest_revision", lambda: "9999")
    answer = await small_stand.http.get("/readyz")
    assert answer.status_code == 503 and "migrations" in answer.json()["checks"]["database"]


async def test_database_down_is_503_with_retry_after(
    small_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("ConnectionRefusedError")

    monkeypatch.setattr(Database, "read", down)
    answer = await small_stand.post("/v1/payments", order())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "2" and answer.json()["money_state"] == "not_moved"
    assert small_stand.gateway.started == []


async def test_database_lost_while_claiming_says_that_it_is_open(
    small_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await small_stand.get("/v1/payments")).status_code == 200

    async def down(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("ConnectionResetError")

    monkeypatch.setattr(Database, "write", down)
    answer = await small_stand.post("/v1/payments", order())
    assert (answer.status_code, answer.json()["money_state"]) == (503, "unknown")
    assert answer.json()["retry"] == "same_key" and small_stand.gateway.started == []


async def test_our_own_error_is_a_problem_that_tells_nothing(
    small_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(payments, "snapshot", broken)
    answer: httpx.Response = await small_stand.get("/v1/payments/pay_01m7w6c380fkc8vrbvh5hhe2ng")
    assert answer.status_code == 404
    answer = await small_stand.post("/v1/payments", order())
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret detail" not in answer.text and answer.headers["Request-Id"] == answer.json()["request_id"]
