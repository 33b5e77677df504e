"""While Temporal is down nothing new is accepted, and whoever has an answer already still gets it."""

from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from api.gateway import Accepted
from corridor.domain.payment import RefundStatus, Status
from corridor.storage.tables import idempotency_keys, payments
from tests.api.conftest import Stand, order


def _rows(connection: Connection) -> int:
    return sum(
        int(connection.execute(select(func.count()).select_from(table)).scalar_one())
        for table in (payments, idempotency_keys)
    )


async def request_of(stand: Stand, kind: str) -> tuple[str, dict[str, Any]]:
    """Path and body of a good request of this kind."""
    if kind == "payment":
        return "/v1/payments", order()
    paid = await stand.paid()
    if kind == "refund":
        return "/v1/refunds", {"payment": paid["id"]}
    return f"/v1/payments/{paid['id']}:{kind}", {}


def nobody_answers(stand: Stand) -> None:
    stand.gateway.outcome = None
    stand.gateway.refund_outcome = None
    stand.gateway.answers = [Accepted()]


KINDS = ("payment", "refund", "capture", "cancel")


async def test_nothing_is_accepted(stand: Stand) -> None:
    stand.gateway.available = False
    answer = await stand.post("/v1/payments", order())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "2" and answer.json()["money_state"] == "not_moved"
    assert await stand.database.read(_rows) == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_that_was_answered_is_answered_again(stand: Stand, kind: str) -> None:
    path, body = await request_of(stand, kind)
    first = await stand.post(path, body, key="k1")
    assert first.status_code in (200, 201)
    stand.gateway.available = False
    again = await stand.post(path, body, key="k1")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("kind", KINDS)
async def test_what_became_of_a_request_without_an_answer_is_not_guessed(stand: Stand, kind: str) -> None:
    path, body = await request_of(stand, kind)
    nobody_answers(stand)
    assert (await stand.post(path, body, key="k1")).status_code == 202
    stand.gateway.available = False
    problem = (await stand.post(path, body, key="k1")).json()
    assert (problem["status"], problem["retry"], problem["money_state"]) == (503, "same_key", "unknown")
    stand.gateway.available = True
    stand.gateway.outcome, stand.gateway.refund_outcome = Status.CAPTURED, RefundStatus.SUCCEEDED
    assert (await stand.post(path, body, key="k1")).status_code in (200, 201)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_that_stands_for_another_request_says_so(small_stand: Stand, kind: str) -> None:
    path, body = await request_of(small_stand, kind)
    made = await small_stand.post("/v1/payments", order(merchant_reference="another"), key="k1")
    small_stand.gateway.available = False
    reused = (await small_stand.post(path, body, key="k1")).json()
    assert (reused["code"], reused["resource_id"]) == ("idempotency_key_reused", made.json()["id"])
