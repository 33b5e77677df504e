"""Settlement at the fake Stripe: fees, conversion, payouts that add up to the unit."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.embedded import EmbeddedSandbox
from corridor.sandbox.rates import load_rates
from tests.unit.sandbox_stand import Stand


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    config = SandboxConfig(port=0, data_dir=tmp_path, settlement_delay_seconds=600, payout_period_seconds=0)
    with EmbeddedSandbox(config) as sandbox:
        stand = Stand(sandbox)
        yield stand
        stand.close()


def test_like_for_like_charge_costs_the_percentage_and_the_fixed_fee(stand: Stand) -> None:
    transaction = _transaction(stand, 10_000, "usd")
    assert (transaction["amount"], transaction["fee"], transaction["net"]) == (10_000, 290 + 30, 9_680)
    assert (transaction["currency"], transaction["exchange_rate"]) == ("usd", None)
    assert transaction["fee_details"][0]["type"] == "stripe_fee"


@pytest.mark.parametrize(("amount", "currency", "step"), [(900_000, "ugx", 100), (10_990, "kwd", 10)])
def test_fee_keeps_the_balance_in_units_the_currency_has(
    stand: Stand, amount: int, currency: str, step: int
) -> None:
    transaction = _transaction(stand, amount, currency)
    assert transaction["currency"] == currency
    assert transaction["fee"] > 0
    assert transaction["net"] % step == 0


@pytest.mark.parametrize(("amount", "currency"), [(10_000, "cny"), (50_000, "krw"), (12_345, "thb")])
def test_other_currencies_are_converted_at_the_stated_rate(stand: Stand, amount: int, currency: str) -> None:
    transaction = _transaction(stand, amount, currency)
    mid = load_rates().mid(currency, "usd")
    digits = 0 if currency == "krw" else 2
    rate = Decimal(str(transaction["exchange_rate"]))
    assert mid is not None
    assert abs(rate / mid - 1) < Decimal("0.000001")
    exact = amount * rate * 100 / 10**digits
    assert transaction["currency"] == "usd"
    assert abs(transaction["amount"] - exact) <= Decimal("0.5")


def test_money_is_pending_until_the_settlement_delay_has_passed(stand: Stand) -> None:
    transaction = _transaction(stand, 5_000, "eur")
    assert transaction["status"] == "pending"
    assert stand.get("/balance")["available"] == []
    stand.control("POST", "/clock", json={"advance_seconds": 601})
    assert stand.get(f"/balance_transactions/{transaction['id']}")["status"] == "available"
    assert stand.get("/balance")["available"] == [{"amount": transaction["net"], "currency": "eur"}]


def test_payout_contents_sum_to_zero_with_the_payout_itself(stand: Stand) -> None:
    intents = [stand.pay(amount=amount).json()["id"] for amount in (1_000, 2_345, 99_999)]
    stand.pay(currency="jpy", amount=5_000)
    stand.post("/refunds", {"payment_intent": intents[0], "amount": 400})
    assert len(stand.control("POST", "/settle")["payouts"]) == 2
    for payout in stand.get("/payouts")["data"]:
        assert (payout["status"], payout["reconciliation_status"]) == ("paid", "completed")
        contents = stand.get("/balance_transactions", payout=payout["id"], limit=100)["data"]
        assert sum(row["net"] for row in contents) == 0
        assert sum(row["net"] for row in contents if row["type"] != "payout") == payout["amount"]
        assert {row["currency"] for row in contents} == {payout["currency"]}
    euro = next(row for row in stand.get("/payouts")["data"] if row["currency"] == "eur")
    types = [row["type"] for row in stand.get("/balance_transactions", payout=euro["id"])["data"]]
    assert sorted(types) == ["charge", "charge", "charge", "payout", "refund"]


def test_books_agree_with_the_balance_and_the_payouts(stand: Stand) -> None:
    first = stand.pay(amount=7_700, **{"metadata[payment]": "p"}).json()["id"]
    stand.post("/refunds", {"payment_intent": first, "amount": 700})
    stand.control("POST", "/settle")
    summary = stand.control("GET", "/books/summary")
    totals = {effect: sums["eur"]["amount"] for effect, sums in summary["totals"].items()}
    assert summary["net_collected"] == {"eur": 7_000}
    assert totals["capture"] - totals["refund"] - totals["fee"] == totals["payout"]
    assert stand.effects("p") == ["authorise", "capture", "fee", "refund"]


def test_reconciliation_is_announced_after_payment(stand: Stand) -> None:
    stand.pay()
    stand.control("POST", "/settle")
    types = [event["type"] for event in stand.get("/events", type="payout.*")["data"]]
    assert types == ["payout.reconciliation_completed", "payout.paid", "payout.created"]


def test_asynchronous_capture_shows_its_balance_transaction_later(stand: Stand) -> None:
    intent = stand.pay(capture_method="automatic_async").json()
    assert stand.get(f"/charges/{intent['latest_charge']}")["balance_transaction"] is None
    stand.control("POST", "/clock", json={"advance_seconds": 2})
    assert stand.get(f"/charges/{intent['latest_charge']}")["balance_transaction"].startswith("txn_")


def test_nothing_is_paid_out_twice(stand: Stand) -> None:
    stand.pay()
    assert len(stand.control("POST", "/settle")["payouts"]) == 1
    assert stand.control("POST", "/settle")["payouts"] == []


def _transaction(stand: Stand, amount: int, currency: str) -> dict[str, Any]:
    form = {"expand[0]": "latest_charge.balance_transaction"}
    answer = stand.pay(amount=amount, currency=currency, **form).json()
    transaction: dict[str, Any] = answer["latest_charge"]["balance_transaction"]
    return transaction
