"""Export: what Temporal holds and the archive does not yet, on demand and continuously, with the lag it has.

A run that ended is exported once, to its end. One that is running is exported as it stands when asked for, and in a
continuous export every so often, because payments may run for weeks and Temporal's store may be lost any day.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError

from corridor.runtime.histories import Run, fetch, listed, query_since
from corridor.runtime.patience import while_away
from workers.histories.archive import Archive, Line

OVERLAP = timedelta(minutes=5)
"""How far behind the newest end of a run it knows a continuous export looks: Temporal's list of runs lags a little."""
FETCHED_AT_ONCE = 8


@dataclass(frozen=True)
class Pass:
    """One pass: runs seen, files written, and how long the oldest end of a run had waited to be archived.

    Ends are timed by Temporal's clock, archiving by the one here. That one being ahead makes the lag longer than it is;
    `clock_behind_seconds` is by how much it was found to be behind, which is part of the lag.
    """

    seen: int
    written: int
    bytes: int
    lag_seconds: float
    head: str
    took_seconds: float
    trouble: str | None = None
    """Why nothing could be exported; the lag is then counted from the last pass that could."""
    newest_end: datetime | None = None
    """Of the runs that were listed, by Temporal's clock."""
    clock_behind_seconds: float = 0.0

    def __str__(self) -> str:
        if self.trouble is not None:
            return f"nothing archived: {self.trouble}; lag {self.lag_seconds:.1f} s"
        slow = self.clock_behind_seconds
        behind = f" (the clock here is {slow:.1f} s behind Temporal's, or more)" if slow else ""
        return (
            f"{self.written} of {self.seen} histories archived ({self.bytes} bytes) in {self.took_seconds:.1f} s; "
            f"lag {self.lag_seconds:.1f} s{behind}; head {self.head}"
        )


@dataclass
class Reached:
    """Every run that had ended by `at` is in the archive; None until a first pass has gone through all it was asked for.

    A first pass that looks back to a moment only takes what ended before for archived.
    """

    at: datetime | None = None

    def lag_seconds(self, now: datetime) -> float | None:
        """The age that the oldest end of a run can have which is not archived."""
        return None if self.at is None else (now - self.at).total_seconds()


async def export(
    client: Client,
    archive: Archive,
    build: str,
    clock: Callable[[], datetime],
    since: datetime | None = None,
    *,
    with_running: bool = True,
    clock_behind_seconds: float = 0.0,
) -> Pass:
    """Archive what is new or has grown. Runs of which Temporal lists no more events than archived are not fetched.

    `clock_behind_seconds` is what the pass before found.
    """
    began, seen = clock(), 0
    lines: list[Line] = []
    newest_end: datetime | None = None
    query = query_since("", since) if with_running else _closed_since(since)
    async for wanted in _wanted(client, archive, query):
        seen += len(wanted.listed)
        newest_end = max(filter(None, (newest_end, *wanted.ends)), default=None)
        for run in await wanted.fetched(client):
            line = await asyncio.to_thread(archive.add, run, clock(), build)
            if line is not None:
                lines.append(line)
    head = archive.seal_head(clock())
    took = (clock() - began).total_seconds()
    lag, behind = _lag(lines, clock_behind_seconds)
    size = sum(line.bytes for line in lines)
    return Pass(seen, len(lines), size, lag, head, took, newest_end=newest_end, clock_behind_seconds=behind)


async def follow(
    client: Client,
    archive: Archive,
    build: str,
    clock: Callable[[], datetime],
    since: datetime | None,
    every: timedelta,
    running_every: timedelta,
    reached: Reached,
) -> AsyncIterator[Pass]:
    """Passes until the caller stops asking; each tells its lag, which must stay far below the retention.

    A server that is away for a while, or a disk that is full, costs passes and no history: the next one looks back to
    where the last that succeeded had got to.
    """
    running_at, started, behind = datetime.min.replace(tzinfo=UTC), clock(), 0.0
    while True:
        began = clock()
        # Before the last time only where the clock was put back, and then nobody knows how long ago that was.
        with_running = not timedelta(0) <= began - running_at < running_every
        reached.at = None if reached.at is None else min(reached.at, began)
        try:
            done = await export(
                client, archive, build, clock, since, with_running=with_running, clock_behind_seconds=behind
            )
        except (RPCError, OSError) as error:
            lag = (clock() - (reached.at or started)).total_seconds()
            trouble = f"Temporal: {error.message}" if isinstance(error, RPCError) else f"the archive: {error}"
            done = Pass(0, 0, 0, lag, archive.head, 0.0, trouble=trouble)
        else:
            running_at = began if with_running else running_at
            since, reached.at = _looks_back_to(since, done.newest_end, began), began
            behind = done.clock_behind_seconds
        yield done
        left = every - max(timedelta(0), clock() - began)
        await asyncio.sleep(max(0.0, left.total_seconds()))


@dataclass(frozen=True)
class _Wanted:
    """Some listed runs, and those of them that are to be fetched."""

    listed: list[WorkflowExecution]
    missing: list[WorkflowExecution]

    @property
    def ends(self) -> list[datetime]:
        return [it.close_time for it in self.listed if it.close_time is not None]

    async def fetched(self, client: Client) -> list[Run]:
        runs = await asyncio.gather(*(fetch(client, it.id, it.run_id) for it in self.missing))
        return [run for run in runs if run is not None]


async def _wanted(client: Client, archive: Archive, query: str) -> AsyncIterator[_Wanted]:
    """Groups of runs, small enough that few histories are held in memory at a time."""
    group: list[WorkflowExecution] = []
    async for execution in listed(client, query):
        group.append(execution)
        if len(group) >= FETCHED_AT_ONCE:
            yield await _group(client, archive, group)
            group = []
    if group:
        yield await _group(client, archive, group)


async def _group(client: Client, archive: Archive, group: list[WorkflowExecution]) -> _Wanted:
    known = await asyncio.gather(*(_is_archived(client, archive, execution) for execution in group))
    return _Wanted(group, [it for it, is_known in zip(group, known, strict=True) if not is_known])


async def _is_archived(client: Client, archive: Archive, execution: WorkflowExecution) -> bool:
    """The list knows how long a run is only when it has ended; a running one is asked, which costs no history."""
    if execution.close_time is not None:
        return archive.holds(execution.run_id, None)
    if not archive.holds(execution.run_id, 1):
        return False
    described = await while_away(client.get_workflow_handle(execution.id, run_id=execution.run_id).describe)
    return archive.holds(execution.run_id, described.history_length)


def _closed_since(since: datetime | None) -> str:
    moment = "" if since is None else f' AND CloseTime >= "{since.astimezone(UTC).isoformat()}"'
    return f'ExecutionStatus != "Running"{moment}'


def _looks_back_to(since: datetime | None, newest_end: datetime | None, began: datetime) -> datetime | None:
    """Where the next pass begins: by Temporal's own clock, for it is what ends are compared with.

    By ours alone, were it ahead, every run that ends between two passes would be passed over for good. A host of
    Temporal's whose clock is ahead would do the same, and of the two clocks the earlier does no harm.
    """
    if newest_end is None:
        return since
    bound = min(newest_end, began) - OVERLAP
    return bound if since is None else max(since, bound)


def _lag(lines: Sequence[Line], behind: float) -> tuple[float, float]:
    """The longest wait of a run that ended, and how far the clock here is behind, which is part of that wait.

    Nothing is archived before it ended, so what seems to be shows the least by which the clock is behind: `behind` of
    the pass before holds as long as there is such a run. What was archived of a running one says nothing about lag.
    """
    waits = [_waited(line) for line in lines if line.status != "running"]
    if not waits:
        return 0.0, behind
    slow = max(behind, -min(waits)) if min(waits) < 0 else 0.0
    return max(waits) + slow, slow


def _waited(line: Line) -> float:
    waited = datetime.fromisoformat(line.exported_at) - datetime.fromisoformat(line.last_event_at)
    return waited.total_seconds()
