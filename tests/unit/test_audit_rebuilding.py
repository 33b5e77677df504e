"""The proofs that histories alone make the live books: what differs is named, and what may differ is noted."""

from typing import Any

import pytest

from api.cli.audit.rebuilding import money_is_rebuilt, rebuilds
from workers.rebuild.compare import TABLES, Comparison, Difference, TableReport
from workers.rebuild.fold import Books
from workers.rebuild.rebuild import Rebuilt


def rebuilt(*differences: Difference, rows: int | None = None, ahead: tuple[str, ...] = ()) -> Rebuilt:
    books, posting = Books(), Any
    books.postings["pay_1:sale:1"] = posting  # type: ignore[assignment] — only that there is one matters here
    reports = [TableReport(table.name, equal=3) for table in TABLES]
    for difference in differences:
        (report,) = (it for it in reports if it.table == difference.table)
        report.different = len(differences) if rows is None else rows
        report.differences.append(difference)
    return Rebuilt(books, comparison=Comparison(reports, list(ahead)))


PAYMENT = Difference("payments", "pay_1", "settled_minor", "0", "None", ("pay_1",))
EVENT = Difference("events", "pay_1 2", "data", "this", "that", ("pay_1",))


@pytest.mark.parametrize("proof", [rebuilds, money_is_rebuilt])
def test_equal_books_are_proven_and_no_books_prove_nothing(proof: Any) -> None:
    assert proof(rebuilt()).holds
    assert not proof(Rebuilt(Books())).holds


@pytest.mark.parametrize("proof", [rebuilds, money_is_rebuilt])
def test_a_row_that_differs_is_named_and_so_is_what_histories_do_not_suffice_for(proof: Any) -> None:
    found = rebuilt(PAYMENT)
    found.problems, found.sealed = ["pay_1: no history tells what was accepted"], ["run-1: no key"]
    against = proof(found).counterexamples
    assert len(against) == 3
    assert str(PAYMENT) in against[2]


def test_what_was_told_to_whom_is_held_where_nothing_was_killed_and_noted_elsewhere() -> None:
    assert not rebuilds(rebuilt(EVENT)).holds
    proof = money_is_rebuilt(rebuilt(EVENT))
    assert proof.holds
    assert proof.notes == ("1 rows of events differ in what was told",)


def test_what_was_broken_off_may_differ_and_is_noted() -> None:
    found = rebuilt(PAYMENT)
    found.problems = ["pay_1: event 2 is told by no history"]
    proof = money_is_rebuilt(found, {"pay_1"})
    assert proof.holds
    assert proof.notes == (*found.problems, str(PAYMENT))
    assert not money_is_rebuilt(rebuilt(PAYMENT), {"pay_2"}).holds


def test_balances_may_lack_what_was_broken_off_and_nothing_else() -> None:
    posting = Difference("postings", "pay_1:sale:1", None, "a row", "absent", ("pay_1",))
    balance = Difference("account_balances", "clearing/stripe/EUR", "balance_minor", "100", "0")
    assert money_is_rebuilt(rebuilt(posting, balance, rows=1), {"pay_1"}).holds
    assert money_is_rebuilt(rebuilt(balance), {"pay_1"}).counterexamples == (str(balance),)


def test_rows_beyond_the_list_and_objects_that_went_on_are_counterexamples() -> None:
    more = money_is_rebuilt(rebuilt(PAYMENT, rows=4, ahead=("pay_3",)), {"pay_1"})
    assert more.counterexamples == (
        "payments: 3 further rows that are not listed",
        "pay_3: the database tells more of it than its histories",
    )


def test_what_ended_in_a_step_that_a_termination_cut_off_is_in_no_history_and_noted() -> None:
    proof = money_is_rebuilt(rebuilt(ahead=("pay_1",)), {"pay_1"})
    assert proof.holds
    assert proof.notes == ("pay_1: the database tells more of it than its histories",)
