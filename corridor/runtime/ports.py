"""TCP ports of the embedded stack: which are taken and by whom, and free ones for tests and demos."""

import contextlib
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from corridor.runtime.settings import PREFIX, Settings

# Label for people, by the setting that moves the port. Metrics ports are counted up from one setting.
STACK_PORTS: Mapping[str, str] = {
    "api_port": "API",
    "temporal_port": "Temporal",
    "temporal_ui_port": "Temporal UI",
    "sandbox_port": "provider sandbox",
    "codec_port": "codec server",
}


class PortTaken(Exception):
    """Another program listens where the stack would; the text names port, program and setting."""


def is_free(host: str, port: int) -> bool:
    """True if a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a connection of the last run in TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class Claim:
    """A port somebody will listen on, what for, and the setting that moves it."""

    port: int
    label: str
    setting: str


def require_free(host: str, claims: Sequence[Claim]) -> None:
    """Raise `PortTaken` naming every claimed port that is taken, or claimed twice."""
    problems = [
        f"port {claim.port} ({claim.label}) is taken{_by_whom(claim.port)};"
        f" choose another with {PREFIX}{claim.setting.upper()}"
        for claim in claims
        if not is_free(host, claim.port)
    ]
    problems += [
        f"port {port} is wanted twice: {', '.join(c.setting for c in claims if c.port == port)}"
        for port, count in Counter(claim.port for claim in claims).items()
        if count > 1
    ]
    if problems:
        raise PortTaken("\n".join(problems))


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports nobody listens on at this moment, all different, and given to nobody else for a minute.

    Each leaves a closed connection behind (TIME_WAIT): the kernel passes such a port by when another program asks for
    any free one, and the server it is meant for, which sets SO_REUSEADDR, may listen there all the same.
    """
    with contextlib.ExitStack() as held:
        return [_left_waiting(held, host) for _ in range(count)]


def _left_waiting(held: contextlib.ExitStack, host: str) -> int:
    probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind((host, 0))
    probe.listen(1)
    with socket.create_connection(probe.getsockname()) as client:
        accepted, _ = probe.accept()
        accepted.close()  # whoever closes first keeps the wait, and that must be the port's own side
        client.recv(1)
    return int(probe.getsockname()[1])


def on_free_ports(settings: Settings) -> Settings:
    """The same settings with every port of the stack moved to a free one, metrics switched off."""
    ports = free_ports(len(STACK_PORTS), settings.host)
    return settings.model_copy(update={**dict(zip(STACK_PORTS, ports, strict=True)), "metrics_port": 0})


def _by_whom(port: int) -> str:
    """Best effort: other users' sockets have no visible owner."""
    try:
        listeners = psutil.net_connections("tcp")
        owner = next(
            (c.pid for c in listeners if c.status == psutil.CONN_LISTEN and c.laddr.port == port), None
        )
        return f" by {psutil.Process(owner).name()} (pid {owner})" if owner else ""
    except psutil.Error:
        return ""
