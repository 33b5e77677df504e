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


CLEARING = "clearing/stripe/EUR"


def _balance(account: str, minor: int) -> Difference:
    sides = (str(minor), "0")
    return Difference("account_balances", account, "balance_minor", *sides, money=(account, minor))


def _entry(account: str, minor: int) -> Difference:
    return Difference("entries", "pay_1:sale:1 0", None, "a row", "absent", ("pay_1",), (account, minor))


def test_a_balance_may_lack_just_what_was_broken_off_of_its_account() -> None:
    entry, lacking = _entry(CLEARING, 100), _balance(CLEARING, 100)
    assert money_is_rebuilt(rebuilt(entry, lacking, rows=1), {"pay_1"}).holds
    for wrong in (_balance(CLEARING, 101), _balance("fees/stripe/EUR", 100)):
        assert money_is_rebuilt(rebuilt(entry, wrong, rows=1), {"pay_1"}).counterexamples == (str(wrong),)
    assert money_is_rebuilt(rebuilt(lacking), {"pay_1"}).counterexamples == (str(lacking),)


def test_a_history_that_this_build_cannot_read_is_excused_by_nothing() -> None:
    found = rebuilt()
    problem = "payment-pay_1: left out, read it with a newer build: event 9: no such step"
    found.unread, found.problems = {"run-1": problem}, [problem]
    assert money_is_rebuilt(found, {"pay_1"}).counterexamples == (problem,)


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
