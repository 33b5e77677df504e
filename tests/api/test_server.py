"""The server around the application: a client whose machine is gone does not keep its connection, or its place, for long."""

import socket

import pytest
from fastapi import FastAPI

from api.server import GONE_AFTER_MILLISECONDS, server_of
from corridor.runtime.ports import free_ports
from corridor.runtime.settings import load


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such option")
async def test_a_client_that_vanished_is_noticed() -> None:
    server = server_of(FastAPI(), load(), free_ports(1)[0])
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    try:
        (listener,) = (it for opened in server.servers for it in opened.sockets)
        told = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert told == GONE_AFTER_MILLISECONDS
    finally:
        await server.shutdown()
