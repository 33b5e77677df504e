"""As much of HTTP/2 as tells where a gRPC call begins and what answers it (RFC 9113 §4, RFC 7541 §5.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD_BYTES = 9
DATA, HEADERS = 0, 1
# RFC 7541, appendix B: the code is canonical, so its letters in order and the first code of each length are all of it.
_HUFFMAN = (
    (5, 0x0, "012aceiost"),
    (6, 0x14, " %-./3456789=A_bdfghlmnpru"),
    (7, 0x5C, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xF8, "&*,;XZ"),
)
_CODES = {
    letter: (first + index, bits) for bits, first, letters in _HUFFMAN for index, letter in enumerate(letters)
}


@dataclass(frozen=True)
class Frame:
    """One frame; the payload is kept for headers only."""

    kind: int
    stream: int
    payload: bytes


class FrameScanner:
    """Sees the frames of one direction as their last byte passes; skips what is in data frames."""

    def __init__(self, *, preface: bool) -> None:
        self._skip = len(PREFACE) if preface else 0
        self._held = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that begin (headers: that end) in these bytes."""
        data = self._held + data
        at, end = 0, len(data)
        self._held = b""
        while True:
            step = min(self._skip, end - at)
            at, self._skip = at + step, self._skip - step
            if end - at < FRAME_HEAD_BYTES:
                break
            length, kind = int.from_bytes(data[at : at + 3]), data[at + 3]
            stream = int.from_bytes(data[at + 5 : at + 9]) & 0x7FFFFFFF
            if kind == HEADERS and end - at < FRAME_HEAD_BYTES + length:
                break
            start = at + FRAME_HEAD_BYTES
            yield Frame(kind, stream, data[start : start + length] if kind == HEADERS else b"")
            at, self._skip = start, length
        self._held = data[at:]


@cache
def encoded(text: str) -> bytes:
    """A whole string as HPACK's Huffman code writes it, padded with ones. Raises ValueError for rare letters."""
    if not _CODES.keys() >= set(text):
        raise ValueError(f"not the path of a call: {text}")
    value = bits = 0
    for letter in text:
        code, length = _CODES[letter]
        value, bits = value << length | code, bits + length
    padding = -bits % 8
    return (value << padding | (1 << padding) - 1).to_bytes((bits + padding) // 8)
