"""The outbound client reaches public addresses only, whatever a merchant writes or a name server answers."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from corridor.domain.failure import Refusal, Refused
from corridor.notify.addresses import is_allowed
from corridor.notify.outbound import Outbound, Rules, SystemResolver, Trouble, Undelivered, checked_url

NOWHERE = "0.0.0.0"  # noqa: S104 — an address to refuse, not to bind
FORBIDDEN = [
    NOWHERE,
    "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.168.1.1", "198.18.0.1", "198.51.100.7",
    "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "fe80::1",
    "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1", "64:ff9b:1:7f00:0:100::", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:0a00:0001::",
    "2001:0:7f00:1::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:db8::1", "2001:2::1", "3fff::1", "100::1",
    "5f00::1", "not an address", "",
]  # fmt: skip
PUBLIC = ["93.184.216.34", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1"]
LITERALS = [
    "127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "017700000001",
    "127.0.0.0x1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1%25eth0]", "127。0。0。1", "①②⑦.⓪.⓪.①",
    "%31%32%37.0.0.1", "1.1.1.1",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_special_addresses_are_never_allowed(address: str) -> None:
    assert not is_allowed(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed_also_through_translators(address: str) -> None:
    assert is_allowed(address)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", NOWHERE, "fd00:ec2::254", "::ffff:169.254.169.254", "fe80::1"]
)
def test_the_sandbox_too_never_reaches_metadata_services(address: str) -> None:
    assert is_allowed("127.0.0.1", private=True)
    assert is_allowed("::1", private=True)
    assert not is_allowed(address, private=True)


@pytest.mark.parametrize(
    "url",
    [
        *(f"https://{host}/hook" for host in LITERALS),
        "http://shop.example/hook",
        "ftp://shop.example/",
        "file:///etc/passwd",
        "//shop.example/",
        "https:///hook",
        "https://localhost/",
        "https://intranet/",
        "https://shop.example:8443/",
        "https://shop.example:0/",
        "https://shop.example:99999/",
        "https://user@shop.example/",
        "https://user:secret@shop.example/",
        "https://shop.example\\@127.0.0.1/",
        "https://shop.example\\.evil.example/",
        "https://shop_1.example/",
        "https://-shop.example/",
        "https://shop.example./",
        "https://shop\n.example/",
        " https://shop.example/",
        "https://shop.example/" + "a" * 2048,
        "",
    ],
)
def test_such_a_url_is_refused_when_the_endpoint_is_made(url: str) -> None:
    with pytest.raises(Refused) as refused:
        checked_url(url, Rules())
    assert refused.value.code is Refusal.WEBHOOK_URL_NOT_ALLOWED


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://shop.example/hook?a=1", b"shop.example"),
        ("https://SHOP.Example:443/", b"shop.example"),
        ("https://bücher.example/", b"xn--bcher-kva.example"),
    ],
)
def test_a_public_name_over_https_is_accepted(url: str, host: bytes) -> None:
    assert checked_url(url, Rules()).raw_host == host


class Names:
    """A resolver that gives each answer once, as a rebinding name server does, and the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Receiver:
    """A raw HTTP server that says what it is told and keeps what it was sent."""

    def __init__(self, answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n") -> None:
        self.answer = answer
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head + await reader.readexactly(_content_length(head)))
            writer.write(self.answer)
            await writer.drain()
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def _content_length(head: bytes) -> int:
    (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return int(length.partition(b":")[2])


@contextlib.asynccontextmanager
async def listening(receiver: Receiver) -> AsyncIterator[Receiver]:
    served: set[asyncio.Task[object]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        await receiver.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*served), 5)


async def trouble(client: Outbound, url: str) -> Trouble:
    with pytest.raises(Undelivered) as undelivered:
        await client.post(url, {}, b"{}")
    return undelivered.value.trouble


@pytest.mark.parametrize("address", [a for a in FORBIDDEN if a])
async def test_a_name_that_points_inside_is_never_connected(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object, **__: object) -> None:
        pytest.fail("a connection was attempted")

    monkeypatch.setattr(Outbound, "_exchange", connect)
    client = Outbound(Rules(), Names([address]))
    assert await trouble(client, "https://shop.example/") is Trouble.ADDRESS_REFUSED


async def test_one_inner_address_among_public_ones_condemns_the_name() -> None:
    client = Outbound(Rules(), Names(["93.184.216.34", "10.0.0.1"]))
    assert await trouble(client, "https://shop.example/") is Trouble.ADDRESS_REFUSED


async def test_the_name_is_resolved_once_and_the_checked_address_is_the_one_connected() -> None:
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with listening(Receiver()) as receiver:
        client = Outbound(Rules(private=True), names)
        await client.post(f"http://shop.example:{receiver.port}/hook", {}, b"{}")
    assert names.asked == ["shop.example"]
    assert receiver.connections == 1


async def test_every_attempt_resolves_again_so_a_name_moved_inside_is_caught() -> None:
    async with listening(Receiver()) as receiver:
        client = Outbound(Rules(private=True), Names(["127.0.0.1"], ["169.254.169.254"]))
        url = f"http://shop.example:{receiver.port}/"
        await client.post(url, {}, b"{}")
        assert await trouble(client, url) is Trouble.ADDRESS_REFUSED
    assert receiver.connections == 1


async def test_the_request_carries_body_headers_and_the_real_host() -> None:
    async with listening(Receiver()) as receiver:
        client = Outbound(Rules(private=True), Names(["127.0.0.1"]))
        answer = await client.post(
            f"http://shop.example:{receiver.port}/h?x=1#f", {"webhook-id": "evt_1"}, b'{"a":1}'
        )
    assert answer.status_code == 204
    (request,) = receiver.requests
    assert request.startswith(b"POST /h?x=1 HTTP/1.1\r\n")
    assert b"host: shop.example:%d\r\n" % receiver.port in request.lower()
    assert b"webhook-id: evt_1\r\n" in request
    assert request.endswith(b'\r\n\r\n{"a":1}')


async def test_redirects_are_answers_and_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(Receiver()) as inner:
        location = f"http://127.0.0.1:{inner.port}/".encode()
        answer = (
            b"HTTP/1.1 307 Temporary Redirect\r\nlocation: " + location + b"\r\ncontent-length: 0\r\n\r\n"
        )
        async with listening(Receiver(answer)) as receiver:
            got = await Outbound(Rules(private=True)).post(f"http://127.0.0.1:{receiver.port}/", {}, b"{}")
    assert (got.status_code, inner.connections) == (307, 0)


async def test_proxies_and_cookies_of_the_environment_play_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(
        Receiver(b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\ncontent-length: 0\r\n\r\n")
    ) as receiver:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        client = Outbound(Rules(private=True))
        for _ in range(2):
            await client.post(f"http://127.0.0.1:{receiver.port}/", {}, b"{}")
    assert receiver.connections == 2
    assert not any(b"cookie" in request.lower() for request in receiver.requests)


async def test_a_receiver_that_never_answers_times_out() -> None:
    async with listening(Receiver(b"")) as receiver:
        client = Outbound(Rules(private=True), total_seconds=0.2)
        assert await trouble(client, f"http://127.0.0.1:{receiver.port}/") is Trouble.TIMED_OUT


async def test_an_endless_body_neither_delays_nor_fills_us() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n"
    async with listening(Receiver(head + b"x" * 1_000_000)) as receiver:
        client = Outbound(Rules(private=True), total_seconds=5)
        assert (await client.post(f"http://127.0.0.1:{receiver.port}/", {}, b"{}")).status_code == 200


async def test_garbage_instead_of_http_is_told_apart_from_silence() -> None:
    async with listening(Receiver(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")) as receiver:
        client = Outbound(Rules(private=True))
        assert await trouble(client, f"http://127.0.0.1:{receiver.port}/") is Trouble.NOT_HTTP
    assert await trouble(client, f"http://127.0.0.1:{receiver.port}/") is Trouble.UNREACHABLE


async def test_a_second_address_is_tried_only_when_no_connection_was_made() -> None:
    async with listening(Receiver(b"garbage\r\n\r\n")) as receiver:
        client = Outbound(Rules(private=True), Names(["127.0.0.9", "127.0.0.1", "127.0.0.1"]))
        assert await trouble(client, f"http://shop.example:{receiver.port}/") is Trouble.NOT_HTTP
    assert receiver.connections == 1


async def test_a_plain_text_receiver_fails_the_handshake_and_gets_no_message() -> None:
    async with listening(Receiver(b"HTTP/1.1 200 OK\r\n\r\n")) as receiver:
        client = Outbound(Rules(private=True), Names(["127.0.0.1"]), total_seconds=2)
        found = await trouble(client, f"https://shop.example:{receiver.port}/")
    assert found in (Trouble.TLS_FAILED, Trouble.TIMED_OUT)
    assert receiver.requests == []


async def test_a_name_without_addresses_is_told_so() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("no such host")

    assert await trouble(Outbound(Rules(), unknown), "https://shop.example/") is Trouble.NAME_NOT_FOUND
    assert await trouble(Outbound(Rules(), Names([])), "https://shop.example/") is Trouble.NAME_NOT_FOUND


async def test_silent_name_servers_of_one_merchant_hold_up_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look-up in the system cannot be interrupted. Neither other look-ups nor the loop's own threads wait for it."""
    answers = threading.Event()

    def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if host.startswith("silent"):
            answers.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = SystemResolver(threads=4)
    outbound = Outbound(Rules(), resolver, total_seconds=0.05)
    try:
        for number in range(40):
            with pytest.raises(Undelivered, match=Trouble.TIMED_OUT):
                await outbound.post(f"https://silent{number % 3}.example/hook", {}, b"")
        async with asyncio.timeout(30):
            assert await resolver("well.example", 443) == ["93.184.216.34"]
            assert await asyncio.get_running_loop().run_in_executor(None, lambda: "free") == "free"
    finally:
        answers.set()


async def test_a_name_is_looked_up_again_for_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared is a look-up under way, never its answer: a second answer may be another."""
    addresses = iter(["93.184.216.34", "1.1.1.1"])

    def look_up(_host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(addresses), port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = SystemResolver()
    first = await asyncio.gather(resolver("a.example", 443))
    assert [first, await resolver("a.example", 443)] == [[["93.184.216.34"]], ["1.1.1.1"]]
