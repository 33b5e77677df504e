"""Figures that are counted rather than timed: history size, replay, database transactions, memory."""

import asyncio
import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psutil
from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, WorkflowRunner

from benchmarks import instant
from benchmarks.contenders import AMOUNT, Contender, Payment
from benchmarks.stage import MERCHANT, Stage, client_of
from corridor.domain.effect import Operation, effect_key
from corridor.domain.ids import Prefix, new_id
from corridor.providers.port import Authorise
from corridor.runtime import temporal_server
from workers import fleet, wiring
from workflows import names

WARM_UP = 5
_NO_WORK = ("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK", "PRAGMA")


# --- histories -----------------------------------------------------------------------------------------------


async def histories_of(client: Client, payment_ids: Sequence[str]) -> list[WorkflowHistory]:
    """Whole histories, from acceptance to settlement."""
    handles = [client.get_workflow_handle(names.payment_workflow_id(one)) for one in payment_ids]
    return [await handle.fetch_history() for handle in handles]


def history_size(on: Stage, history: WorkflowHistory) -> dict[str, int]:
    """Events, and bytes as the SDK exports them, without white space, and as `temporal workflow show` prints them."""
    document = json.loads(history.to_json())
    return {
        "history_events": len(history.events),
        "history_bytes": len(history.to_json().encode()),
        "history_bytes_compact": len(json.dumps(document, separators=(",", ":")).encode()),
        "history_bytes_shown": len(_shown(on, history.workflow_id)),
    }


def _shown(on: Stage, workflow_id: str) -> bytes:
    command = [
        str(temporal_server.executable()), "workflow", "show", "--output", "json", "--workflow-id", workflow_id,
        "--namespace", "bench-payment", "--address", f"{on.settings.host}:{on.settings.temporal_port}",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, check=True, timeout=30).stdout  # noqa: S603 — the wheel's own


async def replay_rates(client: Client, histories: Sequence[WorkflowHistory]) -> dict[str, float]:
    """Histories a second on one core: whole time of the processor, all threads counted, once the replayer runs.

    Without the sandbox, as the processes that serve payments run, and with it, as tests and the replay gate do.
    """
    return {
        "replay_per_second": await _replay_rate(client, histories, UnsandboxedWorkflowRunner()),
        "replay_per_second_sandboxed": await _replay_rate(client, histories, fleet.runner()),
    }


async def _replay_rate(client: Client, histories: Sequence[WorkflowHistory], runner: WorkflowRunner) -> float:
    replayer = Replayer(
        workflows=wiring.WORKFLOWS, data_converter=client.data_converter, workflow_runner=runner
    )

    async def each(some: Sequence[WorkflowHistory]) -> Any:
        for history in some:
            yield history

    await replayer.replay_workflows(each(histories[:WARM_UP]))  # the first loads what the others use
    begun = time.process_time()
    await replayer.replay_workflows(each(histories))
    return round(len(histories) / (time.process_time() - begun), 1)


# --- database ------------------------------------------------------------------------------------------------


@dataclass
class Transactions:
    """Transactions of this process, told apart by what they did."""

    writes: int = 0
    reads: int = 0
    statements: int = 0
    _wrote: set[int] = field(default_factory=set)

    def note(self, connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(_NO_WORK):
            return
        self.statements += 1
        if not statement.startswith("SELECT"):
            self._wrote.add(id(connection))

    def end(self, connection: Connection) -> None:
        if id(connection) in self._wrote:
            self.writes += 1
            self._wrote.discard(id(connection))
        else:
            self.reads += 1


@contextlib.contextmanager
def counted() -> Iterator[Transactions]:
    """Count every transaction that any engine of this process commits meanwhile."""
    seen = Transactions()
    listeners: dict[str, Callable[..., None]] = {"before_cursor_execute": seen.note, "commit": seen.end}
    for name, listener in listeners.items():
        event.listen(Engine, name, listener)
    try:
        yield seen
    finally:
        for name, listener in listeners.items():
            event.remove(Engine, name, listener)


async def transactions_before_answer(on: Stage) -> dict[str, int]:
    """One payment with its workers in this process: everything the database did until the answer was read."""
    on.workers.stop(["payment"], 6.0)
    client = await client_of(on, "payment")
    wired = instant.wire(on.instant_settings)
    payment = Payment("counted", client, wired.edge.database, MERCHANT.id)
    async with fleet.running(wired, client, fleet.GRACE):
        await payment.answer()  # opens connections, which is no transaction of a payment
        with counted() as seen:
            await payment.answer()
    await wired.close()
    return {
        "db_transactions_before_answer": seen.writes,
        "db_reads_before_answer": seen.reads,
        "db_statements_before_answer": seen.statements,
    }


# --- memory and calls ----------------------------------------------------------------------------------------


async def megabytes_per_thousand(contender: Contender, pid: int | None, count: int) -> float:
    """Resident memory a worker takes for a thousand answered payments that wait for their settlement."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    waiting = iter(range(count))

    async def one_after_another() -> None:
        for _ in waiting:
            await contender.answer()

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(one_after_another())
    grown: int = process.memory_info().rss - before
    return round(grown / count * 1000 / 2**20, 1)


async def calls_alone(on: Stage, count: int) -> dict[str, float]:
    """What the calls to the outside take by themselves: one charge at the sandbox, one round of the market."""
    wired = wiring.build(on.settings)
    provider, desk = wired.edge.providers["stripe"], wired.edge.desk

    async def charge() -> None:
        payment_id = new_id(Prefix.PAYMENT, datetime.now(UTC))
        key = effect_key(payment_id, Operation.SALE, 1)
        instruction = Authorise(
            effect_key=key, payment_id=payment_id, amount=AMOUNT, payment_token="pm_card_visa", capture=True  # noqa: S106
        )  # fmt: skip
        await provider.send(key, Operation.SALE, provider.freeze(instruction))

    async def market() -> None:
        await desk.ask(AMOUNT, "CNY", wired.edge.lock_seconds, datetime.now(UTC))

    found = {
        "provider_call_p50_ms": await _median_ms(charge, count),
        "market_call_p50_ms": await _median_ms(market, count),
    }
    await wired.close()
    return found


async def _median_ms(call: Callable[[], Coroutine[Any, Any, None]], count: int) -> float:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await call()
        times.append(time.perf_counter() - begun)
    return round(1000 * statistics.median(times), 1)
