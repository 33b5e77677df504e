"""The tuned settings and the reason for each; values are read from where the code uses them, never written here."""

import asyncio
import inspect
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from unittest import mock

from sqlalchemy import Connection
from temporalio.client import Client

from benchmarks import instant
from benchmarks.scale.steps import PROVIDER
from corridor.ledger import store
from corridor.runtime import temporal_server
from corridor.runtime.settings import Settings
from corridor.storage import database as databases
from corridor.storage.database import Database
from workers import fleet
from workers.relay import relay
from workflows.starts import DEFAULT_WINDOWS

PRAGMAS = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint", "cache_size")
NO_CLIENT = cast("Client", None)
"""Nothing here is started, so nobody asks it."""


@dataclass(frozen=True)
class Tuned:
    where: str
    name: str
    value: str
    reason: str


WHY: dict[str, str] = {
    "workflow_task_poller_behavior": "a fixed number gives one poll in five to new workflows: under load the buyer "
    "waits behind older payments (p99 3.2 s against 1.0 s)",
    "activity_task_poller_behavior": "polls grow with the queue; idle workers hold few connections to the server",
    "max_cached_workflows": "a payment's later steps meet its workflow in memory instead of replaying it; each "
    "costs some ten kilobytes, so the bound keeps a worker's memory flat",
    "sticky_queue_schedule_to_start_timeout": "a killed worker's payments wait so long for it before another replays them",
    "max_concurrent_workflow_tasks": "more than a core can run at once; a task never waits for a slot",
    "max_concurrent_local_activities": "all are database transactions: beyond the writers a database serves they queue there",
    "max_concurrent_activities": "calls wait for others' networks, not for us; a slow provider fills its own queue's slots",
    "graceful_shutdown_timeout": "longer than the slowest provider call: what was sent is recorded before we end",
    "journal_mode": "readers and the writer do not block each other",
    "synchronous": "money: a commit survives a power cut (2); Temporal's own file survives a killed process (1)",
    "foreign_keys": "SQLite leaves them off",
    "busy_timeout": "processes queue for the one writer instead of failing; longer than any transaction",
    "wal_autocheckpoint": "SQLite's default: pages until the log is folded back",
    "cache_size": "SQLite's default (negative: KiB); indexes are read through the system's cache",
    "reader threads": "lists run beside the writer; more than the cores would only wait for the interpreter",
    "pool_size": "connections of one process to PostgreSQL; transactions are a few milliseconds long",
    "max_overflow": "for a moment's rush; beyond it callers wait for a connection, not the server for memory",
    "balance shards": "accounts that every payment touches: more than the transactions one database has open",
    "retries": "of a whole transaction, where only the timing was wrong",
}
_RELAY_WHY = "seconds between looks while there is work, and while there is none"
_TEMPORAL_WHY = {
    "history.transferProcessorMaxPollRPS": "the default of 20 puts up to 50 ms before every dispatch, and all steps "
    "of one payment share a shard",
    "journal_mode": "2.5 to 5 times the default's speed, with the next one",
    "synchronous": "survives a killed process; what a power cut takes, `corridor resume` starts again",
}


def table(settings: Settings) -> list[Tuned]:
    """Every tuned setting of workers, databases, relay and the embedded server."""
    return [
        *_workers(settings),
        *_relay(settings),
        *asyncio.run(_sqlite(settings)),
        *_postgres(),
        *_temporal(),
    ]


def _workers(settings: Settings) -> list[Tuned]:
    """What `fleet` hands to the SDK, noted instead of run: a worker needs a server to exist."""
    wired = instant.wire(settings)
    found = []
    with mock.patch.object(fleet, "Worker") as made:
        fleet.core_worker(wired, NO_CLIENT, fleet.GRACE, False, fleet.CACHED_WORKFLOWS, None)
        fleet.settlement_worker(wired, NO_CLIENT, fleet.GRACE, False, fleet.CACHED_WORKFLOWS, None)
        fleet.webhook_worker(wired, NO_CLIENT, fleet.GRACE, None)
        fleet.provider_worker(wired, NO_CLIENT, PROVIDER, fleet.GRACE, None)
    of = ("core worker", "settlement worker", "webhook worker", "provider worker")
    for call, who in zip(made.call_args_list, of, strict=True):
        found += [
            Tuned(who, name, _text(value), WHY[name]) for name, value in call.kwargs.items() if name in WHY
        ]
    asyncio.run(wired.close())
    return found


def _relay(settings: Settings) -> list[Tuned]:
    wired = instant.wire(settings)
    edge = wired.edge
    loops = relay.loops(edge.database, NO_CLIENT, edge.providers, DEFAULT_WINDOWS, lambda: datetime.now(UTC))
    asyncio.run(wired.close())
    return [
        Tuned("relay", loop.name, f"{loop.busy_seconds} / {loop.idle_seconds}", _RELAY_WHY) for loop in loops
    ]


async def _sqlite(settings: Settings) -> list[Tuned]:
    database = Database(f"sqlite:///{Path(settings.data_dir) / 'pragmas.db'}")
    values = await database.read(_pragmas)
    await database.close()
    return [
        *(Tuned("SQLite", name, value, WHY[name]) for name, value in values.items()),
        Tuned("SQLite", "reader threads", str(databases.SQLITE_READERS), WHY["reader threads"]),
    ]


def _pragmas(connection: Connection) -> dict[str, str]:
    return {name: str(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()) for name in PRAGMAS}


def _postgres() -> list[Tuned]:
    """A pool as `Database` makes it; it connects to nobody."""
    size = inspect.signature(Database).parameters["pool_size"].default
    pool: Any = Database("postgresql://nobody@127.0.0.1/nothing").engine.pool
    values = {
        "pool_size": str(size), "max_overflow": str(pool._max_overflow),  # noqa: SLF001 — SQLAlchemy shows it nowhere else
        "retries": str(databases.RETRIES), "balance shards": str(store.SHARDS),
    }  # fmt: skip
    return [Tuned("PostgreSQL", name, value, WHY[name]) for name, value in values.items()]


def _temporal() -> list[Tuned]:
    known = {**temporal_server.DYNAMIC_CONFIG, **temporal_server.SQLITE_PRAGMAS}
    return [Tuned("Temporal", name, value, _TEMPORAL_WHY[name]) for name, value in known.items()]


def _text(value: Any) -> str:
    if hasattr(value, "total_seconds"):
        return f"{value.total_seconds():.0f} s"
    return str(value)
