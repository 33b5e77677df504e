"""Ids sort by their time of creation, carry it, and are recognised before any look-up."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corridor.domain.failure import Refusal, Refused
from corridor.domain.ids import Prefix, checked, created_at, is_id, new_id

TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 — made aware
ENTROPY = st.binary(min_size=10, max_size=10)
PREFIXES = st.sampled_from(list(Prefix))


@given(PREFIXES, TIMES, TIMES, ENTROPY, ENTROPY)
def test_ids_sort_by_time(
    prefix: Prefix, one: datetime, other: datetime, first: bytes, second: bytes
) -> None:
    earlier, later = sorted((one, other))
    if later - earlier >= timedelta(milliseconds=2):
        assert new_id(prefix, earlier, first) < new_id(prefix, later, second)


@given(PREFIXES, TIMES, ENTROPY)
def test_an_id_carries_its_time_to_the_millisecond(prefix: Prefix, now: datetime, entropy: bytes) -> None:
    drift = now - created_at(new_id(prefix, now, entropy))
    assert timedelta(milliseconds=-1) <= drift <= timedelta(milliseconds=1)


@given(PREFIXES, PREFIXES, TIMES, ENTROPY)
def test_an_id_is_recognised_by_its_own_prefix_only(
    prefix: Prefix, other: Prefix, now: datetime, entropy: bytes
) -> None:
    identifier = new_id(prefix, now, entropy)
    assert is_id(identifier, other) is (prefix is other)


@given(TIMES, ENTROPY, ENTROPY)
def test_ids_of_one_moment_differ_by_their_entropy(now: datetime, first: bytes, second: bytes) -> None:
    """74 of the 80 random bits are kept: the rest gives way to version and variant (RFC 9562)."""
    kept = (1 << 80) - 1 & ~(0b111111 << 62)
    same = int.from_bytes(first, "big") & kept == int.from_bytes(second, "big") & kept
    assert (new_id(Prefix.PAYMENT, now, first) == new_id(Prefix.PAYMENT, now, second)) is same


@given(st.text(max_size=40))
def test_a_text_that_is_no_id_is_refused_as_not_found(text: str) -> None:
    if is_id(text, Prefix.PAYMENT):
        assert checked(text, Prefix.PAYMENT) == text
        return
    with pytest.raises(Refused) as refused:
        checked(text, Prefix.PAYMENT)
    assert refused.value.code is Refusal.NOT_FOUND


def test_the_body_is_a_version_7_uuid_as_typeid_writes_it() -> None:
    """First millisecond of 2026 with zero entropy; the body read back gives version 7 and variant 0b10."""
    body = new_id(Prefix.PAYMENT, datetime(2026, 1, 1, tzinfo=UTC), bytes(10)).removeprefix("pay_")
    value = 0
    for character in body:
        value = value * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(character)
    assert (value >> 76 & 0xF, value >> 62 & 0b11, value >> 80) == (7, 0b10, 1767225600000)
