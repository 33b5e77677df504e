"""Balances over HTTP: the ledger's view of what we owe, with the merchant's sign."""

from corridor.domain.money import Money
from corridor.domain.posting import credit, debit, posting
from corridor.ledger import chart, store
from tests.api.conftest import Stand


async def test_balances_are_the_merchants_own_and_positive(stand: Stand) -> None:
    assert (await stand.get("/v1/balances")).json()["data"] == []
    for number, (owner, path, minor) in enumerate(
        [
            (stand.merchant_id, chart.pending, 10_000),
            (stand.merchant_id, chart.available, 700),
            (stand.other_id, chart.available, 9_999),
        ]
    ):
        amount = Money(minor, "EUR")
        legs = [debit(chart.clearing("stripe"), amount), credit(path(owner), amount)]
        written = posting(f"t:{number}", "test", "pay_1", legs)
        await stand.database.write(store.post, written, stand.clock())
    (euro,) = (await stand.get("/v1/balances")).json()["data"]
    assert euro["currency"] == "EUR"
    assert {name: euro[name]["minor"] for name in ("pending", "available", "reserved")} == {
        "pending": 10_000,
        "available": 700,
        "reserved": 0,
    }
