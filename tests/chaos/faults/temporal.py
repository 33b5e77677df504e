"""Temporal turned against its payments (F14): workflows terminated or reset under way, and the whole store lost.

What brings payments back is what an operator runs, `corridor resume`, by the code of the command itself. Before the
store is lost its histories are exported as `corridor history export` does, so that the audit can still replay them.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar

import psutil
from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.client import WorkflowExecution as Listed
from temporalio.service import RPCError, RPCStatusCode

from api.cli import resume as command
from api.cli.audit.histories import Histories
from api.cli.history import DEFAULT_ARCHIVE, open_archive
from corridor.domain.payment import Status
from corridor.runtime import build, temporal_server
from corridor.runtime import client as temporal_client
from corridor.runtime.histories import Run, from_server
from corridor.runtime.process import ChildFailed
from corridor.runtime.replay_pool import replay_in_parallel
from corridor.runtime.settings import Settings
from corridor.runtime.stack import Stack
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.tables import payments, refunds
from tests.chaos.desk import Desk
from tests.chaos.faults.turns import Shared
from workers.histories.export import export
from workers.resume import OPEN_REFUNDS, Resumed

T = TypeVar("T")
Json = dict[str, Any]

PATIENCE_SECONDS = 90.0
EXPORTS_WITHIN_SECONDS = 600.0
"""Everything since the last loss, from a server that is killed meanwhile; what was archived stays so."""
FINDS_WITHIN_SECONDS = 20.0
PAUSE_SECONDS = 0.5
AMONG = 100
_RUNNING = 'ExecutionStatus = "Running" AND '
VICTIMS: Mapping[str, str] = {
    "payment-moving": _RUNNING + 'WorkflowType = "Payment" AND PaymentStatus != "captured"',
    "refund": _RUNNING + 'WorkflowType = "Refund"',
    "payment-captured": _RUNNING + 'WorkflowType = "Payment" AND PaymentStatus = "captured"',
}
"""Visibility queries. Captured payments wait for the provider and are the most; those that move are struck twice as often."""
_ANY = _RUNNING + 'WorkflowType IN ("Payment", "Refund")'
_TURNS = ("payment-moving", "refund", "payment-moving", "payment-captured")
_FILES = ("", "-wal", "-shm")


class Struck(Protocol):
    """What these faults need of the installation."""

    settings: Settings
    stack: Stack
    database: Database
    source: Path
    lost_with_temporal: set[str]
    desk: Desk
    resumes: Shared[Resumed]

    def fenced(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Kill workers and API; they stay down inside the block."""
        ...


def draw(random: Random, number: int) -> tuple[str, Json]:
    """Whom a termination or a reset strikes, and how long nobody notices."""
    share, seconds = round(random.random(), 3), round(random.uniform(0.0, 3.0), 1)
    return _TURNS[number % len(_TURNS)], {"share": share, "noticed_after_seconds": seconds}


async def terminate(struck: Struck, victims: str, words: Mapping[str, Any]) -> tuple[bool, str]:
    """End a running workflow as nothing in it can notice, and resume a moment later: (it was ended, which)."""

    async def strike(client: Client, victim: Listed) -> None:
        handle = client.get_workflow_handle(victim.id, run_id=victim.run_id)
        await handle.terminate(reason="a fault run")

    victim = await _strike(struck, victims, float(words["share"]), strike)
    if isinstance(victim, str):
        return False, victim
    await asyncio.sleep(float(words["noticed_after_seconds"]))
    resumed = await resume(struck)
    return True, f"{victim.id} {victim.run_id}; resumed {', '.join(resumed.started) or 'nothing'}"


async def reset(struck: Struck, victims: str, words: Mapping[str, Any]) -> tuple[bool, str]:
    """Send a running workflow back to its first task: every step of it runs again."""
    victim = await _strike(struck, victims, float(words["share"]), _reset_to_the_first_task)
    return (False, victim) if isinstance(victim, str) else (True, f"{victim.id} {victim.run_id}")


async def archive(struck: Struck) -> int:
    """`corridor history export` of everything; returns how many histories it wrote in the end."""
    return await _patiently(lambda: _export(struck.settings), EXPORTS_WITHIN_SECONDS)


async def lose(struck: Struck, archived: int) -> tuple[bool, str]:
    """Kill Temporal and delete its database under payments in flight; then what the runbook says, in its order."""
    lost_at = time.monotonic()
    await asyncio.to_thread(_delete_store, struck)
    async with struck.fenced():
        ended = await _patiently(lambda: struck.database.read(_ended))
        struck.lost_with_temporal |= ended
        await _patiently(lambda: _empty_server(struck))
        resumed = await resume(struck)
    seconds = time.monotonic() - lost_at
    return (
        True,
        f"{archived} histories archived before; {len(resumed.started)} resumed {seconds:.1f} s after the loss",
    )


async def resume(struck: Struck) -> Resumed:
    """`corridor resume`, again and again until database and server let it run through."""
    return await struck.resumes.done()


def resumes_of(struck: Struck) -> Shared[Resumed]:
    """A run of the command asks about everything that is open, so several victims share one."""
    return Shared(lambda: _patiently(lambda: _resume_once(struck)))


async def replay_all(struck: Struck) -> Histories:
    """Every history that is left, on the server or in the archive, against the newest build of the run."""
    client = await temporal_client.connect(struck.settings)
    outcome = await replay_in_parallel(_everything(client, struck.settings), struck.settings, struck.source)
    return Histories(replayed=outcome.replayed)


async def _everything(client: Client, settings: Settings) -> AsyncIterator[Run]:
    seen: set[str] = set()
    async for run in from_server(client):
        seen.add(run.run_id)
        yield run
    async for run in open_archive(settings, settings.data_dir / DEFAULT_ARCHIVE).runs():
        if run.run_id not in seen:
            yield run


# --- one workflow --------------------------------------------------------------------------------------------------


async def _strike(
    struck: Struck, victims: str, share: float, strike: Callable[[Client, Listed], Awaitable[None]]
) -> Listed | str:
    """Draw a victim and strike it; one that ends first, or has no task yet, is drawn anew. Else why there was none."""
    deadline, nothing = time.monotonic() + FINDS_WITHIN_SECONDS, "no such workflow was running"
    while time.monotonic() < deadline:
        try:
            client = await temporal_client.connect(struck.settings)
            query = VICTIMS[victims] if time.monotonic() < deadline - FINDS_WITHIN_SECONDS / 2 else _ANY
            found = [it async for it in client.list_workflows(query, limit=AMONG)]
            if found:
                victim = found[int(share * len(found))]
                await strike(client, victim)
                return victim
        except (RPCError, RuntimeError, LookupError) as error:
            nothing = f"{type(error).__name__}: {error}"
        await asyncio.sleep(PAUSE_SECONDS)
    return nothing


async def _reset_to_the_first_task(client: Client, victim: Listed) -> None:
    history = await client.get_workflow_handle(victim.id, run_id=victim.run_id).fetch_history()
    done = [it for it in history.events if it.HasField("workflow_task_completed_event_attributes")]
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=victim.id, run_id=victim.run_id),
            reason="a fault run",
            workflow_task_finish_event_id=done[0].event_id,
            request_id=str(uuid.uuid4()),
        )
    )


# --- the store -----------------------------------------------------------------------------------------------------


def _delete_store(struck: Struck) -> None:
    """Stopped while its files go, so that it cannot open one again; its successor finds none and begins empty."""
    pid = struck.stack.pid("temporal")
    if pid is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).suspend()
    for suffix in _FILES:
        (struck.settings.data_dir / f"temporal.db{suffix}").unlink(missing_ok=True)
    struck.stack.kill("temporal")


async def _empty_server(struck: Struck) -> None:
    """The supervisor has started it with namespace and search attributes; retention is set as the stack sets it."""
    await asyncio.to_thread(struck.stack.wait_ready, "temporal")
    client = await temporal_client.connect(struck.settings)
    await temporal_server.set_retention(client, struck.settings.history_retention_days)


def _ended(connection: Connection) -> set[str]:
    """Payments and refunds that nothing will start again."""
    terminal = [status.value for status in Status if status.is_terminal]
    over = select(payments.c.id).where(payments.c.status.in_(terminal))
    refunded = select(refunds.c.id).where(refunds.c.status.not_in([it.value for it in OPEN_REFUNDS]))
    return {*connection.execute(over).scalars(), *connection.execute(refunded).scalars()}


async def _export(settings: Settings) -> int:
    client = await temporal_client.connect(settings)
    archive = open_archive(settings, settings.data_dir / DEFAULT_ARCHIVE)
    with archive.writing():
        done = await export(client, archive, build.build_id(settings), lambda: datetime.now(UTC))
    return done.written


async def _resume_once(struck: Struck) -> Resumed:
    with struck.desk.gives("resume") as given:
        resumed = await command.resume(struck.settings)
        given.is_done = True
    return resumed


async def _patiently(ask: Callable[[], Awaitable[T]], seconds: float = PATIENCE_SECONDS) -> T:
    """The first answer. Server, database and disk have faults of their own meanwhile; the last one is raised."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await ask()
        except RPCError as error:
            if error.status is RPCStatusCode.INVALID_ARGUMENT or time.monotonic() > deadline:
                raise
        except (RuntimeError, TimeoutError, ChildFailed, DatabaseUnavailable, DBAPIError, OSError):
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(PAUSE_SECONDS)
