"""Hostile and mistaken input (F17): requests that must be refused with a 4xx problem and change nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

CANARY_CARD = "4000056655665556"
"""A test number that passes the Luhn check. It is sent, refused, and must be found nowhere afterwards."""

Json = dict[str, Any]


def payment(**changes: Any) -> Json:
    """A payment request that would be good, but for the changes."""
    return {
        "amount": {"minor": 5_000, "currency": "EUR"},
        "payment_method": {"type": "card", "provider_token": "pm_card_visa"},
        "buyer": {"country": "DE"},
        **changes,
    }


def _amount(minor: Any, currency: str = "EUR", **more: Any) -> bytes:
    return json.dumps(payment(amount={"minor": minor, "currency": currency, **more})).encode()


def _nested(depth: int) -> bytes:
    return b'{"metadata":' * depth + b"1" + b"}" * depth


@dataclass(frozen=True)
class Input:
    """One request. `headers` replace the good ones; `refused` is every status that refuses it properly."""

    name: str
    body: bytes
    path: str = "/v1/payments"
    headers: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[int, ...] = (400, 422)


INPUTS: tuple[Input, ...] = (
    Input("zero", _amount(0)),
    Input("negative", _amount(-500)),
    Input("fraction", _amount(10.5)),
    Input("overflow", _amount(10**30)),
    Input("above_limit", _amount(900_000_000)),
    Input("text_amount", _amount("5000")),
    Input("largest_64_bit", _amount(2**63 - 1)),
    Input("beyond_64_bit", _amount(-(2**63) - 1)),
    Input("true_amount", _amount(True)),
    Input("exponential_amount", b'{"amount": {"minor": 5e3, "currency": "EUR"}}'),
    Input("infinite_amount", b'{"amount": {"minor": 1e999, "currency": "EUR"}}'),
    Input("digits_without_end", b'{"amount": {"minor": ' + b"9" * 5_000 + b', "currency": "EUR"}}'),
    Input("part_of_a_yen", _amount(50.5, "JPY")),
    Input("won_with_decimals", _amount(5_000, "KRW", exponent=2)),
    Input("dinar_as_if_yen", _amount(5_000, "KWD", exponent=0)),
    Input("euro_with_three_decimals", _amount(5_000, "EUR", exponent=3)),
    Input("metal_as_money", _amount(5_000, "XAU")),
    Input("fullwidth_currency", _amount(5_000, "\uff25\uff35\uff32")),
    Input("cyrillic_currency", _amount(5_000, "\u0415UR")),
    Input("unknown_currency", _amount(5_000, "XXQ")),
    Input("lower_case_currency", _amount(5_000, "eur")),
    Input("yen_with_decimals", _amount(5_000, "JPY", exponent=2)),
    Input("dinar_with_two_decimals", _amount(5_000, "KWD", exponent=2)),
    Input("unknown_country", json.dumps(payment(buyer={"country": "QQ"})).encode()),
    Input("unknown_field", json.dumps(payment(amout=1)).encode()),
    Input("card_number", json.dumps(payment(merchant_reference=CANARY_CARD)).encode()),
    Input("card_number_spaced", json.dumps(payment(metadata={"note": "4000 0566 5566 5556"})).encode()),
    Input("card_number_as_number", json.dumps(payment(metadata={"n": int(CANARY_CARD)})).encode()),
    Input("nul", json.dumps(payment(merchant_reference="a\x00b")).encode()),
    Input("lone_surrogate", b'{"merchant_reference": "\\ud800"}'),
    Input("right_to_left", json.dumps(payment(merchant_reference="\u202e" * 200)).encode()),
    Input("arabic_digits", _amount("\u0665\u0660\u0660\u0660")),
    Input("zero_width_country", json.dumps(payment(buyer={"country": "D\u200bE"})).encode()),
    Input("newline_in_reference", json.dumps(payment(merchant_reference="a\nSet-Cookie: b")).encode()),
    Input("not_utf_8", b'{"merchant_reference": "\xff\xfe"}'),
    Input("utf_16", json.dumps(payment()).encode("utf-16")),
    Input("overlong_utf_8", b'{"merchant_reference": "\xc0\xaf"}'),
    Input("empty", b""),
    Input("not_json", b"amount=5000"),
    Input("twice_the_same_name", b'{"amount": 1, "amount": 2}'),
    Input("not_a_number", b'{"amount": NaN}'),
    Input("a_list", b"[]"),
    Input("deep", _nested(400)),
    Input("very_deep", _nested(20_000)),
    Input("deep_list", b'{"metadata": ' + b"[" * 5_000 + b"]" * 5_000 + b"}"),
    Input("deep_unclosed", b'{"a":' * 30_000),
    Input("ten_megabytes", b'{"metadata": {"x": "' + b"y" * 10_000_000 + b'"}}', refused=(413,)),
    Input("large", b'{"metadata": {"x": "' + b"y" * 1_000_000 + b'"}}', refused=(413,)),
    Input("other_media_type", _amount(5_000), headers={"Content-Type": "text/xml"}, refused=(415,)),
    Input("no_key", _amount(5_000), headers={"Idempotency-Key": ""}),
    Input("key_without_end", _amount(5_000), headers={"Idempotency-Key": "k" * 4_000}),
    Input("key_with_spaces", _amount(5_000), headers={"Idempotency-Key": "a b"}),
    Input("card_number_as_key", _amount(5_000), headers={"Idempotency-Key": CANARY_CARD}),
    Input("nobody", _amount(5_000), headers={"Authorization": "Bearer ck_test_nobody"}, refused=(401,)),
    Input("unknown_payment", b"{}", "/v1/payments/pay_01nothere:capture", refused=(400, 404, 422)),
    Input("refund_of_nothing", b'{"payment": "pay_0", "amount": {"minor": 1, "currency": "EUR"}}', "/v1/refunds",
          refused=(400, 404, 422)),
)  # fmt: skip
_BY_NAME = {it.name: it for it in INPUTS}


async def send(http: httpx.AsyncClient, api_key: str, name: str, key: str) -> tuple[bool, str | None]:
    """Send one input: (the API judged it, what is wrong with the judgement).

    503 is no judgement: the API may be unable to work just now, and says so. So is an answer that is no problem
    document: it comes from below the API, where a proxy broke the request.
    """
    wanted = _BY_NAME[name]
    headers = {
        "Authorization": f"Bearer {api_key}",
        "Idempotency-Key": key,
        "Content-Type": "application/json",
    }
    try:
        answer = await http.post(wanted.path, content=wanted.body, headers={**headers, **wanted.headers})
    except httpx.TransportError:
        return False, None
    if answer.status_code in (429, 503) or "problem+json" not in answer.headers.get("content-type", ""):
        is_ours = answer.is_success or answer.status_code == 500
        return False, f"hostile input {name} was answered {answer.status_code}" if is_ours else None
    if answer.status_code not in wanted.refused:
        return True, f"hostile input {name} was answered {answer.status_code} {answer.text[:200]}"
    leaks = CANARY_CARD in answer.text
    return True, f"the refusal of {name} repeats the card number" if leaks else None
