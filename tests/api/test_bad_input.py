"""Bad input gets a clear 4xx problem that names the field, and changes nothing."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
import structlog
from sqlalchemy import Connection, func, select

from corridor.storage.tables import idempotency_keys, payments
from tests.api.conftest import Stand, order

CARD = "4242424242424242"


def _rows(connection: Connection) -> int:
    return sum(
        int(connection.execute(select(func.count()).select_from(table)).scalar_one())
        for table in (payments, idempotency_keys)
    )


async def refused(
    stand: Stand, answer: httpx.Response, status: int, code: str, pointer: str | None = None
) -> None:
    """A complete problem of this code, and an untouched database."""
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["status"] == status and problem["request_id"] == answer.headers["Request-Id"]
    assert {"type", "title", "detail", "instance", "doc_url", "errors", "retry", "money_state"} <= set(
        problem
    )
    assert problem["type"].endswith(f"/{code}") and problem["money_state"] == "not_moved"
    if pointer is not None:
        assert pointer in [error["pointer"] for error in problem["errors"]]
    assert await stand.database.read(_rows) == 0
    assert stand.gateway.started == [] and stand.gateway.sent == []


def money(minor: Any = 10_000, currency: Any = "EUR", **more: Any) -> dict[str, Any]:
    return {"minor": minor, "currency": currency, **more}


WRONG: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "unknown currency": ({"amount": money(currency="EUX")}, "invalid_currency", "/amount/currency"),
    "lower case currency": ({"amount": money(currency="eur")}, "invalid_currency", "/amount/currency"),
    "metal": ({"amount": money(currency="XAU")}, "invalid_currency", "/amount/currency"),
    "unknown settlement currency": ({"settle_in": "ZZZ"}, "invalid_currency", "/settle_in"),
    "unknown country": ({"buyer": {"country": "XX"}}, "invalid_country", "/buyer/country"),
    "zero": ({"amount": money(0)}, "amount_out_of_range", "/amount/minor"),
    "negative": ({"amount": money(-1)}, "amount_out_of_range", "/amount/minor"),
    "beyond 10^15": ({"amount": money(10**15)}, "amount_out_of_range", "/amount/minor"),
    "beyond 64 bits": ({"amount": money(10**40)}, "amount_out_of_range", "/amount/minor"),
    "float": ({"amount": money(100.5)}, "invalid_parameter", "/amount/minor"),
    "float without decimals": ({"amount": money(100.0)}, "invalid_parameter", "/amount/minor"),
    "exponent form": ({"amount": money(1e4)}, "invalid_parameter", "/amount/minor"),
    "text": ({"amount": money("10000")}, "invalid_parameter", "/amount/minor"),
    "boolean": ({"amount": money(True)}, "invalid_parameter", "/amount/minor"),
    "null": ({"amount": money(None)}, "invalid_parameter", "/amount/minor"),
    "more decimals than yen have": (
        {"amount": money(currency="JPY", exponent=2)},
        "currency_exponent_mismatch",
        "/amount",
    ),
    "fewer than dinars have": (
        {"amount": money(currency="KWD", exponent=2)},
        "currency_exponent_mismatch",
        "/amount",
    ),
    "unknown field": ({"amuont": money()}, "unknown_field", "/amuont"),
    "unknown inner field": ({"amount": money(major=1)}, "unknown_field", "/amount/major"),
    "missing inner field": ({"amount": {"minor": 1}}, "missing_parameter", "/amount/currency"),
    "token with spaces": (
        {"payment_method": {"type": "card", "provider_token": "a b"}},
        "invalid_parameter",
        "/payment_method/provider_token",
    ),
    "other method": (
        {"payment_method": {"type": "cash", "provider_token": "t"}},
        "invalid_parameter",
        "/payment_method/type",
    ),
    "metadata of numbers": ({"metadata": {"a": 1}}, "invalid_parameter", "/metadata/a"),
    "too much metadata": ({"metadata": {f"k{n}": "v" for n in range(21)}}, "invalid_parameter", "/metadata"),
    "long reference": ({"merchant_reference": "x" * 129}, "invalid_parameter", "/merchant_reference"),
    "control characters": ({"merchant_reference": "a\nb"}, "invalid_parameter", "/merchant_reference"),
    "NUL": ({"merchant_reference": "a\x00b"}, "invalid_parameter", "/merchant_reference"),
    "javascript as return address": (
        {"return_url": "javascript:alert(1)"},
        "invalid_parameter",
        "/return_url",
    ),
    "foreign kind of quote id": ({"quote": "qte_nonsense"}, "invalid_parameter", "/quote"),
}


@pytest.mark.parametrize(("changes", "code", "pointer"), WRONG.values(), ids=WRONG)
async def test_wrong_field_is_named(
    small_stand: Stand, changes: dict[str, Any], code: str, pointer: str
) -> None:
    await refused(small_stand, await small_stand.post("/v1/payments", order(**changes)), 400, code, pointer)


async def test_every_wrong_field_is_listed(small_stand: Stand) -> None:
    answer = await small_stand.post("/v1/payments", {"amount": money(0, "QQQ"), "surplus": 1})
    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert {"/amount/minor", "/amount/currency", "/surplus", "/buyer", "/payment_method"} <= pointers


async def test_amount_over_the_limit_is_refused(stand: Stand) -> None:
    answer = await stand.post("/v1/payments", order(amount=money(10**12)))
    await refused(stand, answer, 422, "limit_exceeded", "/amount/minor")


@pytest.fixture
async def raw(small_stand: Stand) -> AsyncIterator["Raw"]:
    yield Raw(small_stand)


class Raw:
    """Sends bytes as they are."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand

    async def post(self, body: Any, path: str = "/v1/payments", **headers: str) -> httpx.Response:
        given = {"Idempotency-Key": "k1", "Content-Type": "application/json", **headers}
        return await self.stand.http.post(path, content=body, headers=self.stand.headers(**given))


BROKEN: Mapping[str, bytes] = {
    "not JSON": b"{",
    "nothing but text": b"hello",
    "duplicate names": b'{"amount": {"minor": 1, "minor": 2}}',
    "duplicate names far inside": b'{"a": [{"b": {"c": 1, "c": 1}}]}',
    "NaN": b'{"amount": {"minor": NaN}}',
    "Infinity": b'{"amount": {"minor": -Infinity}}',
    "deep": b'{"a":' * 33 + b"1" + b"}" * 33,
    "very deep": b"[" * 100_000 + b"]" * 100_000,
    "latin-1": '{"merchant_reference": "café"}'.encode("latin-1"),
    "endless number": b'{"amount": {"minor": ' + b"9" * 5_000 + b"}}",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
async def test_malformed_json_is_refused(raw: Raw, body: bytes) -> None:
    await refused(raw.stand, await raw.post(body), 400, "malformed_json")


async def test_unpaired_surrogate_is_not_text(raw: Raw) -> None:
    answer = await raw.post(json.dumps(order(merchant_reference="\ud800")).encode())
    await refused(raw.stand, answer, 400, "invalid_parameter", "/merchant_reference")


async def test_other_media_type_is_refused(raw: Raw) -> None:
    answer = await raw.post(json.dumps(order()).encode(), **{"Content-Type": "text/plain"})
    await refused(raw.stand, answer, 415, "unsupported_media_type")


async def test_big_body_is_refused_by_its_declared_length(raw: Raw) -> None:
    await refused(raw.stand, await raw.post(b"x" * 10_000_000), 413, "body_too_large")


async def test_big_body_without_a_length_is_read_no_further_than_the_limit(raw: Raw) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 1_000
            yield b"x" * 1_000

    await refused(raw.stand, await raw.post(chunks()), 413, "body_too_large")


CARDS: Mapping[str, dict[str, Any]] = {
    "reference": order(merchant_reference=CARD),
    "spaced": order(merchant_reference="4242 4242 4242 4242"),
    "dashed, beside text": order(metadata={"note": "card 4242-4242-4242-4242 exp 12/30"}),
    "beside another number": order(metadata={"note": "12 4242424242424242"}),
    "name": order(metadata={CARD: "x"}),
    "number": order(surplus=int(CARD)),
    "token": order(payment_method={"type": "card", "provider_token": CARD}),
    "amex": order(merchant_reference="378282246310005"),
    "nineteen digits": order(merchant_reference="6212345678900000003"),
    "full-width digits": order(merchant_reference="４２４２４２４２４２４２４２４２"),
}


@pytest.mark.parametrize("body", CARDS.values(), ids=CARDS)
async def test_card_number_is_refused_wherever_it_stands(small_stand: Stand, body: dict[str, Any]) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = await small_stand.post("/v1/payments", body)
    await refused(small_stand, answer, 400, "account_data_not_accepted")
    assert "4242" not in answer.text and "4242" not in str(lines)


async def test_card_number_hidden_in_json_escapes_is_refused(raw: Raw) -> None:
    hidden = "".join(f"\\u{ord(digit):04x}" for digit in CARD)
    await refused(raw.stand, await raw.post(f'{{"a":"{hidden}"}}'.encode()), 400, "account_data_not_accepted")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"/v1/payments?q={CARD}", {}),
        (f"/v1/payments/{CARD}:capture", {}),
        ("/v1/payments", {"Idempotency-Key": f"pay-{CARD}"}),
    ],
)
async def test_card_number_outside_the_body_is_refused(raw: Raw, path: str, headers: dict[str, str]) -> None:
    answer = await raw.post(json.dumps(order()).encode(), path, **headers)
    assert answer.json()["code"] == "account_data_not_accepted" and CARD not in answer.text


@pytest.mark.parametrize("text", ["4242424242424241", "order-20261122080000", "1234567890123", "a1" * 20])
async def test_other_long_numbers_are_fine(small_stand: Stand, text: str) -> None:
    assert (await small_stand.paid(merchant_reference=text))["merchant_reference"] == text


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "idempotency_key_missing"),
        ("", "idempotency_key_missing"),
        ('""', "idempotency_key_missing"),
        ("x" * 256, "idempotency_key_invalid"),
        ("two words", "idempotency_key_invalid"),
        ('"a"b"', "idempotency_key_invalid"),
    ],
)
async def test_missing_or_malformed_key_is_refused(small_stand: Stand, key: str | None, code: str) -> None:
    stand = small_stand
    headers = stand.headers() if key is None else stand.headers(**{"Idempotency-Key": key})
    answer = await stand.http.post("/v1/payments", json=order(), headers=headers)
    await refused(stand, answer, 400, code)


async def test_unknown_version_is_refused(raw: Raw) -> None:
    answer = await raw.post(json.dumps(order()).encode(), **{"Corridor-Version": "2020-01-01"})
    await refused(raw.stand, answer, 400, "unsupported_version")


async def test_unknown_routes_and_methods_are_problems_too(small_stand: Stand) -> None:
    await refused(small_stand, await small_stand.get("/v1/nothing"), 404, "not_found")
    answer = await small_stand.http.put("/v1/payments", headers=small_stand.headers())
    await refused(small_stand, answer, 405, "method_not_allowed")
    assert "Allow" in answer.headers
