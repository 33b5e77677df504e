"""`corridor history`: export what Temporal holds, verify an archive, replay histories against this code or another."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import typer
from temporalio.client import Client
from temporalio.service import RPCError

from api.cli import output
from api.cli.exit_codes import ExitCode
from api.cli.stopping import all_signals_interrupt
from api.cli.whatif import moment
from corridor.runtime import build, client, keys, metrics, ports, replay_pool, settings, telemetry
from corridor.runtime.histories import Run, Unopened, from_directory, from_server, query_since
from corridor.runtime.ports import PortTaken
from corridor.runtime.replay import Replayed
from corridor.runtime.replay_pool import CodeUnusable, Outcome, replay_in_parallel
from corridor.runtime.settings import Settings
from corridor.storage.sealing import Sealer
from workers.histories.archive import Archive, ArchiveDamaged, ArchiveInUse, is_archive
from workers.histories.export import Pass, Reached, export, follow

DEFAULT_ARCHIVE = "history-archive"
LISTED = 20


# --- export ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Following:
    """How a continuous export goes on: seconds between passes, and between exports of what is still running.

    `metrics_port`: where Prometheus reads the lag; 0 for nowhere.
    """

    every_seconds: int
    running_every_seconds: int
    metrics_port: int = 0


def export_all(
    given: Mapping[str, object],
    to: Path | None,
    since: datetime | None,
    following: Following | None,
    *,
    as_json: bool,
) -> ExitCode:
    """Archive what is new or has grown; with `following`, pass after pass until it is stopped."""
    metrics_port = 0 if following is None else following.metrics_port
    # The port of the settings is that of the API, which may run on this machine too.
    loaded = settings.load(**given, metrics_port=metrics_port, temporal_metrics_port=0)
    archive = open_archive(loaded, to or loaded.data_dir / DEFAULT_ARCHIVE)
    all_signals_interrupt()
    try:
        with archive.writing():
            asyncio.run(_export(loaded, archive, since, following, as_json=as_json))
    except KeyboardInterrupt:
        return ExitCode.OK
    except (ArchiveInUse, PortTaken) as used:
        output.talk(f"corridor: {used}")
        return ExitCode.CONFLICT
    except ArchiveDamaged as damaged:
        output.talk(f"corridor: nothing was archived: the manifest is damaged: {damaged}")
        return ExitCode.FAILURE
    except OSError as error:
        output.talk(
            f"corridor: the archive cannot be written: {error}. What it holds is whole; see to that, and export again."
        )
        return ExitCode.UNAVAILABLE
    except (RuntimeError, RPCError) as error:
        output.talk(f"corridor: Temporal cannot be reached: {error}")
        return ExitCode.UNAVAILABLE
    return ExitCode.OK


async def _export(
    loaded: Settings, archive: Archive, since: datetime | None, following: Following | None, *, as_json: bool
) -> None:
    connected = await client.connect(loaded)
    made_by = build.build_id(loaded)
    if following is None:
        _tell(await export(connected, archive, made_by, _now, since), as_json=as_json)
        return
    every = timedelta(seconds=following.every_seconds)
    running_every = timedelta(seconds=following.running_every_seconds)
    with _measured(loaded) as reached:
        async for done in follow(connected, archive, made_by, _now, since, every, running_every, reached):
            _tell(done, as_json=as_json)


@contextlib.contextmanager
def _measured(loaded: Settings) -> Iterator[Reached]:
    """How far the export has got, served to Prometheus where a port was given. Raises `PortTaken`."""
    reached = Reached()
    if not loaded.metrics_port:
        yield reached
        return
    if not ports.is_free(loaded.host, loaded.metrics_port):
        raise PortTaken(f"port {loaded.metrics_port} is taken; choose another with --metrics-port")
    measuring = telemetry.start(loaded, "exporter")
    metrics.history_export_lag(lambda: reached.lag_seconds(_now()))
    try:
        yield reached
    finally:
        measuring.close()


def _tell(done: Pass, *, as_json: bool) -> None:
    if as_json:
        output.document(dataclasses.asdict(done))
    else:
        output.line(str(done))


def verify_archive(
    given: Mapping[str, object], named: Path | None, *, with_keys: bool, as_json: bool
) -> ExitCode:
    """Walk the chain and every digest; names the first line that is wrong."""
    loaded = settings.load(**given)
    directory = named or loaded.data_dir / DEFAULT_ARCHIVE
    if not is_archive(directory):
        output.talk(f"corridor: {directory} is no archive of histories")
        return ExitCode.NOT_FOUND
    verified = open_archive(loaded, directory, with_keys=with_keys).verify(with_keys=with_keys)
    if as_json:
        output.document({"holds": verified.holds, **dataclasses.asdict(verified)})
    else:
        output.line(
            f"{verified.lines} lines hold, {verified.opened} histories opened, {verified.bytes} bytes; "
            f"head {verified.head}"
        )
        if verified.bad is not None:
            output.line(f"BROKEN: {verified.bad}")
    return ExitCode.OK if verified.holds else ExitCode.FAILURE


def open_archive(loaded: Settings, directory: Path, *, with_keys: bool = True) -> Archive:
    """The archive, with the installation's key ring; without keys only chain and digests can be checked."""
    ring = keys.load(loaded) if with_keys else keys.KeyRing.generate()
    return Archive(directory, Sealer(ring.current, ring.keys), client.namespace(loaded))


def moment_of(since: str | None) -> datetime | None:
    """`2026-11-01`, `2026-11-01T08:00Z`, or an age: `90m`, `24h`, `7d`. Raises `typer.BadParameter`."""
    try:
        return None if since is None else moment(since, _now())
    except ValueError:
        raise typer.BadParameter(
            "a time is written 2026-11-01, 2026-11-01T08:00Z, or as an age: 90m, 24h"
        ) from None


def _now() -> datetime:
    return datetime.now(UTC)


# --- replay ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """Which histories: of a directory or archive, else of the server; `query` is of the server alone."""

    directory: Path | None
    query: str = ""
    since: datetime | None = None


def replay_all(
    given: Mapping[str, object],
    selection: Selection,
    against: str | None,
    jobs: int | None,
    *,
    sandboxed: bool,
    as_json: bool,
) -> ExitCode:
    """Replay against this code, or a revision's; fails if one history does not fit, or if there was none."""
    if selection.directory is not None and not selection.directory.is_dir():
        output.talk(f"corridor: {selection.directory} is not a directory")
        return ExitCode.NOT_FOUND
    loaded = settings.load(**given)
    try:
        if against is None:
            outcome = asyncio.run(_replay(loaded, selection, build.SOURCE, jobs, sandboxed=sandboxed))
        else:
            with replay_pool.revision(against) as source:
                outcome = asyncio.run(_replay(loaded, selection, source, jobs, sandboxed=sandboxed))
            outcome.code = against
    except CodeUnusable as unusable:
        output.talk(f"corridor: nothing was replayed: {unusable}")
        return ExitCode.UNAVAILABLE
    except ArchiveDamaged as damaged:
        output.talk(f"corridor: {damaged}")
        return ExitCode.FAILURE
    except (RuntimeError, RPCError) as error:
        output.talk(f"corridor: Temporal cannot be reached: {error}")
        return ExitCode.UNAVAILABLE
    _report(outcome, as_json=as_json)
    if not outcome.replayed:
        output.talk("corridor: there was no history to replay, so nothing is proven")
        return ExitCode.NOT_FOUND
    return ExitCode.OK if not outcome.misfits else ExitCode.FAILURE


async def _replay(
    loaded: Settings, selection: Selection, source: Path, jobs: int | None, *, sandboxed: bool
) -> Outcome:
    connected = await client.connect(loaded) if selection.directory is None else None
    runs = _selected(loaded, selection, connected)
    return await replay_in_parallel(runs, loaded, source, jobs, sandboxed=sandboxed)


def _selected(
    loaded: Settings, selection: Selection, connected: Client | None
) -> AsyncIterator[Run | Unopened]:
    if connected is not None:
        return from_server(connected, query_since(selection.query, selection.since))
    directory = selection.directory or loaded.data_dir
    if is_archive(directory):
        return open_archive(loaded, directory).runs(selection.since)
    return from_directory(directory)


def _report(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        output.document(outcome.document())
        return
    for replayed in outcome.misfits[:LISTED]:
        output.line(_misfit(replayed))
    if len(outcome.misfits) > LISTED:
        output.line(f"… and {len(outcome.misfits) - LISTED} more; --json names them all")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in outcome.counts.items() if count)
    output.line(
        f"{counts or 'no histories'}; against {outcome.code}, {outcome.per_second:.0f} histories a second"
    )


def _misfit(replayed: Replayed) -> str:
    where = f" at event {replayed.event_id}" if replayed.event_id is not None else ""
    diverged = f": the history has {replayed.expected}, the code asks for {replayed.produced}"
    what = diverged if replayed.expected else f": {replayed.reason.splitlines()[0]}"
    return f"{replayed.verdict}: {replayed.workflow_id} {replayed.run_id}{where}{what}"
