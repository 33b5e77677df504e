"""The key ring and the sealing of payloads and failures."""

import json
import stat
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError

from corridor.runtime import keys
from corridor.runtime.converter import KEY_ID, PACKING, SealCodec, make_converter
from corridor.runtime.keys import KeyRing
from corridor.runtime.refused import SettingsRefused
from corridor.runtime.settings import load


class Order(BaseModel):
    """A payload as workflows exchange it."""

    buyer: str
    amount_minor: int


def test_the_first_start_makes_a_private_ring_and_keeps_it(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path / "new")
    ring = keys.load_or_generate(settings)
    assert stat.S_IMODE(keys.ring_path(settings).stat().st_mode) == 0o600
    assert keys.load_or_generate(settings) == ring


def test_a_ring_that_was_lost_is_not_replaced_by_one_that_opens_nothing(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path)
    settings.temporal_store.touch()
    with pytest.raises(
        SettingsRefused, match=r"is missing, and .* Nothing was started or made\. Put the ring back"
    ):
        keys.load_or_generate(settings)
    assert not keys.ring_path(settings).exists()


def test_rotation_adds_a_key_and_keeps_the_old_ones() -> None:
    old = KeyRing.generate()
    new = old.rotated()
    assert new.current == "k2"
    assert new.keys["k1"] == old.keys["k1"]
    assert KeyRing.parse(new.render()) == new


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"current": "k1", "keys": {}}',
        '{"current": "k1", "keys": {"k1": "c2hvcnQ="}}',
        '{"current": "k1", "keys": {"k1": "***"}}',
    ],
)
def test_a_damaged_ring_is_refused(text: str) -> None:
    with pytest.raises(SettingsRefused, match="key ring"):
        KeyRing.parse(text)


def test_keys_do_not_print() -> None:
    ring = KeyRing.generate()
    assert repr(ring.keys["k1"]) not in repr(ring)


async def test_a_model_survives_the_converter_and_is_unreadable_in_between() -> None:
    converter = make_converter(KeyRing.generate(), "default")
    order = Order(buyer="canary@example.com", amount_minor=1999)
    payloads = await converter.encode([order])
    assert b"canary" not in payloads[0].SerializeToString()
    assert payloads[0].metadata[KEY_ID] == b"k1"
    assert await converter.decode(payloads, [Order]) == [order]


async def test_what_was_sealed_under_key_one_opens_after_rotation() -> None:
    ring = KeyRing.generate()
    sealed = await SealCodec(ring, "default").encode([Payload(data=b"x")])
    rotated = SealCodec(ring.rotated(), "default")
    assert [p.data for p in await rotated.decode(sealed)] == [b"x"]
    assert rotated.key_ids(sealed) == {"k1"}
    assert rotated.key_ids(await rotated.encode([Payload(data=b"y")])) == {"k2"}


async def test_a_payload_of_another_namespace_does_not_open() -> None:
    ring = KeyRing.generate()
    sealed = await SealCodec(ring, "default").encode([Payload(data=b"x")])
    with pytest.raises(InvalidTag):
        await SealCodec(ring, "other").decode(sealed)


async def test_a_changed_payload_does_not_open() -> None:
    codec = SealCodec(KeyRing.generate(), "default")
    (sealed,) = await codec.encode([Payload(data=b"x")])
    sealed.data = sealed.data[:-1] + bytes([sealed.data[-1] ^ 1])
    with pytest.raises(InvalidTag):
        await codec.decode([sealed])


async def test_a_large_payload_is_packed_before_it_is_sealed_and_opens_as_it_was() -> None:
    codec = SealCodec(KeyRing.generate(), "default")
    large, small = Payload(data=b'{"amount_minor": 10000}' * 40), Payload(data=b"{}")
    sealed = await codec.encode([large, small])
    assert len(sealed[0].data) < len(large.data) / 4
    assert [PACKING in payload.metadata for payload in sealed] == [True, False]
    assert await codec.decode(sealed) == [large, small]


async def test_what_says_that_a_payload_is_packed_cannot_be_changed() -> None:
    codec = SealCodec(KeyRing.generate(), "default")
    (sealed,) = await codec.encode([Payload(data=b"x" * 1000)])
    del sealed.metadata[PACKING]
    with pytest.raises(InvalidTag):
        await codec.decode([sealed])


async def test_a_missing_key_is_named() -> None:
    sealed = await SealCodec(KeyRing.generate().rotated(), "default").encode([Payload(data=b"x")])
    with pytest.raises(KeyError, match="k2"):
        await SealCodec(KeyRing.generate(), "default").decode(sealed)


async def test_of_a_failure_only_its_type_stays_readable() -> None:
    converter = make_converter(KeyRing.generate(), "default")
    error = ApplicationError("canary message", "canary detail", type="DECLINED")
    error.__cause__ = ValueError("canary cause")
    failure = Failure()
    await converter.encode_failure(error, failure)
    assert b"canary" not in failure.SerializeToString()
    assert b"DECLINED" in failure.SerializeToString()
    assert "canary message" in str(await converter.decode_failure(failure))


def test_the_ring_is_plain_json(tmp_path: Path) -> None:
    keys.save(KeyRing.generate(), tmp_path / "ring.json")
    assert set(json.loads((tmp_path / "ring.json").read_text())) == {"current", "keys"}
