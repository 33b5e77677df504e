"""The commands of `corridor history`: their options; what they do is imported only when one runs."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import AsJson, DataDir, given


def export(
    to: Annotated[Path | None, typer.Option(help="Default: history-archive in the data directory.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Only what ended since then or still runs: 2026-11-01, 24h, 7d. The lag is told of these alone."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C, telling the lag.")] = False,
    every: Annotated[int, typer.Option(min=1, help="Seconds between passes of --follow.")] = 30,
    running_every: Annotated[
        int, typer.Option(min=1, help="Seconds between exports of what still runs, with --follow.")
    ] = 3600,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where Prometheus reads the lag of --follow; 0: nowhere.")
    ] = 0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Verify the archive instead of writing to it.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Archive histories: sealed, write-once files and a manifest chained by hash. A second run adds what is new.

    Example: corridor history export --to /backup/histories --follow --metrics-port 9474
    """
    from api.cli import history as command

    if verify:
        raise typer.Exit(command.verify_archive(given(data_dir), to, with_keys=True, as_json=as_json))
    following = command.Following(every, running_every, metrics_port) if follow else None
    began = command.moment_of(since)
    raise typer.Exit(command.export_all(given(data_dir), to, began, following, as_json=as_json))


def verify_archive(
    directory: Annotated[
        Path | None, typer.Argument(help="Default: history-archive in the data directory.")
    ] = None,
    digests_only: Annotated[
        bool, typer.Option("--digests-only", help="Without the key ring: the chain and the files' digests.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Walk an archive's chain and open every file. Names the first line that is wrong.

    Example: corridor history verify-archive /backup/histories
    """
    from api.cli import history as command

    checked = command.verify_archive(given(data_dir), directory, with_keys=not digests_only, as_json=as_json)
    raise typer.Exit(checked)


def replay(
    directory: Annotated[
        Path | None, typer.Argument(help="An archive, or JSON histories; default: those of the server.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what ended since then or still runs: 2026-11-01, 24h, 7d.")
    ] = None,
    query: Annotated[str, typer.Option(help="Visibility query that selects histories of the server.")] = "",
    against: Annotated[
        str | None, typer.Option(help="A git revision whose workflow code they must fit; default: this code.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, max=64, help="Processes; default: one a core.")] = None,
    sandboxed: Annotated[
        bool, typer.Option("--sandboxed", help="Slower; a clock or file read in workflow code fails too.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Replay histories against this build's workflow code, or a revision's: the gate before a deploy or a rollback.

    Example: corridor history replay --query 'ExecutionStatus="Running"' --against v1.4.0
    """
    from api.cli import history as command

    selection = command.Selection(directory, query, command.moment_of(since))
    raise typer.Exit(
        command.replay_all(given(data_dir), selection, against, jobs, sandboxed=sandboxed, as_json=as_json)
    )
