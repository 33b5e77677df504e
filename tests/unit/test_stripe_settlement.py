"""Settlement rows: what is read from a balance transaction, and what becomes of one that cannot be read."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from corridor.domain.money import Money
from corridor.domain.settlement import BadRow, SettlementLine, SettlementPage
from corridor.providers.document import Document, parse
from corridor.providers.port import LookUpFailed
from corridor.providers.stripe.client import StripeClient
from corridor.providers.stripe.settlement import batches, line_of, page_of

SINCE = datetime(2026, 9, 1, tzinfo=UTC)


def transaction(**changes: Any) -> dict[str, Any]:
    source = {
        "id": "ch_1",
        "object": "charge",
        "payment_intent": "pi_1",
        "amount": 1_000,
        "amount_captured": 1_000,
        "currency": "eur",
        "metadata": {"corridor_payment": "pay_1", "corridor_effect": "pay_1:sale:1"},
        "billing_details": {"name": "Jane Doe", "email": "jane@doe.example"},
    }
    return {
        "id": "txn_1",
        "object": "balance_transaction",
        "type": "charge",
        "amount": 1_000,
        "fee": 59,
        "net": 941,
        "currency": "eur",
        "exchange_rate": None,
        "available_on": 1_790_000_000,
        "created": 1_789_000_000,
        "source": source,
        **changes,
    }


def read(value: dict[str, Any]) -> SettlementLine | BadRow:
    document = parse(json.dumps(value).encode())
    assert document is not None
    return line_of(document, "po_1", "row 1")


def line(**changes: Any) -> SettlementLine:
    made = read(transaction(**changes))
    assert isinstance(made, SettlementLine), made
    return made


def test_charge_row_names_payment_and_effect() -> None:
    made = line()
    assert (made.line_id, made.batch_id, made.kind, made.provider_kind) == (
        "txn_1",
        "po_1",
        "charge",
        "charge",
    )
    assert (made.payment_id, made.effect_key, made.provider_reference) == ("pay_1", "pay_1:sale:1", "pi_1")
    assert (made.gross, made.fee, made.net) == (Money(1_000, "EUR"), Money(59, "EUR"), Money(941, "EUR"))
    assert (made.converted_from, made.rate) == (None, None)


def test_conversion_keeps_the_buyers_captured_amount_and_the_rates_own_digits() -> None:
    source = {**transaction()["source"], "amount": 5_000, "amount_captured": 3_000, "currency": "jpy"}
    text = json.dumps(transaction(amount=1_850, fee=0, net=1_850, source=source, exchange_rate=0)).replace(
        '"exchange_rate": 0', '"exchange_rate": 0.61666666666666666667'
    )
    document = parse(text.encode())
    assert document is not None
    made = line_of(document, "po_1", "row 1")
    assert isinstance(made, SettlementLine)
    assert (made.converted_from, made.gross) == (Money(3_000, "JPY"), Money(1_850, "EUR"))
    assert made.rate == "0.61666666666666666667"


def test_refund_row_is_negative_on_both_sides() -> None:
    source = {"id": "re_1", "object": "refund", "payment_intent": "pi_1", "amount": 300, "currency": "usd",
              "metadata": {"corridor_payment": "pay_1", "corridor_effect": "rfd_1:refund:1"}}  # fmt: skip
    made = line(type="refund", amount=-275, fee=0, net=-275, source=source, exchange_rate=None)
    assert (made.kind, made.provider_reference, made.effect_key) == ("refund", "re_1", "rfd_1:refund:1")
    assert (made.gross, made.converted_from) == (Money(-275, "EUR"), Money(-300, "USD"))


@pytest.mark.parametrize(
    ("provider_kind", "kind"),
    [
        ("payout", "payout"),
        ("stripe_fee", "fee"),
        ("adjustment", "adjustment"),
        ("refund_failure", "adjustment"),
        ("payout_failure", "other"),
        ("type_of_tomorrow", "other"),
    ],
)
def test_row_types_have_a_kind(provider_kind: str, kind: str) -> None:
    made = line(type=provider_kind, source="po_1")
    assert (made.kind, made.provider_reference, made.payment_id) == (kind, "po_1", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"net": 940},
        {"net": "941"},
        {"amount": None},
        {"fee": 59.0},
        {"fee": True},
        {"currency": "points"},
        {"currency": "isk", "amount": 150, "fee": 0, "net": 150},
        {"id": None},
        {"type": 3},
        {"created": "yesterday"},
        {"available_on": 10**30},
    ],
)
def test_unreadable_row_keeps_its_reason_and_no_personal_data(changes: dict[str, Any]) -> None:
    bad = read(transaction(**changes))
    assert isinstance(bad, BadRow)
    assert bad.reason
    assert bad.line_id == ("row 1" if "id" in changes else "txn_1")
    assert "Jane" not in bad.raw
    assert "jane" not in bad.raw


@given(
    st.dictionaries(
        st.sampled_from(sorted(transaction())), st.none() | st.integers() | st.text() | st.booleans()
    )
)
def test_no_damage_to_a_row_makes_reading_raise(damage: dict[str, Any]) -> None:
    made = line_of(Document({**transaction(), **damage}), "po_1", "row 1")
    if isinstance(made, SettlementLine):
        assert made.gross == made.net + made.fee


async def ask(answers: Callable[[httpx.Request], httpx.Response], what: Callable[[StripeClient], Any]) -> Any:
    client = StripeClient(
        "https://stripe.test", SecretStr("sk_test_x"), "v", 1.0, httpx.MockTransport(answers)
    )
    try:
        return await what(client)
    finally:
        await client.close()


def listed(rows: list[Any], has_more: bool | None = False) -> httpx.Response:
    return httpx.Response(200, json={"object": "list", "data": rows, "has_more": has_more})


async def test_page_goes_on_after_its_last_readable_row() -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        assert request.url.params["payout"] == "po_1"
        assert request.url.params["expand[0]"] == "data.source"
        if request.url.params.get("starting_after") == "txn_1":
            return listed([transaction(id="txn_2")])
        return listed([transaction(), None, transaction(id=7)], has_more=True)

    first: SettlementPage = await ask(answers, lambda client: page_of(client, "po_1", None))
    assert ([made.line_id for made in first.lines], first.next_cursor) == (["txn_1"], "txn_1")
    assert len({row.line_id for row in first.bad_rows}) == 2
    second: SettlementPage = await ask(answers, lambda client: page_of(client, "po_1", first.next_cursor))
    assert ([made.line_id for made in second.lines], second.next_cursor) == (["txn_2"], None)


@pytest.mark.parametrize(
    "answer", [httpx.Response(500), httpx.Response(200, json={"object": "charge"}), listed([{}], True)]
)
async def test_page_that_cannot_be_read_or_continued_is_a_failure(answer: httpx.Response) -> None:
    with pytest.raises(LookUpFailed):
        await ask(lambda _: answer, lambda client: page_of(client, "po_1", None))


def payout(number: int, **changes: Any) -> dict[str, Any]:
    return {"id": f"po_{number}", "object": "payout", "amount": 941, "currency": "eur", "automatic": True,
            "status": "paid", "reconciliation_status": "completed", "arrival_date": 1_790_000_000,
            "created": 1_789_000_000 + number, **changes}  # fmt: skip


async def test_batches_are_complete_paid_automatic_payouts_oldest_first() -> None:
    rows = [
        payout(6),
        payout(5, reconciliation_status="in_progress"),
        payout(4, automatic=False, reconciliation_status="not_applicable"),
        payout(3, status="failed"),
        payout(2),
        payout(1),
    ]

    def answers(request: httpx.Request) -> httpx.Response:
        assert request.url.params["created[gte]"] == str(int(SINCE.timestamp()))
        return listed(rows[5:]) if "starting_after" in request.url.params else listed(rows[:5], has_more=True)

    found = await ask(answers, lambda client: batches(client, SINCE))
    assert [batch.batch_id for batch in found] == ["po_1", "po_2", "po_6"]
    assert found[0].total == Money(941, "EUR")


async def test_complete_payout_without_its_amount_is_a_failure_and_not_skipped() -> None:
    with pytest.raises(LookUpFailed):
        await ask(lambda _: listed([payout(1, amount=None)]), lambda client: batches(client, SINCE))


async def test_rows_without_an_id_are_told_apart_across_batches() -> None:
    async def bad_row(batch_id: str) -> str:
        page: SettlementPage = await ask(
            lambda _: listed([None]), lambda client: page_of(client, batch_id, None)
        )
        return page.bad_rows[0].line_id

    assert await bad_row("po_1") != await bad_row("po_2")
