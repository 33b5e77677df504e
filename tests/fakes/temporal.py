"""A Temporal front end as relay code sees it: starts and signals, ids that exist, and outages."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from corridor.providers.stripe.capabilities import CALL_TIMEOUT_SECONDS
from workflows.steps import RECORDING_SECONDS

LIMIT = timedelta(seconds=CALL_TIMEOUT_SECONDS + RECORDING_SECONDS)


class FakeTemporal:
    """Keeps the server's promise on ids: running is returned, closed is refused, one run ever under each."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[str, Any]] = {}
        self.closed: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.options: dict[str, dict[str, Any]] = {}
        self.signals: list[tuple[str, str, Any]] = []
        self.broken: set[str] = set()
        """Ids that fail with UNAVAILABLE."""
        self._started = asyncio.Condition()

    async def start_workflow(self, workflow: str, argument: Any, *, id: str, **options: Any) -> None:  # noqa: A002 — the client's name for it
        self.asked[id] += 1
        self._answer(id)
        assert options["id_reuse_policy"] is WorkflowIDReusePolicy.REJECT_DUPLICATE
        assert options["id_conflict_policy"] is WorkflowIDConflictPolicy.USE_EXISTING
        if id in self.closed:
            raise WorkflowAlreadyStartedError(id, workflow)
        if id not in self.running:
            self.running[id] = (workflow, argument)
            self.options[id] = options
            async with self._started:
                self._started.notify_all()

    async def until_running(self, count: int) -> None:
        """Wait until so many workflows were started."""
        async with self._started:
            await self._started.wait_for(lambda: len(self.running) >= count)

    def get_workflow_handle(self, workflow_id: str) -> "FakeHandle":
        return FakeHandle(self, workflow_id)

    def _answer(self, workflow_id: str) -> None:
        if workflow_id in self.broken:
            raise RPCError("the server is away", RPCStatusCode.UNAVAILABLE, b"")


class FakeHandle:
    """Signals reach running workflows only."""

    def __init__(self, server: FakeTemporal, workflow_id: str) -> None:
        self._server, self._workflow_id = server, workflow_id

    async def signal(self, name: str, argument: Any, **_: Any) -> None:
        self._server._answer(self._workflow_id)
        if self._workflow_id not in self._server.running:
            raise RPCError("workflow not found", RPCStatusCode.NOT_FOUND, b"")
        self._server.signals.append((self._workflow_id, name, argument))


def attempt() -> ActivityEnvironment:
    """Where a test runs one attempt of a money call, with the time that workflows give it."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, start_to_close_timeout=LIMIT)
    return environment
