"""Two real servers for the fault proxy's tests, and what its clients say and wait for."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

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
        self.goes_on = threading.Event()
        """Set by whoever has read the first part of an answer that is made in two."""
        super().__init__((LOOPBACK, 0), Counter)

    def handle_error(self, *_: Any) -> None:
        """A client that is reset is what these tests are about."""


class Counter(BaseHTTPRequestHandler):
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
        self.server.goes_on.wait(PATIENCE)
        self.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """Tests read `orders`."""


def echo_until(listener: socket.socket, stop: threading.Event) -> None:
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


def frame(kind: int, stream: int, payload: bytes) -> bytes:
    """One frame of HTTP/2 (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3) + bytes([kind, 0]) + stream.to_bytes(4) + payload
