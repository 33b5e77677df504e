"""The fault proxy finds calls, commits and messages however their bytes are cut."""

import asyncio
import socket

import pytest

from tests.chaos.proxy import http2
from tests.chaos.proxy.fault import Edge, Fault, FaultDoesNotFit, FaultKind, Framing
from tests.chaos.proxy.http1 import MessageFramer, NotHttp, Piece
from tests.chaos.proxy.postgres import CommitScanner, written
from tests.chaos.proxy.proxy import FaultProxy
from tests.chaos.wire.servers import LOOPBACK, PATIENCE, frame, said

# --- gRPC -------------------------------------------------------------------------------------------------------


def test_the_name_of_a_call_is_found_as_hpack_compresses_it() -> None:
    # RFC 7541, C.4.1: the literal of `:authority: www.example.com`.
    assert http2.encoded("www.example.com") == bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")


def test_frames_are_found_however_the_bytes_are_cut() -> None:
    stream = http2.PREFACE + frame(4, 0, b"x" * 12) + frame(1, 1, b"head") + frame(0, 1, b"y" * 300)
    stream += frame(1, 3, b"next")
    for size in (1, 7, 33, len(stream)):
        scanner = http2.FrameScanner(preface=True)
        found = [
            frame for at in range(0, len(stream), size) for frame in scanner.feed(stream[at : at + size])
        ]
        heads = [(frame.stream, frame.payload) for frame in found if frame.kind == http2.HEADERS]
        assert heads == [(1, b"head"), (3, b"next")]
        assert [frame.kind for frame in found] == [4, 1, 0, 1]


async def test_the_answer_of_one_call_is_lost_and_no_earlierframe(proxy: FaultProxy) -> None:
    window_update, data = 8, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Acknowledges the bytes of a call at once, and answers it later."""
        await reader.readexactly(len(http2.PREFACE))
        while head := await reader.read(100):
            stream = int.from_bytes(head[5:9])
            writer.write(frame(window_update, stream, b"\0\0\0\1"))
            await asyncio.sleep(0.05)
            writer.write(frame(data, stream, b"answer"))
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    port = proxy.open(Edge("calls", LOOPBACK, server.sockets[0].getsockname()[1], Framing.GRPC))
    proxy.plant("calls", Fault(FaultKind.DROP_RESPONSE_AFTER_FORWARD, matching="/example.Shop/Buy"))
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(http2.PREFACE + frame(http2.HEADERS, 1, http2.encoded("/example.Shop/Look")))
    assert (await reader.readexactly(13 + 15))[13:].endswith(b"answer")
    writer.write(frame(http2.HEADERS, 3, b"\x04" + http2.encoded("/example.Shop/Buy")))
    assert await reader.readexactly(13) == frame(window_update, 3, b"\0\0\0\1")
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()
    server.close()
    await server.wait_closed()
    assert [record.about for record in proxy.fired("calls")] == ["/example.Shop/Buy"]


def test_a_call_is_named_by_its_whole_path(proxy: FaultProxy, echo: int) -> None:
    proxy.open(Edge("calls", LOOPBACK, echo, Framing.GRPC))
    with pytest.raises(FaultDoesNotFit, match="whole path"):
        proxy.plant("calls", Fault(FaultKind.RST, matching="Buy"))


# --- PostgreSQL -------------------------------------------------------------------------------------------------


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


def test_a_commit_is_known_by_what_its_transaction_ran() -> None:
    ssl_request, startup = (
        _message(b"", (80877103).to_bytes(4)),
        _message(b"", (196608).to_bytes(4) + b"user\0me\0\0"),
    )
    transaction = _message(b"Q", b"BEGIN;\0") + _message(b"B", b"\0s1\0\0\0")
    talk = [
        ssl_request + startup + _message(b"P", b"s1\0INSERT INTO effects\0\0\0") + _message(b"S", b""),
        transaction,
        _message(b"Q", b"COMMIT;\0"),
        _message(b"Q", b"BEGIN;\0") + _message(b"Q", b"SELECT 1\0") + _message(b"Q", b"COMMIT;\0"),
    ]
    whole = b"".join(talk)
    assert [CommitScanner().feed(whole)] == [b"SELECT 1\0"], "the last of several"
    for size in (1, 5):
        scanner = CommitScanner()
        found = [scanner.feed(whole[at : at + size]) for at in range(0, len(whole), size)]
        assert [one for one in found if one is not None] == [b"INSERT INTO effects", b"SELECT 1\0"]


@pytest.mark.parametrize(
    ("statements", "changes"),
    [
        (b"INSERT INTO effects (id) VALUES ($1)", "INSERT INTO effects"),
        (b"SELECT 1\nUPDATE payments SET updated_at = $1", "UPDATE payments"),
        (b"DELETE FROM leases", "DELETE FROM leases"),
        (b"SELECT updated_at FROM payments FOR UPDATE", ""),
        (b"SELECT 1 FROM payments FOR NO KEY UPDATE", ""),
        (b"SELECT 1 FROM payments FOR UPDATE SKIP LOCKED", ""),
        (b"", ""),
    ],
)
def test_a_transaction_that_only_reads_and_locks_changes_nothing(statements: bytes, changes: str) -> None:
    assert written(statements) == changes


def _transaction(*statements: bytes) -> bytes:
    texts = (b"BEGIN\0", *(it + b"\0" for it in statements))
    return b"".join(_message(b"Q", text) for text in texts)


def test_an_acknowledgement_is_lost_at_a_commit_that_wrote_and_nowhere_else(
    proxy: FaultProxy, echo: int
) -> None:
    port = proxy.open(Edge("database", LOOPBACK, echo, Framing.POSTGRES))
    commit, startup = _message(b"Q", b"COMMIT\0"), _message(b"", (196608).to_bytes(4) + b"user\0me\0\0")
    with socket.create_connection((LOOPBACK, port), timeout=PATIENCE) as talk:
        proxy.plant("database", Fault(FaultKind.DROP_RESPONSE_AFTER_FORWARD, only_changes=True))
        for harmless in (
            startup,
            _transaction(b"SELECT 1"),
            commit,
            _transaction(b"UPDATE payments SET n = 1"),
        ):
            assert said(talk, harmless) == harmless
        with pytest.raises(ConnectionResetError):
            said(talk, commit)
    (record,) = proxy.fired()
    assert (record.kind, record.about) == (FaultKind.DROP_RESPONSE_AFTER_FORWARD, "UPDATE payments")


def test_what_loses_no_acknowledgement_is_met_by_any_bytes_of_a_database_session(
    proxy: FaultProxy, echo: int
) -> None:
    port = proxy.open(Edge("database", LOOPBACK, echo, Framing.POSTGRES))
    with socket.create_connection((LOOPBACK, port), timeout=PATIENCE) as talk:
        proxy.set("database", Fault(FaultKind.DELAY, milliseconds=1))
        assert said(talk, _transaction(b"SELECT 1")) == _transaction(b"SELECT 1")
        assert [record.kind for record in proxy.fired()] == [FaultKind.DELAY]
        proxy.clear("database")
        proxy.plant("database", Fault(FaultKind.RST))
        with pytest.raises(ConnectionResetError):
            said(talk, _transaction(b"SELECT 1"))


# --- HTTP framing -----------------------------------------------------------------------------------------------


def _cut(framer: MessageFramer, data: bytes, size: int) -> list[Piece]:
    return [piece for at in range(0, len(data), size) for piece in framer.feed(data[at : at + size])]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("method", "data", "messages"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 204 No\r\n\r\n", 2),
        ("GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 1),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n", 1),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n", 1),
        ("GET", b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 0),
    ],
    ids=["sized", "interim", "head", "chunked", "until close"],
)
def test_an_answer_ends_where_the_standard_says(method: str, data: bytes, messages: int, size: int) -> None:
    framer = MessageFramer(answers=True)
    framer.method = method
    pieces = _cut(framer, data, size)
    assert b"".join(piece.data for piece in pieces) == data
    assert sum(piece.ends for piece in pieces) == messages
    assert framer.ends_at_close == (messages == 0)


def test_garbage_is_no_http() -> None:
    with pytest.raises(NotHttp):
        list(MessageFramer(answers=False).feed(b"hello\r\n\r\n"))
    with pytest.raises(NotHttp):
        list(MessageFramer(answers=True).feed(b"hello\r\n\r\n"))
