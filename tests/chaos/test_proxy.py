"""The fault proxy does to real connections exactly what each kind of fault says, and leaves nothing open behind it."""

import asyncio
import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.proxy import http2
from tests.chaos.proxy.fault import Edge, Fault, FaultDoesNotFit, FaultKind, Framing, Then
from tests.chaos.proxy.http1 import MessageFramer, NotHttp, Piece
from tests.chaos.proxy.postgres import CommitScanner
from tests.chaos.proxy.proxy import FaultProxy

LOOPBACK = "127.0.0.1"
SOON = 0.5
"""Who is silent for so many seconds stays silent."""
PATIENCE = 10.0
"""For what does come, on a machine that is busy with other things."""


class Shop(ThreadingHTTPServer):
    """A real HTTP/1.1 server that remembers the requests it carried out."""

    daemon_threads = True

    def __init__(self) -> None:
        self.orders: list[str] = []
        super().__init__((LOOPBACK, 0), _Counter)

    def handle_error(self, *_: Any) -> None:
        """A client that is reset is what these tests are about."""


class _Counter(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Shop

    def do_POST(self) -> None:
        body = self._body().decode()
        self.server.orders.append(body)
        self._answer(f"done {body}".encode())

    def do_GET(self) -> None:
        if self.path == "/chunked":
            self._chunks()
        else:
            self._answer(b"x" * int(self.path[1:] or "5"))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _chunks(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"5\r\nfirst\r\n")
        self.wfile.flush()
        time.sleep(1)
        self.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """Tests read `orders`."""


@pytest.fixture
def shop() -> Iterator[Shop]:
    server = Shop()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy(seed=7) as opened:
        yield opened


@pytest.fixture
def client(proxy: FaultProxy, shop: Shop) -> Iterator[httpx.Client]:
    port = proxy.open(Edge("shop", LOOPBACK, shop.server_address[1]))
    with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=PATIENCE, trust_env=False) as opened:
        yield opened


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends every byte back."""
    listener = socket.create_server((LOOPBACK, 0))
    stop = threading.Event()
    thread = threading.Thread(target=_echo_until, args=(listener, stop))
    thread.start()
    yield listener.getsockname()[1]
    stop.set()
    thread.join()
    listener.close()


def _echo_until(listener: socket.socket, stop: threading.Event) -> None:
    open_here: list[socket.socket] = []
    while not stop.is_set():
        for ready in select.select([listener, *open_here], [], [], 0.02)[0]:
            if ready is listener:
                open_here.append(listener.accept()[0])
                continue
            data = b""
            with contextlib.suppress(ConnectionError):
                data = ready.recv(65536)
                ready.sendall(data)
            if not data:
                open_here.remove(ready)
                ready.close()
    for one in open_here:
        one.close()


@pytest.fixture
def wire(proxy: FaultProxy, echo: int) -> Iterator[Callable[[], socket.socket]]:
    """Opens connections to the echo through an opaque edge."""
    port = proxy.open(Edge("echo", LOOPBACK, echo, Framing.OPAQUE))
    made: list[socket.socket] = []

    def connect() -> socket.socket:
        made.append(socket.create_connection((LOOPBACK, port), timeout=PATIENCE))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def order(client: httpx.Client, name: str = "tea", seconds: float = PATIENCE) -> str:
    return client.post("/orders", content=name, timeout=seconds).text


def said(wire: socket.socket, text: bytes) -> bytes:
    wire.sendall(text)
    return wire.recv(65536)


def until(claim: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)


# --- without a fault --------------------------------------------------------------------------------------------


def test_what_passes_without_a_fault_passes_as_it_was_sent(
    client: httpx.Client, shop: Shop, proxy: FaultProxy
) -> None:
    assert order(client) == "done tea"
    assert client.post("/orders", content=iter([b"milk ", b"and sugar"])).text == "done milk and sugar"
    assert client.get("/chunked").text == "firstsecond"
    assert client.get("/900000", timeout=5).content == b"x" * 900_000
    assert shop.orders == ["tea", "milk and sugar"]
    traffic = proxy.traffic("shop")
    assert (traffic.accepted, traffic.open, traffic.upstream_open) == (1, 1, 1), "keep-alive is kept"
    assert proxy.fired() == []


def test_an_answer_streams_while_it_is_made(client: httpx.Client) -> None:
    with client.stream("GET", "/chunked") as answer:
        parts = answer.iter_raw()
        begun = time.monotonic()
        assert next(parts) == b"first"
        assert time.monotonic() - begun < 1.0, "the second part is made a second after the first"
        assert next(parts) == b"second"


def test_what_is_no_http_arrives_as_it_was_sent(proxy: FaultProxy, echo: int) -> None:
    port = proxy.open(Edge("odd", LOOPBACK, echo, Framing.HTTP))
    with socket.create_connection((LOOPBACK, port), timeout=PATIENCE) as wire:
        assert said(wire, b"\x16\x03\x01 no request\r\n\r\n") == b"\x16\x03\x01 no request\r\n\r\n"
        assert said(wire, b"and on") == b"and on"


# --- each kind --------------------------------------------------------------------------------------------------


def test_delay_holds_back_one_request_and_its_answer(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.plant("shop", Fault(FaultKind.DELAY, milliseconds=120))
    begun = time.monotonic()
    assert order(client) == "done tea"
    slow = time.monotonic() - begun
    begun = time.monotonic()
    order(client)
    assert slow >= 0.24
    assert time.monotonic() - begun < slow
    assert len(proxy.fired()) == 1


def test_delay_of_a_stream_keeps_order_and_costs_no_throughput(
    wire: Callable[[], socket.socket], proxy: FaultProxy
) -> None:
    proxy.set("echo", Fault(FaultKind.DELAY, milliseconds=100))
    talk, begun, got = wire(), time.monotonic(), b""
    for number in range(50):
        talk.sendall(b"%03d" % number)
    while len(got) < 150:
        got += talk.recv(65536)
    assert got == b"".join(b"%03d" % number for number in range(50))
    assert 0.2 <= time.monotonic() - begun < 50 * 0.1, "the chunks are late together, not one after the other"
    assert len(proxy.fired("echo", FaultKind.DELAY)) == 1


def test_jitter_is_drawn_from_the_seed_and_never_reorders(
    wire: Callable[[], socket.socket], proxy: FaultProxy
) -> None:
    proxy.set("echo", Fault(FaultKind.JITTER, milliseconds=60))
    talk, waits = wire(), []
    for number in range(8):
        begun = time.monotonic()
        assert said(talk, b"%d" % number) == b"%d" % number
        waits.append(time.monotonic() - begun)
    assert max(waits) - min(waits) > 0.01


def test_throttle_lets_so_many_bytes_pass_in_a_second(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.plant("shop", Fault(FaultKind.THROTTLE, bytes_per_second=40_000))
    begun = time.monotonic()
    assert len(client.get("/12000").content) == 12_000
    assert time.monotonic() - begun >= 0.25


def test_rst_resets_the_client_and_the_request_goes_nowhere(
    client: httpx.Client, shop: Shop, proxy: FaultProxy
) -> None:
    proxy.plant("shop", Fault(FaultKind.RST), count=2)
    for _ in range(2):
        with pytest.raises(httpx.ReadError) as caught:
            order(client)
        assert "reset" in str(caught.value).lower()
    assert order(client, "third") == "done third"
    assert shop.orders == ["third"]


def test_refuse_as_a_mode_closes_the_port_and_keeps_it(
    client: httpx.Client, shop: Shop, proxy: FaultProxy
) -> None:
    order(client)
    proxy.set("shop", Fault(FaultKind.REFUSE))
    assert order(client) == "done tea", "what is connected stays connected"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, proxy.port("shop")), timeout=SOON)
    proxy.clear("shop")
    socket.create_connection((LOOPBACK, proxy.port("shop")), timeout=SOON).close()


def test_refuse_once_resets_one_new_connection_before_its_first_byte(
    client: httpx.Client, shop: Shop, proxy: FaultProxy
) -> None:
    proxy.plant("shop", Fault(FaultKind.REFUSE))
    with pytest.raises(httpx.TransportError):
        order(client, "first")
    assert order(client, "second") == "done second"
    assert shop.orders == ["second"]


def test_half_open_accepts_and_is_never_heard_of_again(
    client: httpx.Client, shop: Shop, proxy: FaultProxy
) -> None:
    proxy.plant("shop", Fault(FaultKind.HALF_OPEN))
    with pytest.raises(httpx.ReadTimeout):
        order(client, "first", seconds=SOON)
    assert order(client, "second") == "done second"
    assert shop.orders == ["second"]
    assert proxy.traffic("shop").accepted == 2


@pytest.mark.parametrize("kind", [FaultKind.STALL_AFTER, FaultKind.TRUNCATE])
def test_an_answer_breaks_off_after_so_many_bytes(
    kind: FaultKind, wire: Callable[[], socket.socket], proxy: FaultProxy
) -> None:
    proxy.plant("echo", Fault(kind, after_bytes=4))
    talk, got = wire(), b""
    talk.sendall(b"abcdefgh")
    while len(got) < 4:
        got += talk.recv(65536)
    assert got == b"abcd"
    if kind is FaultKind.TRUNCATE:
        assert talk.recv(1) == b"", "FIN"
    else:
        talk.settimeout(SOON)
        with pytest.raises(TimeoutError):
            talk.recv(1)


def test_an_answer_over_http_breaks_off_behind_its_effect(
    client: httpx.Client, shop: Shop, proxy: FaultProxy
) -> None:
    proxy.plant("shop", Fault(FaultKind.TRUNCATE, after_bytes=30))
    with pytest.raises(httpx.RemoteProtocolError):
        order(client)
    proxy.plant("shop", Fault(FaultKind.STALL_AFTER, after_bytes=30))
    with pytest.raises(httpx.ReadTimeout):
        order(client, seconds=SOON)
    assert shop.orders == ["tea", "tea"]


def test_a_short_answer_is_not_truncated_and_none_is_logged(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.plant("shop", Fault(FaultKind.TRUNCATE, after_bytes=100_000))
    assert order(client) == "done tea"
    assert proxy.fired() == []


def test_drop_request_swallows_one_and_stays_open(
    client: httpx.Client, shop: Shop, proxy: FaultProxy
) -> None:
    proxy.plant("shop", Fault(FaultKind.DROP_REQUEST))
    with pytest.raises(httpx.ReadTimeout):
        order(client, "first", seconds=SOON)
    assert order(client, "second") == "done second"
    assert shop.orders == ["second"]


@pytest.mark.parametrize(
    ("then", "error"), [(Then.RESET, httpx.ReadError), (Then.STALL, httpx.ReadTimeout)], ids=["rst", "stall"]
)
def test_drop_response_happens_behind_the_effect(
    then: Then, error: type[Exception], client: httpx.Client, shop: Shop, proxy: FaultProxy
) -> None:
    fault = Fault(FaultKind.DROP_RESPONSE_AFTER_FORWARD, then=then, matching="POST /orders ")
    proxy.plant("shop", fault)
    assert client.get("/3").text == "xxx", "not what was asked for"
    with pytest.raises(error):
        order(client, seconds=SOON if then is Then.STALL else PATIENCE)
    assert shop.orders == ["tea"]
    assert order(client, "again") == "done again"
    (record,) = proxy.fired()
    assert (record.edge, record.kind) == ("shop", FaultKind.DROP_RESPONSE_AFTER_FORWARD)
    assert record.about == "POST /orders HTTP/1.1"
    assert record.bytes_from_server > len("done tea")
    assert record.bytes_from_client > len("POST /orders HTTP/1.1")


def test_drop_response_of_a_stream_cuts_when_the_answer_comes(
    wire: Callable[[], socket.socket], proxy: FaultProxy
) -> None:
    talk = wire()
    assert said(talk, b"BEGIN") == b"BEGIN"
    proxy.plant("echo", Fault(FaultKind.DROP_RESPONSE_AFTER_FORWARD, matching="COMMIT"))
    assert said(talk, b"INSERT") == b"INSERT"
    with pytest.raises(ConnectionResetError):
        said(talk, b"COMMIT;")
    (record,) = proxy.fired("echo")
    assert record.bytes_from_server == len("BEGININSERTCOMMIT;"), "the server had carried it out"


def test_duplicate_sends_a_whole_request_twice_and_returns_the_first_answer(
    client: httpx.Client, shop: Shop, proxy: FaultProxy
) -> None:
    proxy.plant("shop", Fault(FaultKind.DUPLICATE, milliseconds=50))
    assert client.post("/orders", content=iter([b"te", b"a"])).text == "done tea"
    assert shop.orders == ["tea"]
    until(lambda: shop.orders == ["tea", "tea"])
    assert order(client, "next") == "done next", "the copy's answer is nobody's"
    until(lambda: proxy.traffic("shop").upstream_open == 1)


def test_reorder_lets_another_connection_pass_first(
    client: httpx.Client, shop: Shop, proxy: FaultProxy
) -> None:
    proxy.plant("shop", Fault(FaultKind.REORDER, milliseconds=5000))
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=client.base_url, trust_env=False) as other:
        first = pool.submit(order, client, "first")
        until(lambda: proxy.planted("shop") == 0)
        assert order(other, "second") == "done second"
        assert first.result() == "done first"
    assert shop.orders == ["second", "first"]
    assert [record.kind for record in proxy.fired()] == [FaultKind.REORDER]


def test_reorder_waits_for_another_only_so_long(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.plant("shop", Fault(FaultKind.REORDER, milliseconds=200))
    begun = time.monotonic()
    assert order(client) == "done tea"
    assert time.monotonic() - begun >= 0.2
    assert proxy.fired() == [], "nothing was reordered"


def test_a_partition_freezes_every_connection_both_ways_until_it_heals(
    wire: Callable[[], socket.socket], proxy: FaultProxy
) -> None:
    old = wire()
    assert said(old, b"before") == b"before"
    proxy.set("echo", Fault(FaultKind.PARTITION, then=Then.STALL))
    new = wire()
    for talk in (old, new):
        talk.sendall(b"during")
        talk.settimeout(SOON)
        with pytest.raises(TimeoutError):
            talk.recv(1)
        talk.settimeout(PATIENCE)
    proxy.clear("echo")
    assert old.recv(6) == new.recv(6) == b"during", "as retransmission would deliver it"


def test_a_partition_cuts_every_connection_and_lets_none_in(
    wire: Callable[[], socket.socket], proxy: FaultProxy
) -> None:
    old = wire()
    assert said(old, b"before") == b"before"
    proxy.set("echo", Fault(FaultKind.PARTITION))
    with pytest.raises(ConnectionResetError):
        old.recv(1)
    with pytest.raises(ConnectionRefusedError):
        wire()
    proxy.clear()
    assert said(wire(), b"after") == b"after"


def test_a_server_that_is_away_resets_its_clients(proxy: FaultProxy) -> None:
    with socket.create_server((LOOPBACK, 0)) as gone:
        away = gone.getsockname()[1]
    port = proxy.open(Edge("away", LOOPBACK, away, Framing.OPAQUE))
    with (
        pytest.raises(ConnectionResetError),
        socket.create_connection((LOOPBACK, port), timeout=PATIENCE) as talk,
    ):
        talk.recv(1)


def test_an_edge_can_be_pointed_at_another_server(
    wire: Callable[[], socket.socket], proxy: FaultProxy, shop: Shop
) -> None:
    old = wire()
    assert said(old, b"x") == b"x"
    proxy.point("echo", LOOPBACK, shop.server_address[1])
    assert said(wire(), b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert said(old, b"y") == b"y"


def test_faults_that_an_edge_cannot_carry_are_refused(
    proxy: FaultProxy, wire: Callable[[], socket.socket], client: httpx.Client
) -> None:
    for kind in (FaultKind.DROP_REQUEST, FaultKind.DUPLICATE, FaultKind.REORDER):
        with pytest.raises(FaultDoesNotFit, match=r"framing of echo \(opaque\)"):
            proxy.plant("echo", Fault(kind))
    with pytest.raises(FaultDoesNotFit, match="stands until it is cleared"):
        proxy.plant("shop", Fault(FaultKind.PARTITION))
    with pytest.raises(FaultDoesNotFit, match="needs milliseconds"):
        Fault(FaultKind.DELAY)
    assert said(wire(), b"x") == b"x"


# --- gRPC -------------------------------------------------------------------------------------------------------


def _frame(kind: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, 0]) + stream.to_bytes(4) + payload


def test_the_name_of_a_call_is_found_as_hpack_compresses_it() -> None:
    # RFC 7541, C.4.1: the literal of `:authority: www.example.com`.
    assert http2.encoded("www.example.com") == bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")


def test_frames_are_found_however_the_bytes_are_cut() -> None:
    stream = http2.PREFACE + _frame(4, 0, b"x" * 12) + _frame(1, 1, b"head") + _frame(0, 1, b"y" * 300)
    stream += _frame(1, 3, b"next")
    for size in (1, 7, 33, len(stream)):
        scanner = http2.FrameScanner(preface=True)
        found = [
            frame for at in range(0, len(stream), size) for frame in scanner.feed(stream[at : at + size])
        ]
        heads = [(frame.stream, frame.payload) for frame in found if frame.kind == http2.HEADERS]
        assert heads == [(1, b"head"), (3, b"next")]
        assert [frame.kind for frame in found] == [4, 1, 0, 1]


async def test_the_answer_of_one_call_is_lost_and_no_earlier_frame(proxy: FaultProxy) -> None:
    window_update, data = 8, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Acknowledges the bytes of a call at once, and answers it later."""
        await reader.readexactly(len(http2.PREFACE))
        while head := await reader.read(100):
            stream = int.from_bytes(head[5:9])
            writer.write(_frame(window_update, stream, b"\0\0\0\1"))
            await asyncio.sleep(0.05)
            writer.write(_frame(data, stream, b"answer"))
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    port = proxy.open(Edge("calls", LOOPBACK, server.sockets[0].getsockname()[1], Framing.GRPC))
    proxy.plant("calls", Fault(FaultKind.DROP_RESPONSE_AFTER_FORWARD, matching="/example.Shop/Buy"))
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(http2.PREFACE + _frame(http2.HEADERS, 1, http2.encoded("/example.Shop/Look")))
    assert (await reader.readexactly(13 + 15))[13:].endswith(b"answer")
    writer.write(_frame(http2.HEADERS, 3, b"\x04" + http2.encoded("/example.Shop/Buy")))
    assert await reader.readexactly(13) == _frame(window_update, 3, b"\0\0\0\1")
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


# --- leaks and speed --------------------------------------------------------------------------------------------


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind is not FaultKind.PARTITION])
def test_no_descriptor_is_left_behind(kind: FaultKind, shop: Shop) -> None:
    fault = Fault(kind, milliseconds=5, bytes_per_second=100_000, then=Then.STALL)
    before = _descriptors()
    with FaultProxy() as proxy:
        port = proxy.open(Edge("shop", LOOPBACK, shop.server_address[1]))
        proxy.set("shop", fault)
        for _ in range(8):
            with (
                contextlib.suppress(httpx.TransportError),
                httpx.Client(base_url=f"http://{LOOPBACK}:{port}", trust_env=False) as client,
            ):
                order(client, seconds=0.05)
        until(lambda: proxy.traffic("shop").open == 0)
        until(lambda: proxy.traffic("shop").upstream_open == 0)
        assert proxy.fired("shop", kind) or kind is FaultKind.REORDER, "alone, a client lets nobody pass"
    until(lambda: _descriptors() <= before)


def test_leaving_the_proxy_closes_what_was_stuck_in_it(echo: int) -> None:
    before = _descriptors()
    with FaultProxy() as proxy:
        port = proxy.open(Edge("echo", LOOPBACK, echo, Framing.OPAQUE))
        proxy.set("echo", Fault(FaultKind.PARTITION, then=Then.STALL))
        stuck = [socket.create_connection((LOOPBACK, port), timeout=SOON) for _ in range(20)]
        for one in stuck:
            one.sendall(b"x")
        until(lambda: proxy.traffic("echo").open == 20)
    for one in stuck:
        with pytest.raises(ConnectionResetError):
            one.recv(1)
        one.close()
    until(lambda: _descriptors() <= before)


async def test_thousands_of_small_messages_pass_in_a_second(proxy: FaultProxy) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while frame := await reader.read(65536):
            writer.write(frame)
        writer.close()

    server = await asyncio.start_server(answer, LOOPBACK, 0)
    port = proxy.open(Edge("calls", LOOPBACK, server.sockets[0].getsockname()[1], Framing.GRPC))
    begun = time.monotonic()
    done = await asyncio.gather(*(_exchanges(port, 1_000) for _ in range(4)))
    rate = sum(done) / (time.monotonic() - begun)
    server.close()
    await server.wait_closed()
    assert rate > 500, f"{rate:.0f} exchanges a second, client and server of the test included"


async def _exchanges(port: int, count: int) -> int:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    message = _frame(0, 1, b"z" * 91)
    writer.write(http2.PREFACE)
    await reader.readexactly(len(http2.PREFACE))
    for _ in range(count):
        writer.write(message)
        await reader.readexactly(len(message))
    writer.close()
    await writer.wait_closed()
    return count
