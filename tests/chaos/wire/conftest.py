"""A proxy in front of a shop that speaks HTTP and of a server that sends every byte back."""

import socket
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.chaos.proxy.fault import Edge, Framing
from tests.chaos.proxy.proxy import FaultProxy
from tests.chaos.wire.servers import LOOPBACK, PATIENCE, Shop, echo_until


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
    thread = threading.Thread(target=echo_until, args=(listener, stop))
    thread.start()
    yield listener.getsockname()[1]
    stop.set()
    thread.join()
    listener.close()


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
