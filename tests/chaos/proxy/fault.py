"""What can go wrong on an edge, what an edge is, and the record of a fault that fired."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class FaultKind(StrEnum):
    """Everything the proxy does to a connection or to a request."""

    DELAY = "delay"
    JITTER = "jitter"
    THROTTLE = "throttle"
    RST = "rst"
    REFUSE = "refuse"
    HALF_OPEN = "half_open"
    STALL_AFTER = "stall_after"
    TRUNCATE = "truncate"
    DROP_REQUEST = "drop_request"
    DROP_RESPONSE_AFTER_FORWARD = "drop_response_after_forward"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    PARTITION = "partition"


class Framing(StrEnum):
    """What the proxy understands of the bytes that pass."""

    HTTP = "http"  # HTTP/1.1: request by request
    GRPC = "grpc"  # HTTP/2: knows where a call begins and what answers it
    POSTGRES = "postgres"  # knows a COMMIT, and what its transaction ran
    OPAQUE = "opaque"  # bytes


class Then(StrEnum):
    """How a fault leaves the connection that it met."""

    RESET = "reset"
    STALL = "stall"


SHAPING = frozenset({FaultKind.DELAY, FaultKind.JITTER, FaultKind.THROTTLE})
"""Bytes come late, and all of them."""
AT_CONNECT = frozenset({FaultKind.REFUSE, FaultKind.HALF_OPEN})
"""Met by a new connection; every other kind by a request, or by the next bytes of a client."""
HTTP_ONLY = frozenset({FaultKind.DROP_REQUEST, FaultKind.DUPLICATE, FaultKind.REORDER})
"""Whole messages are taken out, repeated or moved: in a stream of frames that would be garbage, not a fault."""
TELLS_CHANGES = frozenset({Framing.HTTP, Framing.POSTGRES})
"""Where a request that only reads is told from one that changes something."""
_NEEDS = {
    FaultKind.DELAY: "milliseconds",
    FaultKind.JITTER: "milliseconds",
    FaultKind.THROTTLE: "bytes_per_second",
}


class FaultDoesNotFit(ValueError):
    """This edge cannot carry that fault, or the fault lacks a figure."""


@dataclass(frozen=True)
class Fault:
    """One fault. Only the fields that its kind names are read."""

    kind: FaultKind
    milliseconds: int = 0
    """delay, jitter (up to); duplicate: how long after the first the copy leaves; reorder: the longest wait, 0 = 1 s."""
    bytes_per_second: int = 0
    """throttle."""
    after_bytes: int = 0
    """stall_after, truncate: how much of the answer still arrives."""
    then: Then = Then.RESET
    """drop_response_after_forward; partition: `RESET` cuts what is connected, `STALL` freezes it until it heals."""
    matching: str = ""
    """Only a request that contains this; on a gRPC edge the call's whole path, `/package.Service/Method`; on a
    PostgreSQL edge the commit of a transaction that ran a statement with these words."""
    only_changes: bool = False
    """Only a request that may change something: no GET; on a PostgreSQL edge the commit of a transaction that wrote."""

    def __post_init__(self) -> None:
        needed = _NEEDS.get(self.kind)
        if needed and getattr(self, needed) <= 0:
            raise FaultDoesNotFit(f"{self.kind} needs {needed}")


@dataclass(frozen=True)
class Edge:
    """One connection of the stack's picture: who listens behind the proxy, and what is spoken there."""

    name: str
    host: str
    port: int
    framing: Framing = Framing.HTTP
    listen_port: int = 0

    def accepts(self, fault: Fault, *, planted: bool) -> None:
        """Raises FaultDoesNotFit."""
        if fault.kind in HTTP_ONLY and self.framing is not Framing.HTTP:
            raise FaultDoesNotFit(f"{fault.kind} would break the framing of {self.name} ({self.framing})")
        if self.framing is Framing.GRPC and fault.matching and not fault.matching.startswith("/"):
            raise FaultDoesNotFit(f"{fault.matching} is not the whole path of a call")
        if fault.only_changes and self.framing not in TELLS_CHANGES:
            raise FaultDoesNotFit(f"nobody tells on {self.name} ({self.framing}) what only reads")
        if fault.kind is FaultKind.PARTITION and planted:
            raise FaultDoesNotFit("a partition stands until it is cleared; it is not met by one request")


@dataclass(frozen=True)
class Fired:
    """One fault as it happened."""

    monotonic: float
    at: datetime
    edge: str
    kind: FaultKind
    connection: int
    bytes_from_client: int
    bytes_from_server: int
    about: str
    """The request line on an HTTP edge, the call's path where a gRPC fault names one."""


@dataclass(frozen=True)
class Traffic:
    """What passed an edge, and what is still connected."""

    accepted: int
    open: int
    """Clients connected now."""
    upstream_open: int
    """Connections to the listener behind the proxy, copies of requests included."""
    bytes_from_client: int
    bytes_from_server: int
