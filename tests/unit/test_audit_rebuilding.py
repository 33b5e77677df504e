"""The proof that histories alone make the live books: what differs is named, and only what was broken off is excused."""

from typing import Any

from api.cli.audit.rebuilding import rebuilds
from workers.rebuild.compare import Comparison, Difference, TableReport
from workers.rebuild.fold import Books
from workers.rebuild.rebuild import Rebuilt


def rebuilt(*differences: Difference, rows: int | None = None, ahead: tuple[str, ...] = ()) -> Rebuilt:
    books, posting = Books(), Any
    books.postings["pay_1:sale:1"] = posting  # type: ignore[assignment] — only that there is one matters here
    table = TableReport("events", equal=3, different=len(differences) if rows is None else rows)
    table.differences = list(differences)
    return Rebuilt(books, comparison=Comparison([table], list(ahead)))


OTHERWISE = Difference("events", "pay_1 2", "data", "this", "that", ("pay_1",))


def test_equal_books_are_proven_and_no_books_prove_nothing() -> None:
    assert rebuilds(rebuilt()).holds
    assert not rebuilds(Rebuilt(Books())).holds


def test_a_row_that_differs_is_named() -> None:
    proof = rebuilds(rebuilt(OTHERWISE), {"pay_2"})
    assert proof.counterexamples == (str(OTHERWISE),)


def test_what_was_broken_off_may_differ_and_is_noted() -> None:
    proof = rebuilds(rebuilt(OTHERWISE, ahead=("pay_3",)), {"pay_1"})
    assert proof.holds
    assert proof.notes[0] == f"of one that was broken off: {OTHERWISE}"
    assert proof.notes[1].startswith("1 objects went on")


def test_rows_beyond_the_list_and_what_histories_do_not_suffice_for_are_counterexamples() -> None:
    more = rebuilds(rebuilt(OTHERWISE, rows=4), {"pay_1"})
    assert more.counterexamples == ("events: 3 further rows that are not listed",)
    found = rebuilt()
    found.problems, found.sealed = ["pay_1: no history tells what was accepted"], ["run-1: no key"]
    assert len(rebuilds(found).counterexamples) == 2
