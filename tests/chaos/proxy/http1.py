"""Where an HTTP/1.1 message ends: Content-Length, chunked, no body, or until the connection closes (RFC 9112 §6)."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

LONGEST_HEAD = 256 * 1024


class NotHttp(Exception):
    """These bytes are no HTTP/1.1 message; they can only be passed on."""


@dataclass(frozen=True)
class Piece:
    """A part of a message as it came, and whether the message ends with it."""

    data: bytes
    ends: bool


class _State(Enum):
    HEAD = auto()
    SIZED = auto()
    CHUNK_LINE = auto()
    CHUNK_DATA = auto()
    TRAILER = auto()
    UNTIL_CLOSE = auto()


class MessageFramer:
    """Cuts one direction of a connection into messages, byte for byte and as early as it can."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self._buffer = bytearray()
        self._state = _State.HEAD
        self._left = 0
        self.method = ""
        """Of the request that the next answer belongs to: the answer to HEAD has no body."""

    @property
    def ends_at_close(self) -> bool:
        return self._state is _State.UNTIL_CLOSE

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Raises NotHttp; `rest` then has the bytes that were not returned."""
        self._buffer += data
        while self._buffer:
            piece = self._step()
            if piece is None:
                return
            yield piece

    def rest(self) -> bytes:
        """What was fed and not returned yet; the framer forgets it."""
        return self._take(len(self._buffer))

    def _step(self) -> Piece | None:
        match self._state:
            case _State.HEAD:
                return self._head()
            case _State.SIZED:
                return self._sized()
            case _State.CHUNK_DATA:
                return self._chunk_data()
            case _State.CHUNK_LINE:
                return self._chunk_line()
            case _State.TRAILER:
                return self._trailer()
            case _State.UNTIL_CLOSE:
                return Piece(self.rest(), ends=False)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _head(self) -> Piece | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > LONGEST_HEAD:
                raise NotHttp("a head without an end")
            return None
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        self._state, self._left = self._body_after(lines[0], _fields(lines[1:]))
        # An interim answer (1xx) has neither a body nor the last word.
        interim = self._answers and lines[0][9:10] == b"1"
        return Piece(self._take(end + 4), ends=self._state is _State.HEAD and not interim)

    def _body_after(self, first_line: bytes, fields: dict[bytes, bytes]) -> tuple[_State, int]:
        if self._answers:
            if not first_line.startswith(b"HTTP/1."):
                raise NotHttp("no status line")
            status = first_line[9:12]
            if self.method == "HEAD" or status[:1] == b"1" or status in (b"204", b"304"):
                return _State.HEAD, 0
        elif not first_line.rstrip().endswith((b"HTTP/1.1", b"HTTP/1.0")):
            raise NotHttp("no request line")
        if fields.get(b"transfer-encoding", b"").lower().endswith(b"chunked"):
            return _State.CHUNK_LINE, 0
        length = fields.get(b"content-length")
        if length is None:
            return (_State.UNTIL_CLOSE, 0) if self._answers else (_State.HEAD, 0)
        if not length.isdigit():
            raise NotHttp("no length")
        return (_State.SIZED if int(length) else _State.HEAD), int(length)

    def _sized(self) -> Piece:
        data = self._take(min(self._left, len(self._buffer)))
        self._left -= len(data)
        if not self._left:
            self._state = _State.HEAD
        return Piece(data, ends=not self._left)

    def _chunk_line(self) -> Piece | None:
        line = self._line()
        if line is None:
            return None
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError as error:
            raise NotHttp("no chunk size") from error
        self._state, self._left = (_State.CHUNK_DATA, size + 2) if size else (_State.TRAILER, 0)
        return Piece(line, ends=False)

    def _chunk_data(self) -> Piece:
        data = self._take(min(self._left, len(self._buffer)))
        self._left -= len(data)
        if not self._left:
            self._state = _State.CHUNK_LINE
        return Piece(data, ends=False)

    def _trailer(self) -> Piece | None:
        line = self._line()
        if line is None:
            return None
        last = line == b"\r\n"
        if last:
            self._state = _State.HEAD
        return Piece(line, ends=last)

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        return None if end < 0 else self._take(end + 2)


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    pairs = (line.partition(b":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
