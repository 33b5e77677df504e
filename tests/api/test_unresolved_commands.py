"""A capture or cancel whose outcome nobody knows is never answered with a guess, and never for good."""

from typing import Any

import httpx
import pytest
from sqlalchemy import Connection

from api.gateway import Done
from corridor.domain.payment import Status, StatusReason
from corridor.storage import payments
from tests.api.conftest import Stand

UNKNOWN = Done(
    refused="outcome_unknown", detail="the capture did not go through; the payment is now requires_review"
)
UNRESOLVED = {"to": Status.REQUIRES_REVIEW, "reason": StatusReason.OUTCOME_UNKNOWN}
STUCK = {"to": Status.REQUIRES_REVIEW, "reason": StatusReason.COMPENSATION_STUCK}
CAPTURED = {"to": Status.CAPTURED, "amount_captured_minor": 10_000}
HELD = {"to": Status.AUTHORIZED}
RELEASED_AT_LAST = {"to": Status.CANCELED, "reason": StatusReason.COMPENSATION_STUCK}
NO_RATE = {"to": Status.FAILED, "reason": StatusReason.RATE_UNAVAILABLE}


async def authorized(stand: Stand) -> str:
    stand.gateway.outcome = Status.AUTHORIZED
    paid = await stand.paid(capture="manual")
    return str(paid["id"])


async def moved(stand: Stand, payment_id: str, became: dict[str, Any]) -> None:
    def write(connection: Connection) -> None:
        row = payments.lock(connection, payment_id)
        payments.move(connection, row, "payment.moved", stand.clock(), **became)

    await stand.database.write(write)


def assert_not_known(answer: httpx.Response, payment_id: str, verb: str) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retry"]) == (409, "outcome_unknown", "after")
    assert (problem["money_state"], problem["current_status"]) == ("unknown", "requires_review")
    assert f"not known yet whether the {verb} happened" in problem["detail"]
    assert answer.headers["Location"] == f"/v1/payments/{payment_id}"
    assert "Idempotent-Replayed" not in answer.headers


@pytest.mark.parametrize(
    ("verb", "meanwhile", "ended", "status", "code"),
    [
        ("capture", UNRESOLVED, CAPTURED, 200, None),
        ("capture", UNRESOLVED, HELD, 409, "state_conflict"),
        ("cancel", STUCK, RELEASED_AT_LAST, 200, None),
        ("cancel", UNRESOLVED, CAPTURED, 409, "state_conflict"),
    ],
)
async def test_the_same_key_tells_the_truth_once_it_is_known(
    stand: Stand, verb: str, meanwhile: dict[str, Any], ended: dict[str, Any], status: int, code: str | None
) -> None:
    payment_id = await authorized(stand)
    path = f"/v1/payments/{payment_id}:{verb}"
    await moved(stand, payment_id, meanwhile)
    stand.gateway.answers = [UNKNOWN] * 3  # the update keeps the result it had, however often it is joined
    for _ in range(2):
        assert_not_known(await stand.post(path, {}, key="c1"), payment_id, verb)

    await moved(stand, payment_id, ended)
    known = await stand.post(path, {}, key="c1")
    assert (known.status_code, known.json().get("code")) == (status, code), known.text
    assert known.json().get("current_status", known.json()["status"]) == ended["to"]
    again = await stand.post(path, {}, key="c1")
    assert again.content == known.content and again.headers["Idempotent-Replayed"] == "true"
    assert len(stand.gateway.sent) == 3


async def test_proof_that_came_between_the_workflows_answer_and_ours_is_the_answer(
    small_stand: Stand,
) -> None:
    payment_id = await authorized(small_stand)
    await moved(small_stand, payment_id, CAPTURED)
    small_stand.gateway.answers = [UNKNOWN]
    answer = await small_stand.post(f"/v1/payments/{payment_id}:capture", {})
    assert (answer.status_code, answer.json()["status"]) == (200, "captured")


async def test_a_capture_that_ended_the_payment_cannot_be_tried_again(small_stand: Stand) -> None:
    payment_id = await authorized(small_stand)
    await moved(small_stand, payment_id, NO_RATE)
    small_stand.gateway.answers = [Done(refused="rate_unavailable", detail="the payment is now failed")]
    path = f"/v1/payments/{payment_id}:capture"
    refused = await small_stand.post(path, {}, key="c1")
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["retry"]) == (422, "rate_unavailable", "never")
    assert problem["money_state"] == "not_moved"
    assert (await small_stand.post(path, {}, key="c1")).content == refused.content
