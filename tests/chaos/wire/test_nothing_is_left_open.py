"""The fault proxy leaves nothing open behind it, and is quick enough to be on every edge."""

import asyncio
import contextlib
import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.chaos.proxy import http2
from tests.chaos.proxy.fault import Edge, Fault, FaultKind, Framing, Then
from tests.chaos.proxy.proxy import FaultProxy
from tests.chaos.wire.servers import LOOPBACK, SOON, Shop, frame, order, until

ALONE = (FaultKind.REORDER, FaultKind.REFUSE)
"""One client at a time lets nobody pass, and is not connected when the port closes: it meets neither."""


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind is not FaultKind.PARTITION])
def test_no_descriptor_is_left_behind(kind: FaultKind, shop: Shop) -> None:
    fault = Fault(kind, milliseconds=5, bytes_per_second=100_000, then=Then.STALL)
    before = _descriptors()
    with FaultProxy() as proxy:
        port = proxy.open(Edge("shop", LOOPBACK, shop.server_address[1]))
        proxy.set("shop", fault)
        for sent in range(200):
            if sent >= 8 and (kind in ALONE or proxy.fired("shop", kind)):
                break  # a slow machine needs more tries until an answer comes inside the client's patience
            with (
                contextlib.suppress(httpx.TransportError),
                httpx.Client(base_url=f"http://{LOOPBACK}:{port}", trust_env=False) as client,
            ):
                order(client, seconds=0.05)
        until(lambda: proxy.traffic("shop").open == 0)
        until(lambda: proxy.traffic("shop").upstream_open == 0)
        assert proxy.fired("shop", kind) or kind in ALONE
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
    begun = time.process_time()
    done = await asyncio.gather(*(_exchanges(port, 1_000) for _ in range(4)))
    rate = sum(done) / (time.process_time() - begun)
    server.close()
    await server.wait_closed()
    assert rate > 500, (
        f"{rate:.0f} exchanges in a second of the processor, client and server of the test included"
    )


async def _exchanges(port: int, count: int) -> int:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    message = frame(0, 1, b"z" * 91)
    writer.write(http2.PREFACE)
    await reader.readexactly(len(http2.PREFACE))
    for _ in range(count):
        writer.write(message)
        await reader.readexactly(len(message))
    writer.close()
    await writer.wait_closed()
    return count
