"""One run from its plan to its record: safety under faults, liveness without, then the audit."""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

from temporalio.client import ScheduleOverlapPolicy
from temporalio.service import RPCError

from corridor.domain.payment import Status
from corridor.runtime import client as temporal_client
from tests.chaos import arrivals, audit, autopsy, leaks, liveness, pressure
from tests.chaos.audit import Run
from tests.chaos.clerk import Clerk
from tests.chaos.faults import provider
from tests.chaos.faults.performer import Performer
from tests.chaos.journal import Journal
from tests.chaos.plan import Plan
from tests.chaos.pressure import Answers
from tests.chaos.record import Record
from tests.chaos.shopping import Street, tell
from tests.chaos.stand import Stand
from tests.chaos.watch import Watch
from workflows import names

Say = Callable[[str], None]
PROVIDER = "stripe"
SHOW_SECONDS = 5.0
LATE_SECONDS = 30.0
"""What took longer than this to recover is looked into, whatever the run is held to."""


async def perform(plan: Plan, stand: Stand, journal: Journal, say: Say) -> Record:
    """The whole run on a stand that is up; closing it is the caller's."""
    begun, clock, seconds = datetime.now(UTC), time.monotonic(), {}
    answers = Answers()
    answers.listen(stand.api)
    await stand.open()
    street = Street(stand.shops, stand.sandbox)
    clerk = Clerk(*stand.operators, stand.sandbox, street.orders)
    watch = Watch(stand.database, journal.violation)
    samples = leaks.sample(stand.pids(), await asyncio.to_thread(stand.tasks))
    performer = Performer(stand, street, journal, watch)
    journal.begin()
    async with _beside(watch.keep_looking()), _beside(clerk.work()), asyncio.TaskGroup() as orders:
        await _safety(plan, performer, orders, say)
        seconds["safety"], clock = time.monotonic() - clock, time.monotonic()
        recovery = await _liveness(performer, orders, say)
    seconds["liveness"], clock = time.monotonic() - clock, time.monotonic()
    for surprise in clerk.found(watch.returns):
        journal.violation(surprise)
    say("everything is quiet; comparing both sides' books and replaying every history")
    run = Run(plan, stand, street, clerk, watch, journal, recovery, samples, answers.by_status)
    by_provider = await provider.fired(stand.sandbox)
    proofs, evidence = await audit.judge(run)
    seconds["audit"] = time.monotonic() - clock
    ended = {it.id for it in evidence.payments if Status(it.status).is_terminal}
    for line in await autopsy.of(stand.settings, late(recovery)):
        journal.note("late", note=line)
    return Record(
        plan=plan, begun=begun, proofs=proofs, evidence=evidence, journal=journal, recovery=recovery,
        by_provider=by_provider, on_the_wire=stand.network.fired(), answers=answers.by_status,
        pressure=pressure.told(plan, answers, street.orders, ended), decisions=clerk.decided,
        skipped=stand.skipped(), storage=stand.disk.about, load=os.getloadavg()[2], seconds=seconds,
    )  # fmt: skip


def late(recovery: liveness.Recovery) -> list[str]:
    """Payments to look into: those that never ended, then those that took long, whomever they waited for at last."""
    took = [
        name
        for times in (recovery.decided, recovery.ended)
        for name, it in times.items()
        if it > LATE_SECONDS
    ]
    return list(dict.fromkeys([*recovery.never_ended, *took]))


async def _safety(plan: Plan, performer: Performer, orders: asyncio.TaskGroup, say: Say) -> None:
    """Arrivals and faults together; returns when the last fault was tried and is over."""
    street, journal = performer.street, performer.journal
    async with asyncio.TaskGroup() as group:
        showing = group.create_task(_show(plan, street, journal, say))
        performing = group.create_task(performer.perform(plan.acts))
        for arrival in plan.arrivals:
            await asyncio.sleep(max(0.0, arrival.at_seconds - journal.seconds))
            street.expect(arrival)
            orders.create_task(tell(street, arrival))
        await performing
        showing.cancel()


async def _liveness(performer: Performer, orders: asyncio.TaskGroup, say: Say) -> liveness.Recovery:
    """Lift every fault, place the closing orders, and wait until nothing moves.

    The time counts from the last fault: what is down then, and what the operator does, count into it.
    """
    stand = performer.stand
    say("faults off")
    stand.lift()
    ended_at, until = time.monotonic(), time.time()
    at_seconds = performer.journal.seconds
    found = await liveness.from_now_on(stand.database)
    found.faults_ended_at_seconds = at_seconds
    async with _beside(liveness.follow(stand.database, found, ended_at)):
        await stand.until_up()
        secret_key = stand.settings.stripe_secret_key.get_secret_value()
        found.owe(await liveness.paid_out(stand.database, stand.sandbox, secret_key, until))
    closing = Closing(performer, orders)
    closing.close_the_day()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            liveness.until_quiet(stand.database, stand.sandbox, found, ended_at, closing, _seldom(say))
        )
        group.create_task(performer.as_an_operator())
    return found


class Closing:
    """Everybody after the faults: shops place what the provider needs in order to pay out, and it pays out."""

    def __init__(self, performer: Performer, orders: asyncio.TaskGroup) -> None:
        self._stand, self._street, self._journal = performer.stand, performer.street, performer.journal
        self._orders = orders
        self._rounds = itertools.count(1)

    @property
    def are_done(self) -> bool:
        return self._street.over == len(self._street.orders)

    def close_the_day(self) -> None:
        for arrival in arrivals.closing_orders(next(self._rounds)):
            self._street.expect(arrival)
            self._orders.create_task(tell(self._street, arrival))

    async def pay_out(self) -> None:
        """The import follows at once: its schedule is triggered, as an operator does it in Temporal's UI."""
        (await self._stand.sandbox.post("/control/settle")).raise_for_status()
        try:
            client = await temporal_client.connect(self._stand.settings)
            schedule = client.get_schedule_handle(names.settlement_workflow_id(PROVIDER))
            await schedule.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE)
        except (RPCError, RuntimeError) as error:
            self._journal.note("import", PROVIDER, f"not triggered, it comes at its interval: {error}")


async def _show(plan: Plan, street: Street, journal: Journal, say: Say) -> None:
    """A short-lived line now and then."""
    while True:
        await asyncio.sleep(SHOW_SECONDS)
        fired = sum(entry.fired for entry in journal.entries)
        say(
            f"safety {journal.seconds:.0f}/{plan.profile.safety_seconds} s: {street.over} of {len(street.orders)} orders"
            f" over, {fired} of {len(plan.acts)} faults, {len(journal.violations)} violations"
        )


def _seldom(say: Say) -> Say:
    last = float("-inf")

    def speak(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SHOW_SECONDS:
            last = time.monotonic()
            say(text)

    return speak


@contextlib.asynccontextmanager
async def _beside(work: object) -> AsyncIterator[None]:
    """Run a coroutine that never ends beside the block."""
    task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def directory_of(plan: Plan, given: Path | None) -> Path:
    """Where the record of a run goes."""
    return given or Path("var") / "chaos" / f"{plan.profile.name}-{plan.database}-{plan.seed}"
