"""API keys: who gets in, who does not, and what is kept of a key."""

import re

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from api import credentials
from api.auth import CACHE_SECONDS
from corridor.storage import merchants
from corridor.storage.tables import api_keys
from tests.api.conftest import PEPPER, Stand


async def test_key_has_the_published_form_and_only_its_hmac_is_stored(stand: Stand) -> None:
    key = stand.keys["merchant"]
    assert re.fullmatch(r"cor_test_sk_[0-9a-z]{26}_[0-9A-Za-z]{49}", key)
    rows = await stand.database.read(lambda connection: connection.execute(select(api_keys)).all())
    secret = key.rpartition("_")[2]
    assert all(secret not in repr(row) and secret[:43].encode() not in row.secret_hmac for row in rows)


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "authentication_required"),
        ("Basic dXNlcjpwYXNz", "authentication_required"),
        ("Bearer nonsense", "credential_invalid"),
        ("Bearer " + "x" * 5_000, "credential_invalid"),
    ],
)
async def test_no_or_malformed_key_is_401(small_stand: Stand, authorization: str | None, code: str) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await small_stand.http.get("/v1/payments", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def _altered(key: str, at: int) -> str:
    return key[:at] + ("a" if key[at] != "a" else "b") + key[at + 1 :]


@pytest.mark.parametrize("at", [13, 45, -8, -1])
async def test_key_with_one_wrong_character_is_refused(small_stand: Stand, at: int) -> None:
    key = small_stand.keys["merchant"]
    altered = _altered(key, at % len(key))
    answer = await small_stand.http.get("/v1/payments", headers={"Authorization": f"Bearer {altered}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "credential_invalid")
    assert credentials.read(altered) is None


async def test_right_id_with_a_wrong_secret_is_refused(small_stand: Stand) -> None:
    mine, others = small_stand.keys["merchant"], small_stand.keys["other"]
    crossed = mine[: mine.rindex("_")] + others[others.rindex("_") :][:-6]
    forged = crossed + credentials._checksum(crossed)
    assert credentials.read(forged) is not None
    answer = await small_stand.http.get("/v1/payments", headers={"Authorization": f"Bearer {forged}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "credential_invalid")


async def test_key_of_the_other_mode_is_refused(small_stand: Stand) -> None:
    text, key = credentials.mint(
        merchant_id=small_stand.merchant_id,
        role="merchant",
        mode="live",
        pepper=PEPPER,
        now=small_stand.clock(),
    )
    await small_stand.database.write(merchants.create_key, key, small_stand.clock())
    answer = await small_stand.http.get("/v1/payments", headers={"Authorization": f"Bearer {text}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "mode_mismatch")


async def test_key_under_another_pepper_is_refused(small_stand: Stand) -> None:
    text, key = credentials.mint(
        merchant_id=small_stand.merchant_id,
        role="merchant",
        mode="test",
        pepper=SecretStr("old"),
        now=small_stand.clock(),
    )
    await small_stand.database.write(merchants.create_key, key, small_stand.clock())
    answer = await small_stand.http.get("/v1/payments", headers={"Authorization": f"Bearer {text}"})
    assert answer.status_code == 401


async def test_revocation_takes_effect_within_seconds(stand: Stand) -> None:
    credential = credentials.read(stand.keys["merchant"])
    assert credential is not None and (await stand.get("/v1/payments")).status_code == 200
    await stand.database.write(merchants.revoke_key, credential.key_id, stand.clock())
    stand.clock.advance(CACHE_SECONDS)
    answer = await stand.get("/v1/payments")
    assert (answer.status_code, answer.json()["code"]) == (401, "credential_revoked")


async def test_key_in_a_url_is_refused(small_stand: Stand) -> None:
    answer = await small_stand.get("/v1/payments", api_key=small_stand.keys["merchant"])
    assert (answer.status_code, answer.json()["code"]) == (401, "credential_invalid")


@pytest.mark.parametrize(
    ("path", "who"),
    [("/v1/reviews", "merchant"), ("/v1/payments", "operator"), ("/v1/balances", "operator")],
)
async def test_merchants_and_operators_keep_apart(small_stand: Stand, path: str, who: str) -> None:
    answer = await small_stand.get(path, who=who)
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
