"""`corridor history replay`: would this build still fit the histories that exist?"""

import asyncio
import dataclasses
import importlib
import pkgutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import workflows
from api.cli import output
from api.cli.exit_codes import ExitCode
from corridor.runtime import client, keys, settings
from corridor.runtime.converter import make_converter
from corridor.runtime.replay import Replayed, Verdict, from_directory, from_server, replay


def replay_all(given: Mapping[str, object], directory: Path | None, query: str, *, as_json: bool) -> ExitCode:
    """Replay the directory's histories, or the server's; fails if one does not fit."""
    if directory is not None and not directory.is_dir():
        output.talk(f"corridor: {directory} is not a directory")
        return ExitCode.NOT_FOUND
    try:
        results = asyncio.run(_replay(settings.load(**given), directory, query))
    except RuntimeError as error:
        output.talk(f"corridor: Temporal cannot be reached: {error}")
        return ExitCode.UNAVAILABLE
    _report(results, as_json=as_json)
    return ExitCode.OK if all(result.verdict is Verdict.FITS for result in results) else ExitCode.FAILURE


async def _replay(loaded: settings.Settings, directory: Path | None, query: str) -> list[Replayed]:
    if directory is None:
        connected = await client.connect(loaded)
        return await replay(from_server(connected, query), _workflows(), connected.data_converter)
    converter = make_converter(keys.load(loaded), client.namespace(loaded))
    return await replay(from_directory(directory), _workflows(), converter)


def _workflows() -> list[type]:
    """Every workflow of this build, wherever in `workflows` it is defined: a new one cannot be forgotten here."""
    names = (f"workflows.{module.name}" for module in pkgutil.iter_modules(workflows.__path__))
    modules = [importlib.import_module(name) for name in names]
    return [
        thing
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, type)
        and thing.__module__ == module.__name__
        # The mark that `@workflow.defn` leaves; the SDK has no public way to ask.
        and "__temporal_workflow_definition" in vars(thing)
    ]


def _report(results: list[Replayed], *, as_json: bool) -> None:
    counts = Counter(result.verdict.value for result in results)
    bad = [result for result in results if result.verdict is not Verdict.FITS]
    if as_json:
        output.document({"counts": counts, "misfits": [dataclasses.asdict(result) for result in bad]})
        return
    for result in bad:
        output.line(
            f"{result.verdict}: {result.workflow_id} {result.run_id}: {result.reason.splitlines()[0]}"
        )
    output.line(
        ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) or "no histories"
    )
