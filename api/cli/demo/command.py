"""`corridor demo`: start a stack, run the orders, disturb them, wait until nothing moves, prove, report, stop."""

import asyncio
import contextlib
import signal
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from api.cli import output
from api.cli.audit import holds, promises, proofs, rates
from api.cli.audit.evidence import Evidence
from api.cli.audit.gathering import gather
from api.cli.audit.histories import Histories, replay_all
from api.cli.demo import installation, orders, report
from api.cli.demo import proofs as demo_proofs
from api.cli.demo.disturb import Disturbance, disturb
from api.cli.demo.drive import Market, drive
from api.cli.demo.http import InTurn
from api.cli.demo.installation import Keys
from api.cli.demo.progress import Screen
from api.cli.demo.quiet import Moving, until_quiet
from api.cli.demo.shop import Sent, Shop, repeat_all
from api.cli.exit_codes import ExitCode
from api.cli.stopping import all_signals_interrupt
from corridor.runtime.ports import PortTaken
from corridor.runtime.process import ChildFailed
from corridor.runtime.settings import Settings
from corridor.runtime.stack import AlreadyRunning, Stack
from corridor.runtime.temporal_server import ServerMissing
from corridor.storage.database import Database

AT_ONCE = 64
REQUEST_SECONDS = 20.0
INTERRUPTED = 130


@dataclass
class Run:
    """What a run leaves for its report."""

    settings: Settings
    keys: Keys
    market: Market
    disturbances: list[Disturbance] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def run(data_dir: Path | None, order_count: int | None, *, as_json: bool, keep: bool) -> int:
    """Returns the exit status: 0 only if every proof holds."""
    all_signals_interrupt()  # `with Stack` cleans up
    directory = data_dir or Path(tempfile.mkdtemp(prefix="corridor-demo-"))
    if directory.exists() and any(directory.iterdir()):
        output.talk(f"corridor: {directory} is not empty; the demo proves a run from its very beginning")
        return ExitCode.CONFLICT
    try:
        return _run(directory.absolute(), order_count, as_json=as_json, keep=keep)
    except KeyboardInterrupt:
        output.talk(f"corridor: interrupted; nothing is running any more. Data so far: {directory}")
        return INTERRUPTED
    except (AlreadyRunning, PortTaken) as error:
        output.talk(f"corridor: {error}")
        return ExitCode.CONFLICT
    except (ChildFailed, ServerMissing) as error:
        output.talk(f"corridor: {error}")
        return ExitCode.UNAVAILABLE


def _run(directory: Path, order_count: int | None, *, as_json: bool, keep: bool) -> int:
    with Screen() as screen:
        settings = asyncio.run(installation.prepare(directory))
        stack = Stack(settings, say=screen.say)
        begun = time.monotonic()
        with stack:
            made = asyncio.run(_perform(stack, screen, order_count, time.monotonic() - begun))
            output.document(made.document()) if as_json else output.line(report.text(made))
            if keep:
                _stay(stack)
            screen.say("stopping")
    return ExitCode.OK if made.holds else ExitCode.FAILURE


def _stay(stack: Stack) -> None:
    """Leave the stack up for a look around, until a signal."""
    for name, address in stack.addresses().items():
        output.talk(f"{name}: {address}")
    output.talk("the stack stays up; Ctrl-C stops it")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            signal.pause()


async def _perform(
    stack: Stack, screen: Screen, order_count: int | None, start_seconds: float
) -> report.Report:
    settings = stack.settings
    database = Database(settings.database)
    try:
        async with (
            InTurn(settings.api_address, AT_ONCE, REQUEST_SECONDS) as api,
            InTurn(settings.sandbox_address, AT_ONCE, REQUEST_SECONDS) as sandbox,
        ):
            keys = await installation.seed(database, settings)
            shops = {name: Shop(name, api, key) for name, key in keys.api_keys.items()}
            market = Market(shops, Shop("operator", api, keys.operator), sandbox)
            made = Run(settings, keys, market, seconds={"start": start_seconds})
            await installation.register_endpoints(list(shops.values()), sandbox)
            await _drive(made, stack, screen, order_count)
            return await _prove(made, database, screen)
    finally:
        await database.close()


async def _drive(made: Run, stack: Stack, screen: Screen, order_count: int | None) -> None:
    """The orders, the disturbances beside them, and then every request once more."""
    every = orders.read()
    chosen = every if order_count is None else orders.choose(every, order_count)
    screen.say(f"{len(chosen)} orders in {len(orders.corridors(chosen))} corridors begin")
    begun = time.monotonic()
    async with screen.watching(made.market, len(chosen)), asyncio.TaskGroup() as group:
        disturbing = group.create_task(disturb(stack, made.market, len(chosen), screen.say))
        group.create_task(drive(made.market, chosen))
    made.disturbances = disturbing.result()
    made.seconds["orders"] = time.monotonic() - begun
    screen.say("every order had its answer; each request is sent once more")
    made.sent = await repeat_all([*made.market.shops.values(), made.market.operator])


async def _prove(made: Run, database: Database, screen: Screen) -> report.Report:
    begun = time.monotonic()
    total = len(made.market.tales)

    def show(moving: Moving) -> None:
        screen.show("settlement", moving.settled, total, str(moving).partition("; ")[2])

    await until_quiet(database, made.market.sandbox, show)
    made.seconds["settlement"] = time.monotonic() - begun
    screen.say("nothing moves any more; comparing both sides' books")
    begun = time.monotonic()
    evidence = await gather(database, made.market.sandbox)
    screen.say("replaying every history")
    histories = await replay_all(made.settings)
    made.seconds["proofs"] = time.monotonic() - begun
    return _report(made, evidence, histories)


def _report(made: Run, evidence: Evidence, histories: Histories) -> report.Report:
    tales, settings = made.market.tales, made.settings
    links = _Links(settings)
    answers = sorted(tale.seconds for tale in tales if tale.payment_id)
    scenarios: dict[str, int] = {}
    for tale in tales:
        scenarios[tale.order.scenario] = scenarios.get(tale.order.scenario, 0) + 1
    return report.Report(
        market_day=settings.market_day or installation.market_day(),
        database="SQLite" if settings.database_url is None else "PostgreSQL",
        seconds=made.seconds,
        answer_seconds={
            "p50": statistics.median(answers),
            "p95": answers[len(answers) * 95 // 100],
            "slowest": answers[-1],
        },
        corridors=report.corridor_lines(tales, evidence),
        scenarios=scenarios,
        disturbances=tuple(made.disturbances),
        slowest=report.slowest(tales, links),
        retried=report.retried(tales, histories.retries, links),
        proofs=_proofs(made, evidence, histories),
        data_dir=str(settings.data_dir),
        look_around=f"corridor up --data-dir {settings.data_dir}",
    )


class _Links(dict[str, str]):
    """Where each payment's workflow is shown, by payment id."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._base = f"{settings.temporal_ui_address}/namespaces/default/workflows"

    def __missing__(self, payment_id: str) -> str:
        return f"{self._base}/payment-{payment_id}"


def _proofs(made: Run, evidence: Evidence, histories: Histories) -> tuple[proofs.Proof, ...]:
    sequences = {payment.id: payment.sequence for payment in evidence.payments}
    sequences |= {refund.id: refund.sequence for refund in evidence.refunds}
    names = {merchant_id: name for name, merchant_id in made.keys.merchants.items()}
    return (
        proofs.postings_balance(evidence.ledger),
        proofs.balances_are_folds(evidence.ledger),
        proofs.seal_is_unbroken(evidence.ledger),
        proofs.clearing_is_explained(evidence.ledger, evidence.refunds),
        proofs.books_agree(evidence.movements, evidence.effects, evidence.postings),
        proofs.fees_and_payouts_agree(evidence.movements, evidence.postings, evidence.batches),
        holds.holds_are_released(evidence.payments, evidence.effects, evidence.movements),
        holds.endings_leave_nothing_open(evidence.payments, evidence.effects),
        rates.conversions_are_as_locked(evidence),
        promises.decisions_are_on_record(
            demo_proofs.decisions(made.sent), evidence.reviews, evidence.operators, evidence.acts
        ),
        proofs.nothing_is_left_open(evidence.payments, evidence.refunds),
        demo_proofs.endings_are_as_told(made.market.tales, evidence.payments, evidence.refunds),
        demo_proofs.repeats_are_equal(made.sent),
        proofs.events_have_no_gap(evidence.events, sequences),
        proofs.webhooks_arrived(evidence.received, evidence.events, names),
        promises.events_keep_their_names(evidence.received, evidence.events),
        proofs.histories_replay(histories.replayed, _workflow_ids(evidence)),
    )


def _workflow_ids(evidence: Evidence) -> Iterable[str]:
    yield from (f"payment-{payment.id}" for payment in evidence.payments)
    yield from (f"refund-{refund.id}" for refund in evidence.refunds)
