"""What a payment's workflow is started with, whoever starts it."""

from typing import Any

from corridor.domain.accepted import Asked, NewPayment
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.payment import CaptureMethod
from corridor.storage import payments
from corridor.storage.database import Database
from tests.fakes.rows import payment_row
from tests.unit.relay_rows import NOW, merchant
from workflows import starts


def _row(**changes: Any) -> Any:
    facts = {"amount_minor": 1500, "currency": "JPY", "settle_currency": "KWD", "corridor": "JP-JPY>KW-KWD"}
    return payment_row(**{**facts, "source_country": "JP", "destination_country": "KW", **changes})


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


async def test_the_row_can_be_made_again_from_the_input_of_its_workflow(database: Database) -> None:
    new = NewPayment(
        id=new_id(Prefix.PAYMENT, NOW), merchant_id=await database.write(merchant), amount=Money(1500, "JPY"),
        settle_currency="KWD", source_country="JP", destination_country="KW", payment_token="pm_1", instrument="card",
        capture_method=CaptureMethod.MANUAL, merchant_reference="o-1", metadata={"n": "1"},
        asked=Asked(idempotency_key="key-1", fingerprint="f" * 64),
    )  # fmt: skip
    row = await database.write(payments.accept, new, NOW)
    start = starts.payment_start(row)
    assert (start.accepted, start.accepted_at) == (new, NOW)
