"""One disaster from first order to last proof: load, T0, damage, recovery, load again, and what it cost."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from api.cli.audit import holds, promises, proofs, rates
from api.cli.audit.evidence import Evidence, Movement
from api.cli.audit.gathering import gather
from api.cli.audit.histories import Histories, replay_all
from api.cli.audit.rebuilding import from_histories, rebuilds
from api.cli.demo import installation
from api.cli.demo import proofs as demo_proofs
from api.cli.demo.quiet import until_quiet
from api.cli.demo.shop import Sent, Shop, repeat_all
from api.cli.drill import backup, disasters, remote, standing
from api.cli.drill.crowd import Crowd
from api.cli.drill.disasters import Recovered, Scenario
from api.cli.drill.purchases import Purchase, draw
from api.cli.drill.standing import Moment
from corridor.runtime.settings import Settings
from corridor.runtime.stack import Stack
from corridor.storage.database import Database
from workers.rebuild.rebuild import Rebuilt

PER_SECOND = 4.0
"""Purchases a second that are wanted; what the machine does not carry waits its turn."""
BACKUP_AT, DISASTER_AT = 0.15, 0.6
"""Shares of the purchases that were answered by then; the rest is on its way or still to come."""
ACTION_WINDOW_SECONDS = 3600
LOOK_SECONDS = 0.05
REQUEST_SECONDS = 20.0

Say = Callable[[str], None]


@dataclass
class Clock:
    """Moments of the run in `time.monotonic()`."""

    backup: float = 0.0
    disaster: float = 0.0
    released: float = 0.0
    quiet: float = 0.0


@dataclass
class Run:
    """Everything a run leaves for its account."""

    scenario: Scenario
    seed: int
    settings: Settings
    purchases: tuple[Purchase, ...]
    crowd: Crowd | None = None
    clock: Clock = field(default_factory=Clock)
    merchants: dict[str, str] = field(default_factory=dict)
    moments: dict[str, Moment] = field(default_factory=dict)
    books_before: tuple[Movement, ...] = ()
    books_after: tuple[Movement, ...] = ()
    received_before: frozenset[str] = frozenset()
    recovered: Recovered = field(default_factory=Recovered)
    evidence: Evidence | None = None
    histories: Histories | None = None
    rebuilt: Rebuilt | None = None
    sent: list[Sent] = field(default_factory=list)

    @property
    def people(self) -> Crowd:
        assert self.crowd is not None  # noqa: S101 — set before anything is bought
        return self.crowd

    @property
    def backup_file(self) -> Path:
        return self.settings.data_dir / "backup"


def perform(scenario: Scenario, directory: Path, count: int, seed: int, say: Say) -> Run:
    """Run the whole drill of one disaster in an empty directory."""
    cluster = remote.given()
    settings = asyncio.run(installation.prepare(directory))
    settings = settings.model_copy(update={"action_window_seconds": ACTION_WINDOW_SECONDS})
    if cluster:
        # The directory's name is random and known to whoever reads the drill's output.
        say(f"a namespace of its own on the remote Temporal: {directory.name}")
        asyncio.run(remote.enter(cluster, directory.name, settings))
    run = Run(scenario, seed, settings, draw(seed, count))
    first = _stack(settings).start()
    try:
        asyncio.run(_Exercise(run, first, say).go())
    finally:
        first.stop()
    return run


def _stack(settings: Settings, only: tuple[str, ...] | None = None) -> Stack:
    """No other build works in the drill's namespace, wherever that is: its workers become current there."""
    return Stack(settings, apart={"worker": {"CORRIDOR_WORKER_TAKES_OVER": "true"}}, only=only)


class _Exercise:
    def __init__(self, run: Run, stack: Stack, say: Say) -> None:
        self._run, self._stack, self._say = run, stack, say
        self._settings = run.settings

    async def go(self) -> None:
        async with self._people() as crowd:
            self._run.crowd = crowd
            load_seconds = len(self._run.purchases) / PER_SECOND
            self._say(f"{len(self._run.purchases)} purchases in {load_seconds:.0f} s begin")
            buying = asyncio.create_task(crowd.buy(self._run.purchases, load_seconds))
            try:
                await self._strike()
                await buying
                self._say("every purchase has its answer; merchants, buyers and the reviewer go on")
                await crowd.finish()
                await self._prove()
            finally:
                buying.cancel()
                self._stack.stop()

    @contextlib.asynccontextmanager
    async def _people(self) -> AsyncIterator[Crowd]:
        settings, options = self._settings, {"timeout": REQUEST_SECONDS, "trust_env": False}
        database = Database(settings.database)
        async with (
            httpx.AsyncClient(base_url=settings.api_address, **options) as api,  # type: ignore[arg-type]
            httpx.AsyncClient(base_url=settings.sandbox_address, **options) as sandbox,  # type: ignore[arg-type]
        ):
            keys = await installation.seed(database, settings)
            await database.close()
            shops = {name: Shop(name, api, key) for name, key in keys.api_keys.items()}
            await installation.register_endpoints(list(shops.values()), sandbox)
            # All that is not derived from payments; a backup of it can be taken as often as it changes.
            if self._run.scenario is Scenario.DATABASE_LOST:
                await asyncio.to_thread(backup.take, self._settings, self._run.backup_file)
            self._run.merchants = {merchant_id: name for name, merchant_id in keys.merchants.items()}
            yield Crowd(shops, Shop("operator", api, keys.operator), sandbox)

    async def _answered(self, share: float) -> None:
        deals = self._run.people.deals
        while (  # noqa: ASYNC110 — other people's answers; there is no event to wait for
            sum(deal.answered_at is not None for deal in deals) < share * len(self._run.purchases)
        ):
            await asyncio.sleep(LOOK_SECONDS)

    async def _strike(self) -> None:
        """Backup at one moment of the load, disaster at a later one, then the runbook."""
        run, clock = self._run, self._run.clock
        await self._answered(BACKUP_AT)
        clock.backup = time.monotonic()
        if run.scenario is Scenario.DATABASE_RESTORED:
            await asyncio.to_thread(backup.take, self._settings, run.backup_file)
        await self._answered(DISASTER_AT)
        clock.disaster = time.monotonic()
        run.people.struck.set()
        self._say(f"T0: {run.scenario.says}")
        await asyncio.to_thread(self._stack.crash)
        await backup.fence(self._settings)
        run.moments["at T0"] = await standing.at(self._settings.database)
        self._settings = run.settings = await disasters.destroy(run.scenario, self._settings, run.backup_file)
        if run.scenario is Scenario.KILL_EVERYTHING:
            self._stack = await asyncio.to_thread(_stack(self._settings).start)
        else:
            await self._recover()
        clock.released = time.monotonic()
        self._say(f"released {clock.released - clock.disaster:.1f} s after T0")

    async def _recover(self) -> None:
        """Temporal and the provider run, nobody else: the books before and after show what the recovery did."""
        run = self._run
        run.moments["damaged"] = await standing.at(self._settings.database)
        self._stack = await asyncio.to_thread(_stack(self._settings, only=("sandbox",)).start)
        before = await self._look()
        run.books_before = before.movements
        run.received_before = frozenset(it.event_id for it in before.received if it.is_verified)
        run.recovered = await asyncio.to_thread(disasters.recover, run.scenario, self._settings, self._say)
        run.books_after = (await self._look()).movements
        run.moments["recovered"] = await standing.at(self._settings.database)
        await asyncio.to_thread(self._stack.release)

    async def _look(self) -> Evidence:
        database = Database(self._settings.database)
        try:
            return await gather(database, self._run.people.sandbox)
        finally:
            await database.close()

    async def _prove(self) -> None:
        run = self._run
        database = Database(self._settings.database)
        try:
            await until_quiet(database, run.people.sandbox, lambda _: None)
        finally:
            await database.close()
        run.clock.quiet = time.monotonic()
        self._say(f"nothing moves any more, {run.clock.quiet - run.clock.disaster:.0f} s after T0; proving")
        run.sent = await repeat_all([*run.people.shops.values()])
        run.evidence = await self._look()
        run.histories = await replay_all(self._settings)
        run.moments["at the end"] = await standing.at(self._settings.database)
        if run.scenario is not Scenario.TEMPORAL_LOST:
            self._say("rebuilding the books from histories alone")
            run.rebuilt = await from_histories(self._settings, self._settings.data_dir / "rebuilt.db")


def proven(run: Run) -> tuple[proofs.Proof, ...]:
    """The same proofs as after the demo: both sides' books, the ledger, what merchants were told."""
    evidence, histories = run.evidence, run.histories
    assert evidence is not None and histories is not None  # noqa: S101 — a run that was performed
    sequences = {payment.id: payment.sequence for payment in evidence.payments}
    sequences |= {refund.id: refund.sequence for refund in evidence.refunds}
    carried = [
        *(f"payment-{payment.id}" for payment in evidence.payments),
        *(f"refund-{refund.id}" for refund in evidence.refunds),
    ]
    if run.scenario is Scenario.TEMPORAL_LOST:
        # What had ended before the loss needs no history any more.
        carried = []
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
            demo_proofs.decisions(run.people.operator.sent.values()),
            evidence.reviews,
            evidence.operators,
            evidence.acts,
        ),
        proofs.nothing_is_left_open(evidence.payments, evidence.refunds),
        demo_proofs.repeats_are_equal([it for it in run.sent if it.path in ("/v1/payments", "/v1/refunds")]),
        proofs.events_have_no_gap(evidence.events, sequences),
        proofs.webhooks_arrived(evidence.received, evidence.events, run.merchants),
        promises.events_keep_their_names(evidence.received, evidence.events),
        proofs.histories_replay(histories.replayed, carried),
        *([] if run.rebuilt is None else [rebuilds(run.rebuilt)]),
    )
