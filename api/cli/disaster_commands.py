"""The commands for disasters and for practising them, as `corridor` offers them; the work is imported when one runs."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import AsJson, DataDir, Operator, given


def restore_check(
    repair: Annotated[
        bool, typer.Option("--repair", help="Make again what is proven; stop the workers first.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            help="Age (90m, 24h, 7d) or time; default: ten minutes before the oldest of the 200 newest events."
        ),
    ] = None,
    query: Annotated[
        str, typer.Option(help="Visibility query that narrows which workflows are read; not with --repair.")
    ] = "",
    archive: Annotated[
        Path | None, typer.Option(help="Also the exported histories in this directory.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Repair although workers or the API were seen a moment ago.")
    ] = False,
    data_dir: DataDir = None,
    operator: Operator = None,
    as_json: AsJson = False,
) -> None:
    """Compare a database that was restored with the histories and the providers' books, and list what it lacks.

    For the day the database came back older. Example: corridor restore-check --repair --json
    """
    from api.cli import restore_check as command
    from api.cli.history import moment_of

    if repair and query:
        raise typer.BadParameter(
            "--repair needs to read every workflow: places in the merchants' feed that the others were given would be"
            " given again. Nothing was changed; leave out --query, or leave out --repair to look only"
        )
    wanted = command.Wanted(repair, moment_of(since), query, archive, is_forced=force)
    raise typer.Exit(command.run(given(data_dir, operator), wanted, as_json=as_json))


def drill(
    scenario: Annotated[
        str, typer.Option(help="all, kill-everything, temporal-lost, database-restored or database-lost.")
    ] = "all",
    payments: Annotated[int, typer.Option(min=20, help="How many, for each disaster.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed draws the same payments.")] = 1,
    report: Annotated[
        Path | None, typer.Option(help="Keep drill.html and drill.json in this directory.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Strike a running installation of its own with payments in flight, recover it, and measure what it cost.

    Example: corridor drill --scenario database-restored --report ./drill
    """
    from api.cli.drill import command

    try:
        scenarios = command.chosen(scenario)
    except ValueError:
        raise typer.BadParameter(f"there is no disaster called {scenario}") from None
    raise typer.Exit(command.run(scenarios, payments, seed, report, as_json=as_json))
