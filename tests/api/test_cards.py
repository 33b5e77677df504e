"""The card number guard: card numbers are found however they are written, and what only has digits is let through."""

import hashlib
import json
import random
import uuid

import pytest

from api.cards import contains_card_number
from tests.api.conftest import Stand, order

VISA, AMEX = "4242424242424242", "378282246310005"
WRITTEN = (
    VISA,
    "4242 4242 4242 4242",
    "4242-4242-4242-4242",
    "4242  4242  4242  4242",
    "4242 - 4242 - 4242 - 4242",
    "4242\u20134242\u20134242\u20134242",
    "4242\u00a04242\u00a04242\u00a04242",
    "4222222222222",  # 13 digits
    "4222 222 222 222",
    AMEX,
    "3782 822463 10005",
    "3782-822463-10005",
    "30569309025904",  # 14 digits
    "3056 930902 5904",
    "6212345678900000003",  # 19 digits
    "6212 3456 7890 0000 003",
    "621234 5678900000003",
    "5555 5555 5555 4444",
    "2223003122003222",
    "42424242 42424242",
)
BESIDE = (
    "{}",
    "card {} exp 12/30",
    "12 {}",
    "{} 123",
    "2026-11-23 {}",
    "card:{}",
    "pay-{}",
    "pan_{}",
    "({})",
    "{}.",
    "{}\n",
    "卡号{}",
    "4242 {}",
    "x1 {} 1x",
)
LET_THROUGH = (
    "4242424242424241",  # fails the Luhn check
    "1234567890123",
    "order-20261122080000",
    "1763881200000000",  # microseconds since 1970
    "42424242R42424242",  # the advice of the refusal
    "BE62818357638980",  # an IBAN whose digits pass the Luhn check
    "42424242424242424242",  # 20 digits
    "4242 4242 4242",
    "DE89370400440532013000",
    "550e8400-e29b-41d4-a716-446655440000",
    "00000000-4242-4242-4242-424200000000",
    "12345678-4242-4242-8242-424242424242",
)


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("written", WRITTEN)
def test_a_card_number_is_found_however_it_is_written(written: str, beside: str) -> None:
    assert contains_card_number(beside.format(written))


@pytest.mark.parametrize("written", [it for it in WRITTEN if it.isdigit()])
@pytest.mark.parametrize("glued", ["R{}", "{}x", "order{}", "pan{}pan", "BE{}", "9f-{}-x"])
def test_letters_that_touch_a_card_number_do_not_hide_it(written: str, glued: str) -> None:
    assert contains_card_number(glued.format(written))


@pytest.mark.parametrize("text", LET_THROUGH)
def test_what_is_no_card_number_is_let_through(text: str) -> None:
    assert not contains_card_number(text)


def test_no_uuid_is_taken_for_a_card_number() -> None:
    """Every version-4 UUID is a good key; in about one of 1,250 a row of digits could be a card's."""
    chance = random.Random(20_261_123)  # noqa: S311 (no secret: the same ones every time)
    for _ in range(100_000):
        one = uuid.UUID(int=chance.getrandbits(128), version=4)
        assert not contains_card_number(str(one)), one
        assert not contains_card_number(f"order-{one}-2"), one


def test_no_uuid_of_digits_alone_is_taken_for_a_card_number() -> None:
    """The worst there can be: each of them has dozens of rows of 13 to 19 digits, and every group in a card's range."""
    chance = random.Random(20_261_124)  # noqa: S311 (no secret: the same ones every time)
    for _ in range(20_000):
        digits = "".join(chance.choices("0123456789", k=32))
        one = f"{digits[:8]}-4{digits[9:12]}-4{digits[13:16]}-4{digits[17:20]}-{digits[20:]}"
        assert not contains_card_number(one), one


def test_no_digest_is_taken_for_a_card_number() -> None:
    for number in range(20_000):
        for name in ("md5", "sha1", "sha256"):
            digest = hashlib.new(name, str(number).encode(), usedforsecurity=False).hexdigest()
            assert not contains_card_number(f"{name}-{digest}"), digest


@pytest.mark.parametrize("number", [int(VISA), int(AMEX), float(VISA), 4.242424242424242e15])
async def test_a_card_number_as_a_json_number_is_refused(small_stand: Stand, number: float) -> None:
    answer = await small_stand.post("/v1/payments", order(surplus=number))
    assert (answer.status_code, answer.json()["code"]) == (400, "account_data_not_accepted")


async def test_the_refusal_says_where_it_stood_and_its_advice_helps(small_stand: Stand) -> None:
    refused = await small_stand.post("/v1/payments", order(), key=VISA)
    assert refused.json()["code"] == "account_data_not_accepted"
    assert [error["pointer"] for error in refused.json()["errors"]] == ["header/Idempotency-Key"]
    assert "into the middle" in refused.json()["detail"] and VISA not in json.dumps(refused.json())
    assert (await small_stand.post("/v1/payments", order(), key=f"{VISA[:8]}R{VISA[8:]}")).status_code == 201
