"""Entry point of `corridor`: the commands and what each needs, imported only when it runs.

Data goes to stdout, talk to stderr; `--json` prints one document. `--help` must answer at once, so nothing
heavy is imported at the top of this file.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from api.cli.exit_codes import ExitCode
from corridor.runtime.refused import SettingsRefused

# No pretty tracebacks: they print local variables, and those hold secrets.
app = typer.Typer(
    help="Durable cross-border payments on Temporal.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
ledger = typer.Typer(help="The books.", no_args_is_help=True, rich_markup_mode=None)
history = typer.Typer(help="Workflow histories.", no_args_is_help=True, rich_markup_mode=None)
keys = typer.Typer(help="The key ring that seals payloads.", no_args_is_help=True, rich_markup_mode=None)
merchant = typer.Typer(help="Who sells here.", no_args_is_help=True, rich_markup_mode=None)
operator = typer.Typer(help="Who watches and decides here.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(merchant, name="merchant")
app.add_typer(operator, name="operator")
app.add_typer(ledger, name="ledger")
app.add_typer(history, name="history")
app.add_typer(keys, name="keys")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Default: CORRIDOR_DATA_DIR, else ./var.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535)]


@app.command()
def up(
    data_dir: DataDir = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the API.")] = None,
    temporal_port: Port = None,
    ui_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the Temporal UI.")] = None,
    sandbox_port: Port = None,
    codec_port: Port = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="First of several; 0: none.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Worker processes.")] = None,
    market_day: Annotated[
        str | None, typer.Option(help="YYYY-MM-DD or `newest`: use that day's rates as if it were today.")
    ] = None,
    no_sandbox: Annotated[bool, typer.Option("--no-sandbox", help="Talk to real providers only.")] = False,
) -> None:
    """Run the whole stack on this machine until Ctrl-C.

    Example: corridor up --data-dir ./var --port 8080
    """
    from api.cli import up as command

    given: dict[str, object] = {
        "data_dir": data_dir,
        "api_port": port,
        "temporal_port": temporal_port,
        "temporal_ui_port": ui_port,
        "sandbox_port": sandbox_port,
        "codec_port": codec_port,
        "metrics_port": metrics_port,
        "workers": workers,
    }
    if market_day is not None:
        try:
            given["market_day"] = command.market_day(market_day)
        except ValueError:
            raise typer.BadParameter("a day is written YYYY-MM-DD, or `newest`") from None
    raise typer.Exit(command.run({k: v for k, v in given.items() if v is not None}, sandbox=not no_sandbox))


@app.command()
def demo(
    orders: Annotated[
        int | None, typer.Option(min=1, help="How many before the closing ones; default: all.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Empty; default: a new temporary one.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running after the report.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a day of orders on a stack of its own, disturb it, and prove that no money was lost or moved twice.

    Example: corridor demo --json
    """
    from api.cli.demo import command

    raise typer.Exit(command.run(data_dir, orders, as_json=as_json, keep=keep))


@app.command()
def doctor(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check what this installation needs and say what is wrong.

    Example: corridor doctor --json
    """
    from api.cli import doctor as command

    raise typer.Exit(command.run(_given(data_dir), as_json=as_json))


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to the newest schema.

    Example: DATABASE_URL=postgresql://localhost/corridor corridor migrate
    """
    from api.cli import database as command

    raise typer.Exit(command.migrate(_given(data_dir)))


@app.command()
def resume(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Start every unfinished payment and refund that has no running workflow, from the database.

    For the day Temporal's store is lost. Example: corridor resume --json
    """
    from api.cli import resume as command

    raise typer.Exit(command.run(_given(data_dir), as_json=as_json))


@merchant.command("create")
def merchant_create(
    name: Annotated[str, typer.Argument(help="As buyers know the shop.")],
    country: Annotated[str, typer.Option(help="Two letters, where the merchant is settled.")],
    settle: Annotated[str, typer.Option(help="ISO 4217 currency the merchant is settled in.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a merchant and its secret API key, shown once.

    Example: corridor merchant create "Lantern & Loom" --country CN --settle CNY
    """
    from api.cli import merchant as command

    raise typer.Exit(command.create(_given(data_dir), name, country, settle, as_json=as_json))


@operator.command("create")
def operator_create(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Make an operator's API key: it reads and decides reviews of every merchant.

    Example: corridor operator create --json
    """
    from api.cli import merchant as command

    raise typer.Exit(command.create_operator(_given(data_dir), as_json=as_json))


@ledger.command("verify")
def ledger_verify(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Prove the books: every posting balances, balances equal the fold of entries. Names the first bad row.

    Example: corridor ledger verify --json
    """
    from api.cli import database as command

    raise typer.Exit(command.verify_ledger(_given(data_dir), as_json=as_json))


@history.command("replay")
def history_replay(
    directory: Annotated[
        Path | None, typer.Argument(help="JSON histories; default: those of the server.")
    ] = None,
    query: Annotated[str, typer.Option(help="Visibility query that selects histories of the server.")] = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Replay histories against the workflow code of this build, before it is deployed.

    Example: corridor history replay --query 'ExecutionStatus="Running"'
    """
    from api.cli import history as command

    raise typer.Exit(command.replay_all(_given(data_dir), directory, query, as_json=as_json))


@keys.command("new")
def keys_new(data_dir: DataDir = None) -> None:
    """Add a key to the ring and seal with it from now on; older keys still open what they sealed.

    Example: corridor keys new --data-dir ./var
    """
    from api.cli import key_ring as command

    raise typer.Exit(command.rotate(_given(data_dir)))


def _given(data_dir: Path | None) -> dict[str, Path]:
    return {} if data_dir is None else {"data_dir": data_dir}


def main() -> None:
    """Run the command; an unusable environment is one line on stderr, not a traceback."""
    try:
        app()
    except SettingsRefused as error:
        sys.stderr.write(f"corridor: {error}\n")
        sys.exit(ExitCode.USAGE)


if __name__ == "__main__":
    main()
