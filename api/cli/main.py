"""Entry point of `corridor`: the commands and what each needs, imported only when it runs.

Data goes to stdout, talk to stderr; `--json` prints one document. `--help` must answer at once, so nothing
heavy is imported at the top of this file.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from api.cli import disaster_commands, history_commands
from api.cli.exit_codes import ExitCode
from api.cli.options import AsJson, DataDir, Operator
from api.cli.options import given as _given
from corridor.runtime.leaving import leave
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
operator_app = typer.Typer(help="Who watches and decides here.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(merchant, name="merchant")
app.add_typer(operator_app, name="operator")
app.add_typer(ledger, name="ledger")
app.add_typer(history, name="history")
app.add_typer(keys, name="keys")
deploy = typer.Typer(help="Builds of the workers.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(deploy, name="deploy")

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
    hold: Annotated[
        bool, typer.Option("--hold", help="Without workers and API: nothing moves, a restore can be checked.")
    ] = False,
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
    wanted = {k: v for k, v in given.items() if v is not None}
    raise typer.Exit(command.run(wanted, sandbox=not no_sandbox, hold=hold))


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
def migrate(data_dir: DataDir = None, operator: Operator = None) -> None:
    """Bring the database to the newest schema.

    Example: DATABASE_URL=postgresql://localhost/corridor corridor migrate
    """
    from api.cli import database as command

    raise typer.Exit(command.migrate(_given(data_dir, operator)))


@app.command()
def resume(data_dir: DataDir = None, operator: Operator = None, as_json: AsJson = False) -> None:
    """Start every unfinished payment and refund that has no running workflow, from the database.

    For the day Temporal's store is lost; on a database that came back older, restore-check --repair comes first.
    Example: corridor resume --json
    """
    from api.cli import resume as command

    raise typer.Exit(command.run(_given(data_dir, operator), as_json=as_json))


@app.command()
def timeline(
    payment: Annotated[str, typer.Argument(help="A payment's id, pay_….")],
    at: Annotated[
        str | None, typer.Option(help="An event's number or id: how the payment stood after it.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell one payment's story in order, with what caused each step; with --at, exactly as it was then.

    Example: corridor timeline pay_01k8… --at 3
    """
    from api.cli import timeline as command

    raise typer.Exit(command.run(_given(data_dir), payment, at, as_json=as_json))


@app.command()
def whatif(
    policy: Annotated[
        Path, typer.Option(help="TOML with sections risk, limits, fx, retry; or a risk policy.")
    ],
    since: Annotated[str, typer.Option(help="2026-11-01, 2026-11-01T08:00Z, or an age: 90m, 24h, 7d.")],
    until: Annotated[str | None, typer.Option(help="The same; default: now.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Replay recorded decisions under a changed policy: what would have changed, per payment and in money.

    Nothing is sent or written. Example: corridor whatif --policy tighter.toml --since 7d
    """
    from api.cli import whatif as command

    raise typer.Exit(command.run(_given(data_dir), policy, since, until, as_json=as_json))


@merchant.command("create")
def merchant_create(
    name: Annotated[str, typer.Argument(help="As buyers know the shop.")],
    country: Annotated[str, typer.Option(help="Two letters, where the merchant is settled.")],
    settle: Annotated[str, typer.Option(help="ISO 4217 currency the merchant is settled in.")],
    data_dir: DataDir = None,
    operator: Operator = None,
    as_json: AsJson = False,
) -> None:
    """Make a merchant and its secret API key, shown once.

    Example: corridor merchant create "Lantern & Loom" --country CN --settle CNY
    """
    from api.cli import merchant as command

    raise typer.Exit(command.create(_given(data_dir, operator), name, country, settle, as_json=as_json))


@operator_app.command("create")
def operator_create(data_dir: DataDir = None, operator: Operator = None, as_json: AsJson = False) -> None:
    """Make an operator's API key: it reads and decides reviews of every merchant.

    Example: corridor operator create --json
    """
    from api.cli import merchant as command

    raise typer.Exit(command.create_operator(_given(data_dir, operator), as_json=as_json))


@operator_app.command("log")
def operator_log(
    since: Annotated[
        str | None, typer.Option(help="Only acts begun since then: 2026-11-01, 24h, 7d; default: all.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List what operators did: who, when, what, and how it ended; an act without an end died under way.

    Example: corridor operator log --since 7d --json
    """
    from api.cli import acts
    from api.cli.history import moment_of

    raise typer.Exit(acts.log(_given(data_dir), moment_of(since), as_json=as_json))


@ledger.command("verify")
def ledger_verify(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Prove the books: every posting balances, balances equal the fold of entries. Names the first bad row.

    Example: corridor ledger verify --json
    """
    from api.cli import database as command

    raise typer.Exit(command.verify_ledger(_given(data_dir), as_json=as_json))


@ledger.command("rebuild")
def ledger_rebuild(
    archive: Annotated[
        Path | None, typer.Option("--from", help="An archive of histories; default: Temporal itself.")
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(help="An empty database's URL, or a new file; default: one that is not kept."),
    ] = None,
    compare: Annotated[bool, typer.Option(help="Hold it against the live database.")] = True,
    data_dir: DataDir = None,
    operator: Operator = None,
    as_json: AsJson = False,
) -> None:
    """Make the ledger and the read models again from histories alone, and name every row that differs.

    Example: corridor ledger rebuild --from ./history-archive --into ./rebuilt.db
    """
    from api.cli import rebuild as command

    wanted = command.Wanted(archive, into, compares=compare)
    raise typer.Exit(command.run(_given(data_dir, operator), wanted, as_json=as_json))


@deploy.command("status")
def deploy_status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show every build, what is still pinned to it, and whether its workers may stop.

    Example: corridor deploy status --json
    """
    from api.cli import deploy as command

    raise typer.Exit(command.status(_given(data_dir), as_json=as_json))


@deploy.command("promote")
def deploy_promote(
    build: Annotated[str | None, typer.Option(help="Default: the build of this code.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Skip the replay, and missing workers of a queue.")
    ] = False,
    data_dir: DataDir = None,
    operator: Operator = None,
) -> None:
    """Let new payments begin on a build; replays first what would go over to it in flight.

    Payments under way stay on the build they began on. Example: corridor deploy promote
    """
    from api.cli import deploy as command

    raise typer.Exit(command.promote(_given(data_dir, operator), build, force=force))


@deploy.command("adopt")
def deploy_adopt(
    from_build: Annotated[str, typer.Argument(help="The build whose workers are gone.")],
    force: Annotated[bool, typer.Option("--force", help="Although its workers were seen lately.")] = False,
    data_dir: DataDir = None,
    operator: Operator = None,
) -> None:
    """Move payments pinned to a build that is gone to this one, if their histories replay on it.

    Example: corridor deploy adopt 3f2a9c0d1b7e
    """
    from api.cli import deploy as command

    raise typer.Exit(command.adopt(_given(data_dir, operator), from_build, force=force))


@keys.command("new")
def keys_new(data_dir: DataDir = None, operator: Operator = None) -> None:
    """Add a key and seal with it, for one machine that restarts whole; elsewhere `keys add`, then `keys use`.

    Example: corridor keys new --data-dir ./var
    """
    from api.cli import key_ring as command

    raise typer.Exit(command.rotate(_given(data_dir, operator)))


@keys.command("add")
def keys_add(data_dir: DataDir = None, operator: Operator = None) -> None:
    """Add a key that opens and does not seal yet: the first step where processes are replaced one after another.

    Example: corridor keys add, restart everything, corridor keys use k2, restart everything
    """
    from api.cli import key_ring as command

    raise typer.Exit(command.add(_given(data_dir, operator)))


@keys.command("use")
def keys_use(
    key: Annotated[str, typer.Argument(help="The key's id; every running process must have it.")],
    data_dir: DataDir = None,
    operator: Operator = None,
) -> None:
    """Seal with this key from the next start on; the others still open what they sealed.

    Example: corridor keys use k2
    """
    from api.cli import key_ring as command

    raise typer.Exit(command.use(_given(data_dir, operator), key))


history.command("export")(history_commands.export)
history.command("verify-archive")(history_commands.verify_archive)
history.command("replay")(history_commands.replay)
app.command("restore-check")(disaster_commands.restore_check)
app.command("drill")(disaster_commands.drill)


def main() -> None:
    """Run the command; an unusable environment is one line on stderr, not a traceback."""
    try:
        app()
    except SettingsRefused as error:
        sys.stderr.write(f"corridor: {error}\n")
        leave(ExitCode.USAGE)
    except SystemExit as ended:
        leave(ended.code)


if __name__ == "__main__":
    main()
