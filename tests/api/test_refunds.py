"""Refunds over HTTP: checked cheaply, accepted once, answered with stored bytes."""

from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from corridor.domain.payment import RefundStatus, Status, StatusReason
from corridor.storage.tables import payments, refunds
from tests.api.conftest import Stand


def eur(minor: int) -> dict[str, Any]:
    return {"minor": minor, "currency": "EUR"}


def _set(connection: Connection, /, payment_id: str, **values: Any) -> None:
    connection.execute(update(payments).where(payments.c.id == payment_id).values(**values))


async def _ids(stand: Stand) -> list[str]:
    return list(
        await stand.database.read(lambda connection: connection.execute(select(refunds.c.id)).scalars().all())
    )


async def test_refund_is_answered_and_repeats_get_the_same_bytes(stand: Stand) -> None:
    paid = await stand.paid()
    body = {"payment": paid["id"], "amount": eur(2_500), "reason": "damaged", "metadata": {"case": "c-9"}}
    first = await stand.post("/v1/refunds", body, key="r1")
    again = await stand.post("/v1/refunds", body, key="r1")
    assert (first.status_code, first.json()["status"]) == (201, "succeeded")
    assert again.content == first.content and again.headers["Idempotent-Replayed"] == "true"
    assert first.json()["amount"] == {"minor": 2_500, "currency": "EUR", "exponent": 2}
    read = await stand.get(f"/v1/refunds/{first.json()['id']}")
    assert read.json() == first.json()
    assert (await stand.get("/v1/refunds", payment=paid["id"])).json()["data"] == [first.json()]


async def test_refund_without_an_amount_takes_what_is_left(stand: Stand) -> None:
    paid = await stand.paid()
    await stand.database.write(
        _set, paid["id"], amount_refunded_minor=3_000, amount_refund_reserved_minor=1_000
    )
    answer = await stand.post("/v1/refunds", {"payment": paid["id"]})
    assert answer.json()["amount"]["minor"] == 6_000


async def test_events_of_a_refund_are_counted_by_refund(stand: Stand) -> None:
    paid = await stand.paid()
    refund = (await stand.post("/v1/refunds", {"payment": paid["id"]})).json()
    events = (await stand.get(f"/v1/refunds/{refund['id']}/events")).json()["data"]
    assert [(event["sequence"], event["type"]) for event in events] == [
        (1, "refund.accepted"),
        (2, "refund.succeeded"),
    ]
    assert events[1]["previous"] == {"status": "processing"}


@pytest.mark.parametrize(
    ("changes", "amount", "status", "code"),
    [
        ({}, eur(10_001), 422, "refund_exceeds_captured"),
        ({"amount_refunded_minor": 10_000}, None, 422, "refund_exceeds_captured"),
        ({"amount_refund_reserved_minor": 9_000}, eur(1_001), 422, "refund_exceeds_captured"),
        ({"status": Status.AUTHORIZED}, eur(1), 409, "state_conflict"),
        ({"status": Status.FAILED}, None, 409, "state_conflict"),
        (
            {"status": Status.REQUIRES_REVIEW, "status_reason": StatusReason.OUTCOME_UNKNOWN},
            eur(1),
            409,
            "outcome_unknown",
        ),
        ({}, {"minor": 100, "currency": "USD"}, 400, "invalid_parameter"),
    ],
)
async def test_impossible_refund_is_refused_and_leaves_nothing(
    small_stand: Stand, changes: dict[str, Any], amount: Any, status: int, code: str
) -> None:
    paid = await small_stand.paid()
    if changes:
        await small_stand.database.write(_set, paid["id"], **changes)
    body = {"payment": paid["id"], **({"amount": amount} if amount else {})}
    answer = await small_stand.post("/v1/refunds", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await _ids(small_stand) == [] and small_stand.gateway.started == [paid["id"]]


async def test_refund_that_lost_the_race_for_the_limit_is_a_stored_refusal(stand: Stand) -> None:
    paid = await stand.paid()
    stand.gateway.refund_refused = "refund_exceeds_captured"
    body = {"payment": paid["id"], "amount": eur(9_000)}
    first = await stand.post("/v1/refunds", body, key="r1")
    again = await stand.post("/v1/refunds", body, key="r1")
    assert (first.status_code, first.json()["code"]) == (422, "refund_exceeds_captured")
    assert again.status_code == 422 and again.content == first.content
    (refund_id,) = await _ids(stand)
    assert first.json()["resource_id"] == refund_id
    read = (await stand.get(f"/v1/refunds/{refund_id}")).json()
    assert (read["status"], read["status_reason"]) == ("failed", "refund_exceeds_captured")


async def test_refund_without_an_answer_in_time_is_202_and_resumes(stand: Stand) -> None:
    paid = await stand.paid()
    stand.gateway.refund_outcome = None
    first = await stand.post("/v1/refunds", {"payment": paid["id"]}, key="r1")
    stand.gateway.refund_outcome = RefundStatus.FAILED
    second = await stand.post("/v1/refunds", {"payment": paid["id"]}, key="r1")
    assert (first.status_code, second.status_code) == (202, 201)
    assert second.json()["id"] == first.json()["id"] and second.json()["status"] == "failed"
    assert first.headers["Location"] == f"/v1/refunds/{first.json()['id']}"


async def test_a_refusal_that_came_after_the_deadline_is_the_answer_of_every_repeat(stand: Stand) -> None:
    paid = await stand.paid()
    stand.gateway.refund_outcome = None
    first = await stand.post("/v1/refunds", {"payment": paid["id"]}, key="r1")
    await stand.database.write(stand.gateway._refuse_refund, first.json()["id"], "refund_exceeds_captured")
    second = await stand.post("/v1/refunds", {"payment": paid["id"]}, key="r1")
    third = await stand.post("/v1/refunds", {"payment": paid["id"]}, key="r1")
    assert (first.status_code, second.status_code) == (202, 422)
    assert second.json()["code"] == "refund_exceeds_captured"
    assert third.content == second.content and third.headers["Idempotent-Replayed"] == "true"


async def test_another_merchants_refund_does_not_exist(small_stand: Stand) -> None:
    paid = await small_stand.paid()
    refund = (await small_stand.post("/v1/refunds", {"payment": paid["id"]})).json()
    for path in (f"/v1/refunds/{refund['id']}", f"/v1/refunds/{refund['id']}/events"):
        assert (await small_stand.get(path, who="other")).status_code == 404
    assert (await small_stand.get("/v1/refunds", who="other")).json()["data"] == []
