"""Reviews over HTTP, for operators."""

from typing import Any

from sqlalchemy import Connection

from api.gateway import Done, WorkflowGone
from corridor.domain.failure import Refusal, Refused
from corridor.domain.ids import Prefix, new_id
from corridor.storage import reviews
from tests.api.conftest import Stand
from workflows.messages import ReviewCommand


async def opened(stand: Stand, object_id: str | None = None) -> tuple[str, str]:
    """(review id, payment id) of an open review."""
    paid = await stand.paid()
    review_id = new_id(Prefix.REVIEW, stand.clock())

    def write(connection: Connection) -> None:
        reviews.open_review(
            connection,
            review_id=review_id,
            payment_id=paid["id"],
            object_id=object_id or paid["id"],
            merchant_id=stand.merchant_id,
            reason="risk_review",
            evidence={"rule": "amount"},
            now=stand.clock(),
        )

    await stand.database.write(write)
    return review_id, paid["id"]


async def decide(stand: Stand, review_id: str, decision: str, **more: Any) -> Any:
    return await stand.post(f"/v1/reviews/{review_id}:decide", {"decision": decision}, who="operator", **more)


async def test_operators_see_open_reviews_oldest_first(stand: Stand) -> None:
    first, _ = await opened(stand)
    stand.clock.advance(1)
    second, _ = await opened(stand)
    listed = (await stand.get("/v1/reviews", who="operator")).json()["data"]
    assert [review["id"] for review in listed] == [first, second]
    one = (await stand.get(f"/v1/reviews/{first}", who="operator")).json()
    assert one == listed[0] and one["evidence"] == {"rule": "amount"}


async def test_decision_is_one_update_of_the_payments_workflow(stand: Stand) -> None:
    review_id, payment_id = await opened(stand)
    first = await decide(stand, review_id, "approve", key="d1")
    again = await decide(stand, review_id, "approve", key="d1")
    assert first.status_code == 200 and again.content == first.content
    (sent,) = stand.gateway.sent
    assert (sent.workflow_id, sent.update) == (f"payment-{payment_id}", "decide_review")
    assert sent.update_id == f"{review_id}-approve"
    assert isinstance(sent.argument, ReviewCommand) and sent.argument.decided_by.startswith("key_")


async def test_decision_on_a_refund_goes_to_the_refunds_workflow(small_stand: Stand) -> None:
    refund_id = new_id(Prefix.REFUND, small_stand.clock())
    review_id, _ = await opened(small_stand, refund_id)
    await decide(small_stand, review_id, "found")
    assert small_stand.gateway.sent[0].workflow_id == f"refund-{refund_id}"


async def test_other_decision_after_the_first_is_refused(stand: Stand) -> None:
    review_id, _ = await opened(stand)
    await stand.database.write(reviews.decide, review_id, "approve", "key_1", "", stand.clock())
    answer = await decide(stand, review_id, "decline")
    assert (answer.status_code, answer.json()["code"]) == (409, "review_already_decided")
    assert stand.gateway.sent == []


async def test_workflow_has_the_last_word_on_a_decision(small_stand: Stand) -> None:
    review_id, _ = await opened(small_stand)
    small_stand.gateway.answers = [
        Refused(Refusal.INVALID_PARAMETER, "answered by: approve, decline"),
        Done(),
    ]
    answer = await decide(small_stand, review_id, "found")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


async def test_unknown_decision_and_unknown_review_are_refused(small_stand: Stand) -> None:
    review_id, _ = await opened(small_stand)
    assert (await decide(small_stand, review_id, "maybe")).status_code == 400
    assert (
        await decide(small_stand, new_id(Prefix.REVIEW, small_stand.clock()), "approve")
    ).status_code == 404


async def test_decision_while_the_workflow_is_lost_stays_open_and_can_be_repeated(small_stand: Stand) -> None:
    review_id, _ = await opened(small_stand)
    small_stand.gateway.answers = [WorkflowGone(), Done()]
    lost = await decide(small_stand, review_id, "approve", key="d1")
    assert (lost.status_code, lost.json()["retry"]) == (503, "same_key")
    assert (await decide(small_stand, review_id, "approve", key="d1")).status_code == 200


async def test_a_decision_that_is_quicker_than_the_workflow_is_not_refused_for_good(stand: Stand) -> None:
    """The review's row is committed a moment before the workflow hears of it."""
    review_id, _ = await opened(stand)
    stand.gateway.answers = [Refused(Refusal.REVIEW_ALREADY_DECIDED, "this review is not open any more")]
    early = await decide(stand, review_id, "approve", key="d1")
    assert (early.status_code, early.json()["money_state"]) == (503, "not_moved")
    assert early.headers["Retry-After"]
    assert (await decide(stand, review_id, "approve", key="d1")).status_code == 200
