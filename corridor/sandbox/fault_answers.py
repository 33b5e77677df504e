"""How the faults that one call met show on its connection, before and after its effect."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from corridor.sandbox.faults import Fault, FaultKind
from corridor.sandbox.transport import DropConnection, ResetConnection, WithholdAnswer


@dataclass(frozen=True)
class Misfortune:
    """All faults of one call, each with its cause: a rule's id, or `token`."""

    faults: Sequence[tuple[str, Fault]]

    def get(self, kind: FaultKind) -> Fault | None:
        """The fault of this kind, if the call met one."""
        return next((fault for _, fault in self.faults if fault.kind is kind), None)

    def has(self, kind: FaultKind) -> bool:
        """Whether the call met this kind."""
        return self.get(kind) is not None

    async def before(self, hold_seconds: int) -> Response | None:
        """Wait out latency; a response if the connection breaks before anything is executed."""
        latency = self.get(FaultKind.LATENCY)
        if latency is not None:
            await asyncio.sleep(latency.milliseconds / 1000)
        if self.has(FaultKind.RESET_BEFORE_EFFECT):
            return ResetConnection()
        return self._timeout(FaultKind.TIMEOUT_BEFORE_EFFECT, hold_seconds)

    def after(self, hold_seconds: int) -> Response | None:
        """A response if the connection breaks although the effect is committed."""
        if self.has(FaultKind.RESET_AFTER_EFFECT):
            return ResetConnection()
        return self._timeout(FaultKind.TIMEOUT_AFTER_EFFECT, hold_seconds)

    def _timeout(self, kind: FaultKind, hold_seconds: int) -> Response | None:
        fault = self.get(kind)
        if fault is None:
            return None
        return WithholdAnswer(hold_seconds) if fault.hold_open else DropConnection()


def garbled(body: bytes) -> bytes:
    """The first half of the answer, then what a broken proxy might add: not JSON, and not empty."""
    return body[: len(body) // 2] + b"\x00<html><title>Bad Gateway</title>"
