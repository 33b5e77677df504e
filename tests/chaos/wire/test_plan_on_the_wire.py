"""What a plan asks of an edge is counted when it met somebody, and a connection that is held for hours meets it too."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from tests.chaos.faults import network
from tests.chaos.faults.network import Network
from tests.chaos.proxy.proxy import FaultProxy
from tests.chaos.wire.servers import PATIENCE, said

STREAM = "worker-temporal"


@pytest.fixture
def edges(proxy: FaultProxy, echo: int, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setattr(network, "MEETS_WITHIN_SECONDS", 1.0)
    monkeypatch.setattr(network, "LOOK_SECONDS", 0.01)
    return Network(proxy, {STREAM: f"127.0.0.1:{echo}"})


@pytest.fixture
def stream(edges: Network) -> Iterator[socket.socket]:
    host, _, port = edges.addresses[STREAM].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as opened:
        assert said(opened, b"x") == b"x"
        yield opened


@pytest.mark.parametrize("words", [
    {"fault": "partition", "then": "reset", "seconds": 0.1},
    {"fault": "partition", "then": "stall", "seconds": 0.1},
    {"fault": "refuse", "seconds": 0.1},
    {"fault": "half_open"},
], ids=lambda words: "-".join(map(str, words.values())))  # fmt: skip
async def test_nobody_there_is_nothing_met(edges: Network, words: dict[str, str | float]) -> None:
    assert await edges.plant(STREAM, words) == (False, "nothing came by")


@pytest.mark.parametrize(
    "words", [{"fault": "partition", "then": "reset", "seconds": 0.1}, {"fault": "refuse", "seconds": 0.1}]
)
async def test_a_stream_that_stays_open_is_cut(
    edges: Network, stream: socket.socket, words: dict[str, str | float]
) -> None:
    assert await edges.plant(STREAM, words) == (True, "1 connections")
    with pytest.raises(ConnectionResetError):
        stream.recv(1)


async def test_a_stream_that_stays_open_is_cut_for_the_next_to_be_half_open(
    edges: Network, stream: socket.socket
) -> None:
    planting = asyncio.create_task(edges.plant(STREAM, {"fault": "half_open"}))
    with pytest.raises(ConnectionResetError):
        await asyncio.to_thread(stream.recv, 1)
    host, _, port = edges.addresses[STREAM].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE):
        fired, _ = await planting
    assert fired
