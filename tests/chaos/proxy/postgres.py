"""As much of PostgreSQL's protocol as tells which statements a transaction ran, and where it commits.

Documented at https://www.postgresql.org/docs/current/protocol-message-formats.html.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.chaos.proxy.fault import Fault
from tests.chaos.proxy.link import Link

if TYPE_CHECKING:
    from tests.chaos.proxy.crossing import Crossing

# Before the first message with a type: "may I encrypt?", in two ways, and "cancel".
_ASKS = {80877102, 80877103, 80877104}
_PARSE, _BIND, _QUERY = b"P", b"B", b"Q"
_WRITE = re.compile(rb"(?<!FOR )(?<!KEY )\b(?:INSERT INTO|UPDATE|DELETE FROM)\s+\w+", re.IGNORECASE)


class CommitScanner:
    """Follows what a client sends; statements are prepared once and later run by their name."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._has_begun = False
        self._prepared: dict[bytes, bytes] = {}
        self._ran: list[bytes] = []

    def feed(self, data: bytes) -> bytes | None:
        """All statements of the transaction whose COMMIT is in these bytes; None while none ends."""
        self._buffer += data
        committed = None
        for kind, body in self._messages():
            if kind == _QUERY and body.upper().startswith(b"COMMIT"):
                committed = b"\n".join(self._ran)
                self._ran.clear()
            else:
                self._note(kind, body)
        return committed

    def _note(self, kind: bytes, body: bytes) -> None:
        if kind == _QUERY and body.upper().startswith(b"BEGIN"):
            self._ran.clear()
        elif kind == _QUERY:
            self._ran.append(body)
        elif kind == _PARSE:
            name, statement = body.split(b"\0", 2)[:2]
            self._prepared[name] = statement
        elif kind == _BIND:
            self._ran.append(self._prepared.get(body.split(b"\0", 2)[1], b""))

    def _messages(self) -> Iterator[tuple[bytes, bytes]]:
        while True:
            head = 1 if self._has_begun else 0
            if len(self._buffer) < head + 4:
                return
            length = int.from_bytes(self._buffer[head : head + 4])
            if len(self._buffer) < head + length:
                return
            kind, body = bytes(self._buffer[:head]), bytes(self._buffer[head + 4 : head + length])
            del self._buffer[: head + length]
            if self._has_begun:
                yield kind, body
            else:
                self._has_begun = int.from_bytes(body[:4]) not in _ASKS


def written(statements: bytes) -> str:
    """The first change of rows among them, as `UPDATE payments`; empty where rows are only read or locked."""
    found = _WRITE.search(statements)
    return "" if found is None else found[0].decode("latin-1")


class PostgresLink(Link):
    """An acknowledgement is lost at a COMMIT: of any transaction, or of one that ran a statement with certain words.

    Whatever else names no statement is met by the next bytes, as on any connection.
    """

    def __init__(self, crossing: "Crossing", number: int) -> None:
        super().__init__(crossing, number)
        self._scanner = CommitScanner()
        self._committed: bytes | None = None

    def from_client(self, data: bytes) -> None:
        self._committed = self._scanner.feed(data)
        super().from_client(data)

    def occasion(self, data: bytes) -> Fault | None:
        return self.crossing.meet(self._committed)

    def fired(self, fault: Fault, about: str = "") -> None:
        super().fired(fault, about or fault.matching or written(self._committed or b""))
