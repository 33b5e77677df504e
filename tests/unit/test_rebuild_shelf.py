"""A shelf is a mapping whatever lies on disk, and what is folded over it is the same books in bounded memory."""

import dataclasses
import pickle
import tracemalloc
from typing import Any

from activities.contracts import SETTLE
from tests.replay import golden
from workers.histories import reading
from workers.histories.reading import Reading
from workers.rebuild import shelf
from workers.rebuild.fold import Books
from workers.rebuild.shelf import Shelf


def test_what_was_spilled_is_found_counted_and_told_in_the_order_of_keys() -> None:
    on_disk: Shelf[str, list[int]] = Shelf(held=2)
    in_memory: Shelf[str, list[int]] = Shelf(held=1000)
    for number in (7, 3, 9, 1, 5):
        for filled in (on_disk, in_memory):
            filled.setdefault(f"pay_{number}:sale", []).append(number)
            filled.spill()
    for filled in (on_disk, in_memory):
        filled["pay_3:sale"].append(33)
        filled.spill()
        assert list(filled) == [f"pay_{number}:sale" for number in (1, 3, 5, 7, 9)]
        assert (len(filled), filled["pay_3:sale"], "pay_4:sale" in filled) == (5, [3, 33], False)
        assert filled.get("pay_4:sale") is None
        del filled["pay_5:sale"]
        assert [value for _, value in filled.in_order()] == [[1], [3, 33], [7], [9]]
    assert dict(on_disk) == dict(in_memory)


def test_keys_of_two_parts_keep_their_parts_and_their_order() -> None:
    lines: Shelf[tuple[str, str], int] = Shelf(held=1)
    keys = [("stripe", "txn_2"), ("stripe", "txn_1"), ("str", "z")]
    for number, key in enumerate(keys):
        lines[key] = number
        lines.spill()
    assert list(lines) == sorted(keys)
    assert ("stripe", "txn_1") in lines


def test_only_what_begins_with_a_prefix_is_read_and_pages_join() -> None:
    effects: Shelf[str, int] = Shelf(held=10)
    count = 3 * shelf.HELD
    for number in range(count):
        effects[f"pay_a:{number:05}"] = effects[f"pay_b:{number:05}"] = number
        effects.spill()
    assert [number for _, number in effects.in_order("pay_a:")] == list(range(count))
    assert len(list(effects.in_order())) == 2 * count


def test_a_shelf_may_be_written_to_while_it_is_read() -> None:
    values: Shelf[str, int] = Shelf({f"{number:05}": number for number in range(1000)}, held=3)
    values.spill()
    seen = []
    for key, value in values.in_order():
        values[key] = value
        values.spill()
        seen.append(value)
    assert seen == list(range(1000))


async def _readings() -> list[Reading]:
    return [await reading.read(it.history, golden.converter()) for it in golden.all_of_them()]


def _told(books: Books) -> dict[str, Any]:
    values = {field.name: getattr(books, field.name) for field in dataclasses.fields(books)}
    return {name: dict(value) if isinstance(value, Shelf) else value for name, value in values.items()}


def _books(held: int) -> Books:
    return Books(
        **{name: Shelf(held=held) for name, value in vars(Books()).items() if isinstance(value, Shelf)}
    )


async def test_books_that_lie_on_disk_are_the_same_books() -> None:
    told, in_memory, on_disk = await _readings(), _books(held=10_000), _books(held=0)
    for books in (in_memory, on_disk):
        for one in (*told, *reversed(told)):
            books.add(one)
    assert _told(on_disk) == _told(in_memory)
    assert len(on_disk.payments) > 10


def _copy(one: Reading, number: int) -> Reading:
    """The same story of another payment: the id has the same length, so it can be changed where it is written."""
    old = one.object_id
    new = f"{old[:-6]}{number:06}"
    copied: Reading = pickle.loads(pickle.dumps(one).replace(old.encode(), new.encode()))  # noqa: S301 (our own)
    return copied


async def test_memory_does_not_grow_with_the_number_of_histories() -> None:
    happy = next(it for it in await _readings() if it.of(SETTLE))
    books, held = _books(held=20), []
    tracemalloc.start()
    try:
        for number in range(800):
            books.add(_copy(happy, number))
            # These histories are of an early build, and each of those is named in the report.
            books.silent.clear()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert len(books.payments) == 800
    growth = max(held[-200:]) / max(held[:200])
    assert growth < 1.3, f"four times the histories hold {growth:.1f} times the memory"
