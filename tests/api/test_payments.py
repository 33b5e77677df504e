"""Payments over HTTP: accepted once, answered with stored bytes, commanded through their workflow."""

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from api.gateway import Accepted, Done, TemporalUnavailable, WorkflowGone
from corridor.domain.failure import Refusal, Refused
from corridor.domain.payment import Status, StatusReason
from corridor.storage import payments as payment_store
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.tables import idempotency_keys, payments
from tests.api.conftest import Stand, order


def _count(connection: Connection, table: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


async def test_payment_is_answered_with_its_snapshot(stand: Stand) -> None:
    answer = await stand.post("/v1/payments", order())
    body = answer.json()
    assert (answer.status_code, body["status"]) == (201, "captured")
    assert answer.headers["Location"] == f"/v1/payments/{body['id']}"
    assert answer.headers["Request-Id"].startswith("req_") and answer.headers["Cache-Control"] == "no-store"
    assert body["amount"] == {"minor": 10_000, "currency": "EUR", "exponent": 2}
    assert body["corridor"] == "DE-EUR>CN-CNY"
    read = await stand.get(f"/v1/payments/{body['id']}")
    assert read.json() == body and read.headers["ETag"] == f'"{body["last_sequence"]}"'


async def test_same_key_and_body_get_identical_bytes(stand: Stand) -> None:
    first = await stand.post("/v1/payments", order(), key="k1")
    again = await stand.post("/v1/payments", order(), key='"k1"')
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotent-Replayed"] == "true" and "Idempotent-Replayed" not in first.headers
    assert again.headers["Location"] == first.headers["Location"]
    assert len(stand.gateway.started) == 1


async def test_same_key_at_the_same_time_makes_one_payment(stand: Stand) -> None:
    answers = await asyncio.gather(*(stand.post("/v1/payments", order(), key="k1") for _ in range(8)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert len(stand.gateway.started) == await stand.database.read(_count, payments) == 1


async def test_order_of_names_and_white_space_are_not_part_of_the_request(small_stand: Stand) -> None:
    stand = small_stand
    first = await stand.post("/v1/payments", order(), key="k1")
    text = json.dumps(dict(reversed(order().items())), indent=3)
    headers = stand.headers(**{"Idempotency-Key": "k1", "Content-Type": "application/json; charset=utf-8"})
    again = await stand.http.post("/v1/payments", content=text, headers=headers)
    assert again.content == first.content


async def test_same_key_with_another_body_is_refused_and_changes_nothing(stand: Stand) -> None:
    await stand.post("/v1/payments", order(), key="k1")
    other = order(amount={"minor": 9_999, "currency": "EUR"})
    answer = await stand.post("/v1/payments", other, key="k1")
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert answer.json()["retry"] == "new_key"
    assert await stand.database.read(_count, payments) == 1


async def test_same_key_on_another_route_is_refused(small_stand: Stand) -> None:
    created = await small_stand.post("/v1/payments", order(), key="k1")
    answer = await small_stand.post(f"/v1/payments/{created.json()['id']}:cancel", key="k1")
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_keys_of_two_merchants_do_not_meet(small_stand: Stand) -> None:
    first = await small_stand.post("/v1/payments", order(), key="k1")
    second = await small_stand.post("/v1/payments", order(), key="k1", who="other")
    assert second.status_code == 201 and second.json()["id"] != first.json()["id"]


async def test_repeat_while_the_first_request_runs_is_told_to_wait(stand: Stand) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    start = stand.gateway.start_payment

    async def slow(row: Any, deadline_seconds: float) -> Any:
        reached.set()
        await go_on.wait()
        return await start(row, deadline_seconds)

    stand.gateway.start_payment = slow  # type: ignore[method-assign]
    first = asyncio.create_task(stand.post("/v1/payments", order(), key="k1"))
    await reached.wait()
    during = await stand.post("/v1/payments", order(), key="k1")
    go_on.set()
    assert (during.status_code, during.json()["code"]) == (409, "idempotency_in_flight")
    assert (during.headers["Retry-After"], during.json()["money_state"]) == ("1", "unknown")
    assert (await first).status_code == 201


async def test_no_answer_in_time_is_202_and_a_repeat_resumes_the_same_payment(stand: Stand) -> None:
    stand.gateway.outcome = None
    first = await stand.post("/v1/payments", order(), key="k1")
    assert (first.status_code, first.json()["status"]) == (202, "processing")
    assert first.headers["Location"] == f"/v1/payments/{first.json()['id']}"
    stand.gateway.outcome = Status.CAPTURED
    second = await stand.post("/v1/payments", order(), key="k1")
    assert (second.status_code, second.json()["id"]) == (201, first.json()["id"])
    assert await stand.database.read(_count, payments) == 1


async def test_claim_of_a_dead_request_is_resumed_after_its_lease(stand: Stand) -> None:
    async def die(row: Any, deadline_seconds: float) -> Any:
        raise asyncio.CancelledError

    alive, stand.gateway.start_payment = stand.gateway.start_payment, die  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await stand.post("/v1/payments", order(), key="k1")
    stand.gateway.start_payment = alive  # type: ignore[method-assign]
    assert (await stand.post("/v1/payments", order(), key="k1")).status_code == 409
    stand.clock.advance(61)
    resumed = await stand.post("/v1/payments", order(), key="k1")
    assert resumed.status_code == 201
    assert await stand.database.read(_count, payments) == 1


async def test_refused_before_acceptance_leaves_the_key_free(stand: Stand) -> None:
    over = await stand.post("/v1/payments", order(amount={"minor": 10**10, "currency": "EUR"}), key="k1")
    assert (over.status_code, over.json()["code"]) == (422, "limit_exceeded")
    assert over.json()["errors"][0]["pointer"] == "/amount/minor"
    assert await stand.database.read(_count, idempotency_keys) == 0
    assert (await stand.post("/v1/payments", order(), key="k1")).status_code == 201


async def test_decline_is_a_result_not_an_error(small_stand: Stand) -> None:
    small_stand.gateway.outcome = Status.FAILED
    answer = await small_stand.post("/v1/payments", order())
    assert (answer.status_code, answer.json()["status"]) == (201, "failed")


async def test_another_merchants_payment_does_not_exist(stand: Stand) -> None:
    paid = await stand.paid()
    for answer in (
        await stand.get(f"/v1/payments/{paid['id']}", who="other"),
        await stand.get(f"/v1/payments/{paid['id']}/events", who="other"),
        await stand.post(f"/v1/payments/{paid['id']}:cancel", who="other"),
        await stand.post("/v1/refunds", {"payment": paid["id"]}, who="other"),
        await stand.get(f"/v1/payments/{paid['id'].replace('pay_', 'rfd_')}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert stand.gateway.sent == []


async def test_list_pages_through_every_payment_once_newest_first(stand: Stand) -> None:
    """Pairs share a moment, so pages end between rows that differ by id alone."""
    made = []
    for number in range(7):
        stand.clock.advance(0.25 if number % 2 else 0)
        made.append(await stand.paid(merchant_reference=f"order-{number}"))
    await stand.post("/v1/payments", order(), who="other")
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await stand.get("/v1/payments", limit=3, **cursor)).json()
        seen += [payment["id"] for payment in page["data"]]
        if not page["has_more"]:
            break
        cursor = {"starting_after": page["next_cursor"]}
    newest_first = sorted(made, key=lambda payment: (payment["created_at"], payment["id"]), reverse=True)
    assert seen == [payment["id"] for payment in newest_first]


async def test_list_filters_by_status_reference_and_key(stand: Stand) -> None:
    first = await stand.post("/v1/payments", order(merchant_reference="a"), key="key-a")
    stand.gateway.outcome = Status.FAILED
    await stand.post("/v1/payments", order(merchant_reference="b"))

    async def ids(**params: Any) -> list[str]:
        return [
            payment["merchant_reference"]
            for payment in (await stand.get("/v1/payments", **params)).json()["data"]
        ]

    assert await ids(**{"status[in]": ["failed", "canceled"]}) == ["b"]
    assert await ids(merchant_reference="a") == ["a"]
    assert await ids(idempotency_key="key-a") == [first.json()["merchant_reference"]]
    assert await ids(idempotency_key="nobodys") == []


async def test_cursor_is_bound_to_its_filters_and_cannot_be_changed(small_stand: Stand) -> None:
    for _ in range(2):
        await small_stand.paid()
    cursor = (await small_stand.get("/v1/payments", limit=1)).json()["next_cursor"]
    for params in (
        {"starting_after": cursor, "status[in]": "captured"},
        {"starting_after": cursor[:-4] + "AAAA"},
        {"starting_after": "!!"},
    ):
        answer = await small_stand.get("/v1/payments", **params)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
    foreign = await small_stand.get("/v1/payments", who="other", starting_after=cursor)
    assert foreign.json()["code"] == "invalid_cursor"


async def test_capture_becomes_one_update_however_often_it_is_sent(stand: Stand) -> None:
    paid = await stand.paid()
    body = {"amount": {"minor": 5_000, "currency": "EUR"}}
    path = f"/v1/payments/{paid['id']}:capture"
    stand.gateway.answers = [Accepted(), Done()]
    slow = await stand.post(path, body, key="cap")
    done = await stand.post(path, body, key="cap")
    again = await stand.post(path, body, key="cap")
    assert [slow.status_code, done.status_code, again.status_code] == [202, 200, 200]
    assert again.content == done.content and again.headers["Idempotent-Replayed"] == "true"
    first, second = stand.gateway.sent
    assert first == second and first.workflow_id == f"payment-{paid['id']}" and first.update == "capture"


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (Refused(Refusal.STATE_CONFLICT, "captured before"), 409, "state_conflict"),
        (
            Refused(Refusal.CAPTURE_EXCEEDS_AUTHORIZED, "more than 100.00 EUR"),
            422,
            "capture_exceeds_authorized",
        ),
        (Done(refused="state_conflict", detail="it was canceled meanwhile"), 409, "state_conflict"),
    ],
)
async def test_refused_command_is_the_stored_answer(
    small_stand: Stand, answer: Any, status: int, code: str
) -> None:
    paid = await small_stand.paid()
    small_stand.gateway.answers = [answer]
    path = f"/v1/payments/{paid['id']}:capture"
    refused = await small_stand.post(path, {}, key="cap")
    again = await small_stand.post(path, {}, key="cap")
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert again.content == refused.content and again.status_code == status
    assert again.headers["Content-Type"] == "application/problem+json"
    assert len(small_stand.gateway.sent) == 1


async def test_command_to_a_payment_that_has_ended_names_its_status_for_good(small_stand: Stand) -> None:
    small_stand.gateway.outcome = Status.FAILED
    failed = await small_stand.paid()
    small_stand.gateway.answers = [WorkflowGone()]
    path = f"/v1/payments/{failed['id']}:cancel"
    answer = await small_stand.post(path, key="c1")
    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")
    assert answer.json()["current_status"] == "failed"
    assert (await small_stand.post(path, key="c1")).content == answer.content


async def test_command_before_the_workflow_runs_is_not_refused_for_good(small_stand: Stand) -> None:
    small_stand.gateway.outcome = None
    accepted = await small_stand.post("/v1/payments", order())
    assert (accepted.status_code, accepted.json()["status"]) == (202, "processing")
    small_stand.gateway.answers = [WorkflowGone(), Done()]
    path = f"/v1/payments/{accepted.json()['id']}:cancel"
    early = await small_stand.post(path, key="c1")
    assert (early.status_code, early.json()["retry"]) == (503, "same_key")
    assert (await small_stand.post(path, key="c1")).status_code == 200


async def test_command_that_may_not_have_arrived_can_be_repeated_with_its_key(small_stand: Stand) -> None:
    paid = await small_stand.paid()
    small_stand.gateway.answers = [TemporalUnavailable(), Done()]
    path = f"/v1/payments/{paid['id']}:cancel"
    lost = await small_stand.post(path, key="c1")
    assert (lost.status_code, lost.json()["retry"], lost.json()["money_state"]) == (
        503,
        "same_key",
        "unknown",
    )
    repeated = await small_stand.post(path, key="c1")
    assert repeated.status_code == 200
    assert small_stand.gateway.sent[0].update_id == small_stand.gateway.sent[1].update_id


@pytest.mark.parametrize(
    ("verb", "minor", "became", "status"),
    [
        ("capture", None, {"to": Status.CAPTURED, "amount_captured_minor": 10_000}, 200),
        ("capture", 4_000, {"to": Status.CAPTURED, "amount_captured_minor": 4_000}, 200),
        ("capture", 4_000, {"to": Status.CAPTURED, "amount_captured_minor": 5_000}, 409),
        ("cancel", None, {"to": Status.CANCELED, "reason": StatusReason.CANCELED_BY_MERCHANT}, 200),
        ("cancel", None, {"to": Status.CANCELED, "reason": StatusReason.CANCELED_BY_OPERATOR}, 409),
    ],
)
async def test_a_command_its_lost_workflow_carried_out_is_answered_as_done(
    small_stand: Stand, verb: str, minor: int | None, became: dict[str, Any], status: int
) -> None:
    """The one that goes on in its place finds nothing left to do; what the first try did is what was asked for."""
    small_stand.gateway.outcome = Status.AUTHORIZED
    paid = await small_stand.paid()
    body = {} if minor is None else {"amount": {"minor": minor, "currency": "EUR"}}
    path = f"/v1/payments/{paid['id']}:{verb}"
    refusal = Refused(Refusal.STATE_CONFLICT, "nothing more can be done")
    small_stand.gateway.answers = [TemporalUnavailable(), refusal, refusal]
    lost = await small_stand.post(path, body, key="c1")

    def carried_out(connection: Connection) -> None:
        row = payment_store.lock(connection, paid["id"])
        payment_store.move(connection, row, "payment.moved", small_stand.clock(), **became)

    await small_stand.database.write(carried_out)
    repeated = await small_stand.post(path, body, key="c1")
    other = await small_stand.post(path, body, key="c2")
    assert [lost.status_code, repeated.status_code, other.status_code] == [503, status, 409]
    assert (await small_stand.post(path, body, key="c1")).content == repeated.content


@pytest.mark.parametrize(
    ("amount", "status", "code", "pointer"),
    [
        ({"minor": 5_000, "currency": "USD"}, 400, "invalid_parameter", "/amount/currency"),
        ({"minor": 10_001, "currency": "EUR"}, 422, "capture_exceeds_authorized", "/amount/minor"),
        ({"minor": 0, "currency": "EUR"}, 400, "amount_out_of_range", "/amount/minor"),
    ],
)
async def test_impossible_capture_names_the_field_and_is_not_sent(
    small_stand: Stand, amount: dict[str, Any], status: int, code: str, pointer: str
) -> None:
    paid = await small_stand.paid()
    answer = await small_stand.post(f"/v1/payments/{paid['id']}:capture", {"amount": amount})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert small_stand.gateway.sent == []


async def test_unfit_quote_is_refused_before_anything_is_accepted(stand: Stand) -> None:
    made = await stand.post(
        "/v1/quotes",
        {"sell": {"minor": 10_000, "currency": "EUR"}, "buy_currency": "CNY", "lock_seconds": 60},
    )
    quote = made.json()["id"]
    other = await stand.post("/v1/payments", order(quote=quote, amount={"minor": 9_000, "currency": "EUR"}))
    assert (other.status_code, other.json()["code"]) == (422, "quote_currency_mismatch")
    foreign = await stand.post("/v1/payments", order(quote=quote), who="other")
    assert foreign.status_code == 404
    stand.clock.advance(61)
    late = await stand.post("/v1/payments", order(quote=quote))
    assert (late.status_code, late.json()["code"]) == (422, "quote_expired")
    assert await stand.database.read(_count, payments) == 0


async def test_database_lost_after_acceptance_is_202_not_a_failure(
    small_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = small_stand
    assert (await stand.get("/v1/payments")).status_code == 200
    start = stand.gateway.start_payment

    async def down(*_: object) -> None:
        raise DatabaseUnavailable("ConnectionResetError")

    async def start_and_lose(row: Any, deadline_seconds: float) -> Any:
        answer = await start(row, deadline_seconds)
        monkeypatch.setattr(Database, "read", down)
        return answer

    stand.gateway.start_payment = start_and_lose  # type: ignore[method-assign]
    answer = await stand.post("/v1/payments", order())
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    assert answer.headers["Location"] == f"/v1/payments/{answer.json()['id']}"
