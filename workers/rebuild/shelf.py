"""A mapping that keeps what is in hand in memory and the rest in a temporary file, in the order of its keys.

A rebuild reads histories in the order Temporal lists them, and what they say of one payment lies scattered over many of
them; so everything told so far has to be kept until the last is read, and that need not be in memory.
"""

import pickle
import sqlite3
from collections.abc import Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

HELD = 256
"""Values in memory between two spills."""
_PAGE = 100
_BETWEEN = "\x1f"
"""Separates the parts of a key; it sorts before every character of an id."""
_MAKE = "CREATE TABLE shelf (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
_PUT = "INSERT INTO shelf VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_NEXT = f"SELECT key, value FROM shelf WHERE key > ? AND key < ? ORDER BY key LIMIT {_PAGE}"  # noqa: S608 (a number)
_LAST = "\U0010ffff"

Key = str | tuple[str, ...]
K = TypeVar("K", bound=Key)
V = TypeVar("V")


class Shelf(MutableMapping[K, V], Generic[K, V]):
    """A value that was taken by its key may be changed until the next `spill`; one changed later is not kept.

    The file is SQLite's own temporary one: it has no name, nobody else can open it, and it ends with this object.
    """

    def __init__(self, values: Mapping[K, V] = MappingProxyType({}), held: int = HELD) -> None:
        self._in_hand: dict[K, V] = dict(values)
        self._limit = held
        self._file: sqlite3.Connection | None = None

    def __getitem__(self, key: K) -> V:
        if key not in self._in_hand:
            row = self._ask("SELECT value FROM shelf WHERE key = ?", _written(key))
            if row is None:
                raise KeyError(key)
            self._in_hand[key] = pickle.loads(row[0])  # noqa: S301 (written below, in a file nobody else can open)
        return self._in_hand[key]

    def __setitem__(self, key: K, value: V) -> None:
        self._in_hand[key] = value

    def __delitem__(self, key: K) -> None:
        known = key in self
        self._in_hand.pop(key, None)
        self._ask("DELETE FROM shelf WHERE key = ?", _written(key))
        if not known:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        known = "SELECT 1 FROM shelf WHERE key = ?"
        return key in self._in_hand or self._ask(known, _written(cast(Key, key))) is not None

    def __iter__(self) -> Iterator[K]:
        return (key for key, _ in self.in_order())

    def __len__(self) -> int:
        if self._file is None:
            return len(self._in_hand)
        self._write()
        return int(self._file.execute("SELECT count(*) FROM shelf").fetchone()[0])

    def in_order(self, prefix: str = "") -> Iterator[tuple[K, V]]:
        """Keys that begin so, in their order, with their values, which are only to be read."""
        if self._file is None:
            mine = [it for it in self._in_hand.items() if _written(it[0]).startswith(prefix)]
            yield from sorted(mine, key=lambda it: _written(it[0]))
            return
        self._write()
        after, end = prefix, prefix + _LAST
        # Page by page, so that the shelf may be written to while it is read.
        while page := self._file.execute(_NEXT, (after, end)).fetchall():
            for written, value in page:
                yield cast(K, _read(written)), pickle.loads(value)  # noqa: S301 (as above)
            after = page[-1][0]

    def spill(self) -> None:
        """Put what is in hand into the file, if it has become much."""
        if len(self._in_hand) > self._limit:
            self._write()
            self._in_hand.clear()

    def _write(self) -> None:
        if self._file is None:
            # One rebuild uses it, from the thread of its loop and from that of a database, never from both at once.
            self._file = sqlite3.connect("", check_same_thread=False, isolation_level=None)
            self._file.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_MAKE}")
        rows = ((_written(key), pickle.dumps(value, -1)) for key, value in self._in_hand.items())
        self._file.execute("BEGIN")
        self._file.executemany(_PUT, rows)
        self._file.execute("COMMIT")

    def _ask(self, question: str, key: str) -> Any:
        return None if self._file is None else self._file.execute(question, (key,)).fetchone()


def _written(key: Key) -> str:
    return key if isinstance(key, str) else _BETWEEN.join(key)


def _read(written: str) -> Key:
    return tuple(written.split(_BETWEEN)) if _BETWEEN in written else written
