"""What the fake Stripe does with tokens, amounts, keys and states, over real HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.embedded import EmbeddedSandbox
from tests.unit.sandbox_stand import Stand


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    config = SandboxConfig(
        port=0, data_dir=tmp_path_factory.mktemp("sandbox"), search_lag_seconds=3600, payout_period_seconds=0,
        settlement_delay_seconds=3600, slow_operation_seconds=0,
    )  # fmt: skip
    with EmbeddedSandbox(config) as sandbox:
        stand = Stand(sandbox)
        yield stand
        stand.close()


@pytest.mark.parametrize(
    ("token", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", None),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", None),
        ("pm_card_radarBlock", "card_declined", "fraudulent"),
    ],
)
def test_declined_card_moves_nothing_and_leaves_the_intent_open(
    stand: Stand, token: str, code: str, decline_code: str | None
) -> None:
    answer = stand.pay(token, **{"metadata[payment]": token})
    error = answer.json()["error"]
    assert answer.status_code == 402
    assert (error["type"], error["code"], error.get("decline_code")) == ("card_error", code, decline_code)
    assert error["payment_intent"]["status"] == "requires_payment_method"
    assert stand.effects(token) == []


def test_declined_intent_can_be_confirmed_again_with_another_card(stand: Stand) -> None:
    intent = stand.pay("pm_card_visa_chargeDeclined").json()["error"]["payment_intent"]["id"]
    answer = stand.post(f"/payment_intents/{intent}/confirm", {"payment_method": "pm_card_visa"})
    assert answer.json()["status"] == "succeeded"


def test_manual_capture_takes_part_and_releases_the_rest(stand: Stand) -> None:
    intent = stand.pay(capture_method="manual", **{"metadata[payment]": "manual"}).json()
    assert (intent["status"], intent["amount_capturable"]) == ("requires_capture", 1099)
    captured = stand.post(
        f"/payment_intents/{intent['id']}/capture", {"amount_to_capture": 500, "metadata[step]": "c1"}
    ).json()
    assert (captured["status"], captured["amount_received"], captured["amount_capturable"]) == (
        "succeeded",
        500,
        0,
    )
    authorised, taken, _fee = stand.movements("manual")
    assert (authorised["effect"], authorised["amount"]) == ("authorise", 1099)
    assert (taken["effect"], taken["amount"], taken["metadata"]["step"]) == ("capture", 500, "c1")


def test_capture_beyond_the_authorised_amount_is_refused(stand: Stand) -> None:
    intent = stand.pay(capture_method="manual").json()["id"]
    answer = stand.post(f"/payment_intents/{intent}/capture", {"amount_to_capture": 1100})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "amount_too_large")


def test_canceled_authorisation_cannot_be_captured(stand: Stand) -> None:
    intent = stand.pay(capture_method="manual", **{"metadata[payment]": "canceled"}).json()["id"]
    canceled = stand.post(f"/payment_intents/{intent}/cancel", {"cancellation_reason": "abandoned"}).json()
    assert (canceled["status"], canceled["cancellation_reason"]) == ("canceled", "abandoned")
    error = stand.post(f"/payment_intents/{intent}/capture").json()["error"]
    assert error["code"] == "payment_intent_unexpected_state"
    assert error["payment_intent"]["status"] == "canceled"
    assert stand.effects("canceled") == ["authorise", "cancel"]


@pytest.mark.parametrize(
    ("verdict", "status"), [("complete", "succeeded"), ("fail", "requires_payment_method")]
)
def test_challenged_buyer_comes_back_with_the_outcome(stand: Stand, verdict: str, status: str) -> None:
    intent = stand.pay(
        "pm_card_threeDSecure2Required", return_url="https://shop.example/r?a=1", key=verdict
    ).json()
    page = intent["next_action"]["redirect_to_url"]["url"]
    assert intent["status"] == "requires_action"
    assert f"{intent['id']}/complete" in httpx.get(page, trust_env=False).text
    back = httpx.post(f"{page}/{verdict}", trust_env=False)
    query = parse_qs(urlsplit(back.headers["location"]).query)
    assert (back.status_code, query["a"], query["payment_intent"]) == (303, ["1"], [intent["id"]])
    assert stand.get(f"/payment_intents/{intent['id']}")["status"] == status
    assert httpx.post(f"{page}/complete", trust_env=False).status_code == 409


def test_challenge_without_a_buyer_is_a_decline(stand: Stand) -> None:
    error = stand.pay("pm_card_authenticationRequired", error_on_requires_action="true").json()["error"]
    assert (error["code"], error["decline_code"]) == ("authentication_required", "authentication_required")


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (1099, "jpy", None),
        (10, "jpy", "amount_too_small"),
        (1000, "kwd", None),
        (1001, "kwd", "invalid_charge_amount"),
        (50000, "isk", None),
        (50050, "isk", "invalid_charge_amount_no_decimal_compatible"),
        (49, "usd", "amount_too_small"),
        (100_000_000, "usd", "amount_too_large"),
    ],
)
def test_minor_units_are_stripes_own(stand: Stand, amount: int, currency: str, code: str | None) -> None:
    answer = stand.pay(amount=amount, currency=currency)
    assert answer.json().get("error", {}).get("code") == code
    assert answer.status_code == (200 if code is None else 400)


@pytest.mark.parametrize(
    ("field", "value", "code", "param"),
    [
        ("bogus", "1", "parameter_unknown", "bogus"),
        (
            "payment_method_options[card][bogus]",
            "1",
            "parameter_unknown",
            "payment_method_options[card][bogus]",
        ),
        ("amount", "10.5", "parameter_invalid_integer", "amount"),
        ("amount", "-5", "parameter_invalid_integer", "amount"),
        ("payment_method", "pm_nobody", "resource_missing", "payment_method"),
    ],
)
def test_wrong_parameter_is_named(stand: Stand, field: str, value: str, code: str, param: str) -> None:
    error = stand.pay(**{field: value}).json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)


def test_request_without_secret_key_is_unauthorized(stand: Stand) -> None:
    assert httpx.get(f"{stand.url}/stripe/v1/balance", trust_env=False).status_code == 401
    assert (
        stand.http.get("/stripe/v1/balance", headers={"Authorization": "Bearer pk_test_x"}).status_code == 401
    )


def test_same_key_replays_the_first_answer_and_moves_money_once(stand: Stand) -> None:
    first = stand.pay(key="replayed", **{"metadata[payment]": "replayed"})
    again = stand.pay(key="replayed", **{"metadata[payment]": "replayed"})
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Original-Request"] == first.headers["Request-Id"]
    assert again.content == first.content
    assert stand.effects("replayed") == ["authorise", "capture", "fee"]
    assert {row["idempotency_key"] for row in stand.movements("replayed")} == {"replayed"}


def test_decline_is_stored_under_its_key(stand: Stand) -> None:
    first = stand.pay("pm_card_visa_chargeDeclined", key="declined")
    again = stand.pay("pm_card_visa_chargeDeclined", key="declined")
    assert (again.status_code, again.content) == (402, first.content)


def test_same_key_with_other_parameters_is_refused(stand: Stand) -> None:
    stand.pay(key="reused")
    answer = stand.pay(key="reused", amount=1100)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "idempotency_error")


def test_validation_failure_is_not_stored_under_its_key(stand: Stand) -> None:
    assert stand.pay(key="corrected", amount=1).status_code == 400
    assert stand.pay(key="corrected").status_code == 200


def test_concurrent_requests_with_one_key_conflict_and_move_money_once(stand: Stand) -> None:
    stand.fault("latency", match={"idempotency_key_prefix": "concurrent"}, milliseconds=3_000)
    with ThreadPoolExecutor(4) as pool:
        form = {"metadata[payment]": "concurrent"}
        answers = list(pool.map(lambda _: stand.pay(key="concurrent", **form), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    losers = [answer.json()["error"]["code"] for answer in answers if answer.status_code == 409]
    assert losers == ["idempotency_key_in_use"] * 3
    assert stand.effects("concurrent") == ["authorise", "capture", "fee"]


def test_search_lags_behind_the_list(stand: Stand) -> None:
    intent = stand.pay(**{"metadata[payment]": "it's new"}).json()
    query = "metadata['payment']:'it\\'s new'"
    assert stand.get("/payment_intents/search", query=query)["data"] == []
    newest = stand.get("/payment_intents", limit=1, **{"created[gte]": intent["created"]})
    assert [row["id"] for row in newest["data"]] == [intent["id"]]
    stand.control("POST", "/clock", json={"advance_seconds": 3601})
    found = stand.get("/payment_intents/search", query=query)["data"]
    assert [row["id"] for row in found] == [intent["id"]]


def test_list_pages_meet_every_object_once(stand: Stand) -> None:
    intent = stand.pay().json()["id"]
    made = [stand.post("/refunds", {"payment_intent": intent, "amount": 10}).json()["id"] for _ in range(5)]
    seen: list[str] = []
    more = True
    while more:
        cursor = {"starting_after": seen[-1]} if seen else {}
        page = stand.get("/refunds", payment_intent=intent, limit=2, **cursor)
        seen += [row["id"] for row in page["data"]]
        more = page["has_more"]
    assert seen == made[::-1]


def test_refunds_never_exceed_the_captured_amount_even_when_they_race(stand: Stand) -> None:
    intent = stand.pay(amount=1000, **{"metadata[payment]": "raced"}).json()["id"]
    with ThreadPoolExecutor(8) as pool:
        form = {"payment_intent": intent, "amount": 300}
        answers = list(pool.map(lambda _: stand.post("/refunds", form).status_code, range(8)))
    assert sorted(answers) == [200] * 3 + [400] * 5
    assert stand.effects("raced").count("refund") == 3


def test_refund_that_succeeded_can_fail_later(stand: Stand) -> None:
    intent = stand.pay("pm_card_refundFail", **{"metadata[payment]": "refund-fails"}).json()["id"]
    refund = stand.post("/refunds", {"payment_intent": intent}).json()
    assert refund["status"] == "succeeded"
    stand.control("POST", "/clock", json={"advance_seconds": 1})
    later = stand.get(f"/refunds/{refund['id']}")
    assert (later["status"], later["failure_reason"]) == ("failed", "expired_or_canceled_card")
    assert stand.effects("refund-fails")[-2:] == ["refund", "refund_failed"]


def test_dispute_withdraws_money_and_winning_evidence_returns_it(stand: Stand) -> None:
    intent = stand.pay("pm_card_createDispute", **{"metadata[payment]": "disputed"}).json()["id"]
    stand.control("POST", "/clock", json={"advance_seconds": 1})
    dispute = stand.get("/disputes", payment_intent=intent)["data"][0]
    assert (dispute["status"], dispute["amount"]) == ("needs_response", 1099)
    assert stand.post("/refunds", {"payment_intent": intent}).json()["error"]["code"] == "charge_disputed"
    evidence = {"evidence[uncategorized_text]": "winning_evidence", "submit": "true"}
    assert stand.post(f"/disputes/{dispute['id']}", evidence).json()["status"] == "won"
    assert [row["amount"] for row in stand.movements("disputed") if "dispute" in row["effect"]] == [
        1099,
        1099,
    ]


def test_expand_puts_objects_in_the_place_of_ids(stand: Stand) -> None:
    intent = stand.pay(**{"expand[0]": "latest_charge.balance_transaction"}).json()
    assert intent["latest_charge"]["balance_transaction"]["source"] == intent["latest_charge"]["id"]


def test_uncaptured_authorisation_lapses_after_its_life(tmp_path: Path) -> None:
    config = SandboxConfig(port=0, data_dir=tmp_path, authorization_seconds=600)
    with EmbeddedSandbox(config) as sandbox:
        stand = Stand(sandbox)
        intent = stand.pay(capture_method="manual", **{"metadata[payment]": "lapsed"}).json()
        charge = stand.get(f"/charges/{intent['latest_charge']}")
        assert charge["payment_method_details"]["card"]["capture_before"] == intent["created"] + 600
        stand.control("POST", "/clock", json={"advance_seconds": 601})
        lapsed = stand.get(f"/payment_intents/{intent['id']}")
        assert (lapsed["status"], lapsed["cancellation_reason"]) == ("canceled", "automatic")
        assert stand.effects("lapsed") == ["authorise", "cancel"]
        stand.close()


def test_pruned_key_executes_anew(tmp_path: Path) -> None:
    with EmbeddedSandbox(SandboxConfig(port=0, data_dir=tmp_path, idempotency_key_seconds=60)) as sandbox:
        stand = Stand(sandbox)
        first = stand.pay(key="pruned").json()["id"]
        assert stand.pay(key="pruned").json()["id"] == first
        stand.control("POST", "/clock", json={"advance_seconds": 61})
        assert stand.pay(key="pruned").json()["id"] != first
        stand.close()
