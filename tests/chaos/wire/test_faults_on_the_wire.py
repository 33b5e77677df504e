"""The fault proxy does to real connections exactly what each kind of fault says."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.chaos.proxy.fault import Edge, Fault, FaultDoesNotFit, FaultKind, Framing, Then
from tests.chaos.proxy.proxy import FaultProxy
from tests.chaos.wire.servers import LOOPBACK, PATIENCE, SOON, Shop, order, said, until

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


def test_an_answer_streams_while_it_is_made(client: httpx.Client, shop: Shop) -> None:
    with client.stream("GET", "/chunked") as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"first"
        assert not shop.goes_on.is_set()
        shop.goes_on.set()
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
    others = []
    for _ in range(5):
        begun = time.monotonic()
        order(client)
        others.append(time.monotonic() - begun)
    assert slow >= 0.24
    assert min(others) < slow
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


def test_refuse_as_a_mode_closes_the_port_and_keeps_it_and_cuts_what_is_connected(
    wire: Callable[[], socket.socket], client: httpx.Client, proxy: FaultProxy
) -> None:
    order(client)
    talk = wire()
    assert said(talk, b"x") == b"x"
    for edge in ("shop", "echo"):
        proxy.set(edge, Fault(FaultKind.REFUSE))
    with pytest.raises(ConnectionResetError):
        talk.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, proxy.port("shop")), timeout=SOON)
    assert [record.about for record in proxy.fired("echo")] == ["1 connections"]
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
    until(lambda: shop.orders == ["tea", "tea"])


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
    until(lambda: shop.orders == ["tea"])
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


@pytest.mark.parametrize(
    "fault",
    [Fault(FaultKind.PARTITION), Fault(FaultKind.PARTITION, then=Then.STALL), Fault(FaultKind.REFUSE)],
    ids=["cut", "frozen", "refused"],
)
def test_what_divides_nobody_has_met_nothing(
    fault: Fault, wire: Callable[[], socket.socket], proxy: FaultProxy
) -> None:
    proxy.set("echo", fault)
    assert proxy.fired("echo") == []
    proxy.clear("echo")
    assert said(wire(), b"x") == b"x"
    proxy.set("echo", fault)
    assert [record.kind for record in proxy.fired("echo")] == [fault.kind]


def test_a_partition_is_met_by_who_connects_inside_it(
    wire: Callable[[], socket.socket], proxy: FaultProxy
) -> None:
    proxy.set("echo", Fault(FaultKind.PARTITION, then=Then.STALL))
    wire(), wire()
    until(lambda: bool(proxy.fired("echo")))
    until(lambda: proxy.connected("echo") == 2)
    assert [record.about for record in proxy.fired("echo")] == ["1 connections"], "it is one fault"


def test_only_the_answer_to_what_changes_something_is_lost(
    client: httpx.Client, shop: Shop, proxy: FaultProxy
) -> None:
    proxy.plant("shop", Fault(FaultKind.DROP_RESPONSE_AFTER_FORWARD, only_changes=True))
    assert client.get("/3").text == "xxx", "a look-up"
    with pytest.raises(httpx.ReadError):
        order(client)
    until(lambda: shop.orders == ["tea"])
    (record,) = proxy.fired()
    assert record.about == "POST /orders HTTP/1.1"


def test_a_cut_has_every_client_connect_anew(
    wire: Callable[[], socket.socket], proxy: FaultProxy, echo: int
) -> None:
    old = wire()
    assert said(old, b"x") == b"x"
    proxy.plant("echo", Fault(FaultKind.HALF_OPEN))
    proxy.cut("echo")
    with pytest.raises(ConnectionResetError):
        old.recv(1)
    new = wire()
    new.sendall(b"x")
    new.settimeout(SOON)
    with pytest.raises(TimeoutError):
        new.recv(1)


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
    with pytest.raises(FaultDoesNotFit, match="nobody tells on echo"):
        proxy.plant("echo", Fault(FaultKind.DROP_RESPONSE_AFTER_FORWARD, only_changes=True))
    with pytest.raises(FaultDoesNotFit, match="needs milliseconds"):
        Fault(FaultKind.DELAY)
    assert said(wire(), b"x") == b"x"
