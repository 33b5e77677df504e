"""Two databases row beside row: each row is judged once, on the side it stands, and none whose owner went on."""

from typing import Any

from workers.rebuild.compare import TABLES, Compared, Comparison, Rows, compare
from workers.rebuild.shelf import Shelf

PAYOUT = {"provider": "stripe", "line_id": "txn_3", "payment_id": None, "state": "posted"}


def _rows(*lines: dict[str, Any]) -> Rows:
    """On disk, as those of a large table are."""
    found: Rows = Shelf(held=0)
    for row in lines:
        key = (row["provider"], row["line_id"])
        found[str(key)] = key, row
        found.spill()
    return found


def _line(number: int, payment_id: str, state: str = "posted") -> dict[str, Any]:
    return {"provider": "stripe", "line_id": f"txn_{number}", "payment_id": payment_id, "state": state}


def _compared(live: Rows, rebuilt: Rows, *ahead: str) -> Comparison:
    def of(rows: Rows) -> Any:
        def taken(table: Compared) -> Rows:
            return rows if table.name == "settlement_lines" else Shelf()

        return taken

    return compare(of(live), of(rebuilt), ahead)


def _judged(found: Comparison) -> tuple[int, int, int, int, int]:
    (table,) = [it for it in found.tables if it.table == "settlement_lines"]
    return table.equal, table.different, table.only_live, table.only_rebuilt, table.ahead


def test_each_row_is_judged_on_the_side_it_stands() -> None:
    live = _rows(_line(5, "pay_5"), _line(1, "pay_1"), _line(2, "pay_2", "staged"))
    rebuilt = _rows(_line(2, "pay_2"), _line(4, "pay_4"), _line(1, "pay_1"))
    found = _compared(live, rebuilt)
    assert _judged(found) == (1, 1, 1, 1, 0)
    told = [str(it) for table in found.tables for it in table.differences]
    assert told[0] == "settlement_lines stripe txn_2 state: live staged, rebuilt posted"
    assert [text.partition(":")[0] for text in told[1:]] == [
        "settlement_lines stripe txn_4",
        "settlement_lines stripe txn_5",
    ]


def test_rows_of_a_payment_that_went_on_and_what_belongs_to_none_are_not_judged() -> None:
    """The payout that came with the payment's money is in no older archive either."""
    live = _rows(_line(1, "pay_1"), _line(2, "pay_2"), PAYOUT)
    assert _judged(_compared(live, _rows(_line(1, "pay_1")), "pay_2")) == (1, 0, 0, 0, 2)
    assert _judged(_compared(live, _rows(_line(1, "pay_1"), _line(2, "pay_2")))) == (2, 0, 1, 0, 0)


def _entry(leg: int, account: str, minor: int) -> dict[str, Any]:
    return {
        "key": "pay_1:sale:1",
        "leg": leg,
        "account": account,
        "amount_minor": minor,
        "object_id": "pay_1",
    }


def _told_money(live: list[dict[str, Any]], rebuilt: list[dict[str, Any]]) -> list[tuple[str, int] | None]:
    (table,) = [it for it in TABLES if it.name == "entries"]

    def of(rows: list[dict[str, Any]]) -> Any:
        keyed = {str((row["key"], row["leg"])): ((row["key"], row["leg"]), row) for row in rows}
        return lambda compared: Shelf(keyed) if compared is table else Shelf()

    (report,) = [it for it in compare(of(live), of(rebuilt)).tables if it.table == "entries"]
    return [difference.money for difference in report.differences]


def test_what_an_entry_that_differs_means_to_its_account_is_told_with_it() -> None:
    """So a balance that differs can be held against the entries that do."""
    debit, credit = _entry(0, "clearing/stripe/EUR", 100), _entry(1, "merchant/mer_1/pending/EUR", -100)
    assert _told_money([debit, credit], []) == [(debit["account"], 100), (credit["account"], -100)]
    assert _told_money([], [debit]) == [(debit["account"], -100)]
    assert _told_money([debit], [{**debit, "amount_minor": 70}]) == [(debit["account"], 30)]


def test_of_an_entry_that_stands_in_another_account_no_sum_is_told() -> None:
    debit = _entry(0, "clearing/stripe/EUR", 100)
    moved = {**debit, "account": "suspense/EUR", "amount_minor": 70}
    assert _told_money([debit], [moved]) == [None, None]
