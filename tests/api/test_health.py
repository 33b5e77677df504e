"""Health: what the supervisor and load balancers ask."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import Connection, text

from corridor.storage import payments
from corridor.storage.database import Database, DatabaseUnavailable
from tests.api.conftest import Stand, order


async def test_ready_means_database_schema_and_temporal(stand: Stand) -> None:
    answer = await stand.http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]) == (200, {"database": "ok", "temporal": "ok"})


async def test_without_temporal_it_is_ready_for_what_needs_the_database_alone_and_says_so(
    small_stand: Stand,
) -> None:
    small_stand.gateway.available = False
    answer = await small_stand.http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]) == (
        200,
        {"database": "ok", "temporal": "unavailable"},
    )
    refused = await small_stand.post("/v1/payments", order())
    assert (refused.status_code, refused.json()["money_state"]) == (503, "not_moved")


async def test_a_temporal_that_does_not_answer_holds_up_no_load_balancer(
    small_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(small_stand.gateway, "require_available", hang)
    async with asyncio.timeout(30):
        answer = await small_stand.http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["temporal"]) == (200, "unavailable")


async def test_a_schema_older_than_the_code_is_not_ready_and_a_newer_one_is(stand: Stand) -> None:
    def at(revision: str) -> Callable[[Connection], None]:
        def move(connection: Connection) -> None:
            connection.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})

        return move

    database = stand.dependencies.database
    await database.write(at("0001"))
    answer = await stand.http.get("/readyz")
    assert answer.status_code == 503 and "migrations" in answer.json()["checks"]["database"]
    await database.write(at("9999"))
    assert (await stand.http.get("/readyz")).status_code == 200, "migrated by the version that comes next"
    await database.write(lambda connection: connection.execute(text("DROP TABLE alembic_version")))
    answer = await stand.http.get("/readyz")
    assert answer.status_code == 503 and "migrations" in answer.json()["checks"]["database"]


async def test_database_down_is_503_with_retry_after(
    small_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("ConnectionRefusedError")

    monkeypatch.setattr(Database, "read", down)
    answer = await small_stand.get("/v1/payments")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "2" and answer.json()["money_state"] == "not_moved"


async def test_a_repeat_whose_key_cannot_be_looked_at_is_not_told_that_nothing_moved(
    small_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request may have taken the money before the database went."""
    await small_stand.post("/v1/payments", order(), key="k1")

    async def down(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("ConnectionRefusedError")

    monkeypatch.setattr(Database, "read", down)
    small_stand.dependencies.outages._read_at = float("-inf")
    started = list(small_stand.gateway.started)
    answer = (await small_stand.post("/v1/payments", order(), key="k1")).json()
    assert (answer["status"], answer["retry"], answer["money_state"]) == (503, "same_key", "unknown")
    assert small_stand.gateway.started == started


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
