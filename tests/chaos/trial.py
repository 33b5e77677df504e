"""A stand for one run, brought up and taken down around it."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from tests.chaos.faults.disk import Disk
from tests.chaos.faults.failover import Cluster
from tests.chaos.journal import Journal
from tests.chaos.plan import Plan
from tests.chaos.proxy.proxy import FaultProxy
from tests.chaos.record import Record, processor_seconds
from tests.chaos.run import perform
from tests.chaos.stand import Stand, settings_for


def trial(plan: Plan, data_dir: Path, report: Path, say: Callable[[str], None]) -> Record:
    """Run the plan below `data_dir` and write its record to `report`.

    On failure what the installation wrote is kept in the report's `installation`: its own disk ends with us.
    """
    disk = Disk(data_dir)
    holds = False
    try:
        record = _on(disk, plan, data_dir, report, say)
        record.seconds["processor"] = processor_seconds()
        record.save(report)
        holds = record.holds
        return record
    finally:
        if not holds:
            disk.keep(report / "installation")
        disk.close()


def _on(disk: Disk, plan: Plan, data_dir: Path, report: Path, say: Callable[[str], None]) -> Record:
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(contextlib.closing(Journal(report / "events.jsonl")))
        proxy = stack.enter_context(FaultProxy(plan.seed))
        server = _server(stack, plan, data_dir, proxy)
        settings = settings_for(data_dir / "installation", server.url() if server else None)
        stand = Stand(settings, plan, proxy, disk, server, say)
        stack.enter_context(stand.stack)
        return asyncio.run(_perform(plan, stand, journal, say))


def _server(stack: contextlib.ExitStack, plan: Plan, data_dir: Path, proxy: FaultProxy) -> Cluster | None:
    if plan.database != "postgresql":
        return None
    return stack.enter_context(Cluster(data_dir, proxy))


async def _perform(plan: Plan, stand: Stand, journal: Journal, say: Callable[[str], None]) -> Record:
    try:
        return await perform(plan, stand, journal, say)
    finally:
        await stand.close()
