"""Reviews over HTTP, for operators."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection

from api import credentials
from api.gateway import Done, WorkflowGone
from corridor.domain.effect import FrozenRequest, Operation
from corridor.domain.failure import Refusal, Refused
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.outcome import Evidence, Outcome, ProviderAnswer
from corridor.storage import effects, reviews
from tests.api.conftest import PEPPER, Stand
from workflows.messages import ReviewCommand


async def opened(
    stand: Stand, object_id: str | None = None, evidence: dict[str, Any] | None = None
) -> tuple[str, str]:
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
            reason="risk_review" if evidence is None else "outcome_unknown",
            evidence=evidence or {"rule": "amount"},
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
    assert sent.update_id.startswith(f"{review_id}-")
    assert isinstance(sent.argument, ReviewCommand) and sent.argument.decided_by.startswith("key_")


async def test_whatever_a_decision_says_is_part_of_its_update(small_stand: Stand) -> None:
    """Two operators, two notes or two references are two updates; the workflow takes one and refuses the other."""
    review_id, _ = await opened(small_stand)
    said = [
        {"decision": "found", "note": "seen", "provider_reference": "pi_1"},
        {"decision": "found", "note": "seen", "provider_reference": "pi_1"},
        {"decision": "found", "note": "seen", "provider_reference": "pi_2"},
        {"decision": "found", "note": "seen there", "provider_reference": "pi_1"},
        {"decision": "absent", "note": "seen", "provider_reference": "pi_1"},
    ]
    for body in said:
        await small_stand.post(f"/v1/reviews/{review_id}:decide", body, who="operator")
    ids = [sent.update_id for sent in small_stand.gateway.sent]
    assert ids[0] == ids[1] and len(set(ids)) == 4


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


async def found_as(stand: Stand, reference: str) -> tuple[str, dict[str, Any]]:
    """(review id, the decision in the row) of a review that the operator decided: found under this reference."""
    effect_key = f"{new_id(Prefix.PAYMENT, stand.clock())}:sale:1"
    review_id, payment_id = await opened(stand, evidence={"effect": effect_key})
    body = {"decision": "found", "note": "in the provider's books", "provider_reference": reference}
    assert (await stand.post(f"/v1/reviews/{review_id}:decide", body, who="operator")).status_code == 200
    asked = stand.gateway.sent[-1].argument
    assert isinstance(asked, ReviewCommand)

    def write(connection: Connection) -> None:
        amount, now = Money(10_000, "EUR"), stand.clock()
        effect = effects.declare(
            connection,
            key=effect_key,
            object_id=payment_id,
            payment_id=payment_id,
            operation=Operation.SALE,
            provider="stripe",
            amount=amount,
            request=FrozenRequest(method="POST", path="/v1/x", body="", content_type="text/plain"),
            provider_reference=None,
            by_run=None,
            now=now,
        )
        answer = ProviderAnswer(
            outcome=Outcome.APPROVED,
            evidence=Evidence(seen_at=now),
            amount=amount,
            provider_reference=asked.provider_reference,
        )
        effects.record(connection, effect, answer, now)
        reviews.decide(connection, review_id, "found", asked.decided_by, asked.note, now)

    await stand.database.write(write)
    return review_id, body


@pytest.mark.parametrize(
    "other",
    [{"provider_reference": "pi_other"}, {"note": "by telephone"}, {"decision": "absent"}],
)
async def test_another_decision_than_the_one_on_record_is_refused(
    stand: Stand, other: dict[str, str]
) -> None:
    review_id, body = await found_as(stand, "pi_1")
    sent = len(stand.gateway.sent)
    answer = await stand.post(f"/v1/reviews/{review_id}:decide", {**body, **other}, who="operator")
    assert (answer.status_code, answer.json()["code"]) == (409, "review_already_decided")
    assert "found as pi_1" in answer.json()["detail"]
    assert len(stand.gateway.sent) == sent


async def test_the_same_decision_of_another_operator_is_not_his(stand: Stand) -> None:
    review_id, body = await found_as(stand, "pi_1")
    stand.keys["operator"] = await stand.database.write(_another_operator, stand.clock())
    answer = await stand.post(f"/v1/reviews/{review_id}:decide", body, who="operator")
    assert (answer.status_code, answer.json()["code"]) == (409, "review_already_decided")


async def test_the_same_decision_once_more_is_answered_with_the_record(stand: Stand) -> None:
    """Also under another key, and also where its workflow is gone or knows nothing of it."""
    review_id, body = await found_as(stand, "pi_1")
    recorded = (await stand.get(f"/v1/reviews/{review_id}", who="operator")).json()
    assert (recorded["status"], recorded["provider_reference"]) == ("decided", "pi_1")
    closed = Refused(Refusal.REVIEW_ALREADY_DECIDED, "this review is not open any more")
    stand.gateway.answers = [Done(), WorkflowGone(), closed]
    for _ in range(3):
        answer = await stand.post(f"/v1/reviews/{review_id}:decide", body, who="operator")
        assert (answer.status_code, answer.json()) == (200, recorded)
    assert stand.gateway.answers == []


async def test_a_decision_that_another_overtook_on_its_way_is_refused_for_good(stand: Stand) -> None:
    """The refusal is the answer of its key at once: nobody has to wait for the end of a lease."""
    review_id, _ = await opened(stand)
    send = stand.gateway.command

    async def overtaken(*asked: Any) -> Any:
        await stand.database.write(reviews.decide, review_id, "decline", "key_1", "no", stand.clock())
        stand.gateway.answers = [Refused(Refusal.STATE_CONFLICT, "the payment is failed by now")]
        return await send(*asked)

    stand.gateway.command = overtaken  # type: ignore[method-assign]
    refused = await decide(stand, review_id, "approve", key="d1")
    assert (refused.status_code, refused.json()["code"]) == (409, "review_already_decided")
    assert (await decide(stand, review_id, "approve", key="d1")).content == refused.content


async def test_open_reviews_are_paged_through_while_they_are_decided(stand: Stand) -> None:
    """Pairs share a moment, so pages end between rows that differ by id alone."""
    made = []
    for number in range(7):
        stand.clock.advance(0.25 if number % 2 else 0)
        made.append((stand.clock(), (await opened(stand))[0]))
    oldest_first = [review_id for _, review_id in sorted(made)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await stand.get("/v1/reviews", who="operator", limit=2, **cursor)).json()
        seen += [review["id"] for review in page["data"]]
        await stand.database.write(reviews.decide, seen[-1], "approve", "key_1", "", stand.clock())
        if not page["has_more"]:
            break
        cursor = {"starting_after": page["next_cursor"]}
    assert seen == oldest_first and page["next_cursor"] is None
    changed = cursor["starting_after"][:-4] + "AAAA"
    answer = await stand.get("/v1/reviews", who="operator", starting_after=changed)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


def _another_operator(connection: Connection, now: datetime) -> str:
    return credentials.issue(
        connection, merchant_id=None, role="operator", mode="test", pepper=PEPPER, now=now
    )
