"""What a payment's workflow is started with, whoever starts it."""

from types import SimpleNamespace
from typing import Any

from workflows import starts


def _row(**changes: Any) -> Any:
    facts = {
        "id": "pay_1", "merchant_id": "mer_1", "amount_minor": 1500, "currency": "JPY", "settle_currency": "KWD",
        "corridor": "JP-JPY>KW-KWD", "source_country": "JP", "destination_country": "KW", "merchant_reference": None,
        "capture_method": "manual", "quote_id": None,
    }  # fmt: skip
    return SimpleNamespace(**{**facts, **changes})


def test_the_summary_shows_the_currencys_own_decimals_and_skips_what_is_missing() -> None:
    assert starts.payment_summary(_row()) == "1500 JPY → KWD · JP→KW"
    assert (
        starts.payment_summary(_row(currency="KWD", merchant_reference="o-1"))
        == "1.500 KWD → KWD · JP→KW · o-1"
    )


def test_a_long_reference_never_makes_a_summary_the_server_refuses() -> None:
    summary = starts.payment_summary(_row(merchant_reference="商" * 128))
    assert len(summary.encode()) <= starts.SUMMARY_BYTES
    assert summary.endswith("商")


def test_the_windows_of_the_caller_are_fixed_in_the_input() -> None:
    start = starts.payment_start(_row(), starts.Windows(settle_within_seconds=7, action_window_seconds=9))
    assert (start.settle_within_seconds, start.action_window_seconds) == (7, 9)


def test_search_attributes_carry_nothing_a_merchant_wrote() -> None:
    pairs = starts.payment_search_attributes(_row(merchant_reference="Jane Doe"))
    assert "Jane Doe" not in [pair.value for pair in pairs.search_attributes]
