"""Carries the plan's faults out at their times, each as a task of its own, and writes down which met their target."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import assert_never

from sqlalchemy.exc import DBAPIError

from corridor.storage.database import DatabaseUnavailable
from tests.chaos.faults import hostile, processes, provider, restore, temporal, webhooks
from tests.chaos.faults.failover import Acknowledged
from tests.chaos.faults.rollout import Rollouts
from tests.chaos.faults.turns import Line, Turns
from tests.chaos.journal import Journal
from tests.chaos.plan import Act, Kind
from tests.chaos.shopping import Street
from tests.chaos.stand import Stand
from tests.chaos.watch import Watch

TRIES, PAUSE_SECONDS = 25, 1.0
KILL_TRIES = 6
"""A process that another kill took first is killed when it works again, in its turn among those that came late."""
_NOT_BESIDE_A_RESTORE = (Kind.KILL, Kind.FULL_DISK, Kind.TERMINATE, Kind.RESET, Kind.TEMPORAL_LOST)
"""Waited for before the database is exchanged. Faults that a stack which is down anyway does not notice are not."""


def lines(acts: Sequence[Act]) -> dict[tuple[Kind, str], Line]:
    """For each kind and target a line that moves as fast as the plan itself strikes there."""
    planned = Counter((act.kind, act.target) for act in acts)
    ends = max((act.at_seconds for act in acts), default=0.0)
    return {place: Line(ends / count) for place, count in planned.items()}


class Performer:
    """Everything that breaks things. `perform` returns when every fault was tried and is over."""

    def __init__(self, stand: Stand, street: Street, journal: Journal, watch: Watch) -> None:
        self.stand, self.street, self.journal, self.watch = stand, street, journal, watch
        self.turns = Turns()
        self.rollouts = Rollouts(stand, self.turns)
        self._numbers = itertools.count(1)
        self._lines: dict[tuple[Kind, str], Line] = {}
        self._room = asyncio.Lock()
        """Held by what fills the disk, and by an export: it begins anew when it fails, and it takes minutes here."""
        self._standby = asyncio.Lock()
        """Held while one is needed: by a failover, and by a restoration from when the standby falls behind."""

    async def perform(self, acts: Sequence[Act]) -> None:
        self._lines = lines(acts)
        async with asyncio.TaskGroup() as group:
            for act in acts:
                await self._its_time(act)
                group.create_task(self._act(act))

    async def _its_time(self, act: Act) -> None:
        """The plan stands still while somebody is alone: the faults of minutes that nobody worked in would come doubled."""
        while (wait := act.at_seconds + self.turns.held_seconds - self.journal.seconds) > 0:
            await asyncio.sleep(wait)
            await self.turns.begin()

    async def as_an_operator(self) -> None:
        """What is run when the faults are over: `corridor resume`, and the end of every rollout."""
        resumed, rolled_out = await asyncio.gather(temporal.resume(self.stand), self.rollouts.settle())
        started = ", ".join(resumed.started) or "nothing"
        self.journal.note("operator", note=f"resume started {started}; {rolled_out or 'no rollout'}")

    async def _act(self, act: Act) -> None:
        fired, note = False, ""
        for number in range(KILL_TRIES if act.kind is Kind.KILL else 1):
            await self._in_turn(act, is_late=number > 0)
            async with self.turns.beside() if act.kind in _NOT_BESIDE_A_RESTORE else contextlib.nullcontext():
                fired, note = await self._done(act)
            if fired:
                break
        self.journal.act(act, fired, note)

    async def _in_turn(self, act: Act, *, is_late: bool) -> None:
        """At once, but for what comes late: it was held back, or found that another had struck its target."""
        if is_late:
            await asyncio.sleep(PAUSE_SECONDS)
        while await self.turns.begin() or is_late:
            is_late = False
            await asyncio.sleep(self._lines[act.kind, act.target].wait())

    async def _done(self, act: Act) -> tuple[bool, str]:
        stand, target, words = self.stand, act.target, act.words
        match act.kind:
            case Kind.KILL:
                found = processes.kill(stand, target)
            case Kind.PAUSE:
                found = processes.pause(stand, target, float(words["seconds"]))
            case Kind.CLOCK_SKEW:
                found = self._wrong_clock(act)
            case Kind.NETWORK:
                found = stand.network.plant(target, words)
            case Kind.FULL_DISK:
                found = self._full_disk(float(words["seconds"]))
            case Kind.FAILOVER:
                found = self._failover(act)
            case Kind.RECEIVER | Kind.LIQUIDITY:
                found = self._at_the_provider(act)
            case Kind.FORGED_WEBHOOK | Kind.HOSTILE_INPUT:
                found = self._at_the_door(act)
            case Kind.TERMINATE | Kind.RESET | Kind.TEMPORAL_LOST:
                found = self._at_temporal(act)
            case Kind.ROLLOUT:
                found = self.rollouts.roll_out(target, float(words["seconds"]))
            case Kind.RESTORE:
                found = self._restored(float(words["seconds"]))
            case _:
                assert_never(act.kind)
        return await found

    async def _at_the_provider(self, act: Act) -> tuple[bool, str]:
        """Until the sandbox has taken it: it may be down itself."""
        sandbox, words = self.stand.sandbox, act.words
        for _ in range(TRIES):
            if act.kind is Kind.LIQUIDITY:
                taken = await provider.liquidity_fails(sandbox, act.target, str(words["fault"]))
            else:
                count, status = int(words["fail_next"]), int(words["status"])
                taken = await provider.receiver_fails(sandbox, act.target, count, status)
            if taken:
                return True, ""
            await asyncio.sleep(PAUSE_SECONDS)
        return False, "the sandbox was never up"

    async def _at_temporal(self, act: Act) -> tuple[bool, str]:
        if act.kind is Kind.TERMINATE:
            return await temporal.terminate(self.stand, act.target, act.words)
        if act.kind is Kind.RESET:
            return await temporal.reset(self.stand, act.target, act.words)
        async with self._room:
            archived = await temporal.archive(self.stand)
        return await temporal.lose(self.stand, archived)

    async def _full_disk(self, seconds: float) -> tuple[bool, str]:
        async with self._room:
            return await self.stand.disk.full(seconds, self.stand.database_file)

    async def _wrong_clock(self, act: Act) -> tuple[bool, str]:
        """It was wrong from the start; at its time it is set right."""
        await asyncio.sleep(max(0.0, float(act.words["until_seconds"]) - self.journal.seconds))
        await asyncio.to_thread(self.stand.set_clock_right, act.target)
        return True, f"{act.words['seconds']} s until {self.journal.seconds:.0f} s"

    async def _restored(self, after_seconds: float) -> tuple[bool, str]:
        """Something is left behind now; later everything is struck, and goes on from there."""
        async with self._standby:
            older = await restore.leave_behind(self.stand, next(self._numbers))
            await asyncio.sleep(after_seconds)
            async with self.turns.alone():
                gone = await restore.go_back(self.stand, self.watch, older)
        return True, str(gone)

    async def _failover(self, act: Act) -> tuple[bool, str]:
        """What an old primary acknowledges without its standby is lost with it."""
        cluster, words = self.stand.postgres, act.words
        if cluster is None:
            return False, "the database is a file"
        try:
            async with self._standby:
                return await asyncio.to_thread(
                    cluster.fail_over, str(words["fault"]), float(words["seconds"])
                )
        except Acknowledged as lost:
            self.journal.violation(str(lost))
            return True, str(lost)

    async def _at_the_door(self, act: Act) -> tuple[bool, str]:
        """Until the API has judged it: while it is down, nothing was tested."""
        for _ in range(TRIES):
            judged, wrong, whom = await self._knock(act)
            if wrong is not None:
                self.journal.violation(wrong)
            if judged:
                return True, wrong or whom
            await asyncio.sleep(PAUSE_SECONDS)
        return False, "the API never judged it"

    async def _victim(self, name: str, number: int) -> webhooks.Victim | None:
        """Of two signed lies one is about a payment that is under way; None while there is none to be found.

        While the database is exchanged there is none to ask.
        """
        if name in webhooks.SIGNED_LIES and number % 2:
            await self.turns.begin()
            try:
                return await webhooks.under_way(self.stand.database, number)
            except (DatabaseUnavailable, DBAPIError, OSError):
                return None
        known = self.street.acknowledged
        return webhooks.somebody(known[number * 7919 % len(known)] if known else "pay_01nobody")

    async def _knock(self, act: Act) -> tuple[bool, str | None, str]:
        number, name, http = next(self._numbers), str(act.words["fault"]), self.stand.api
        if act.kind is Kind.HOSTILE_INPUT:
            api_key = next(iter(self.stand.keys.api_keys.values()))
            return *await hostile.send(http, api_key, name, f"hostile-{number}"), ""
        victim = await self._victim(name, number)
        if victim is None:
            return False, None, ""
        secret = self.stand.settings.stripe_webhook_secret.get_secret_value()
        return *await webhooks.send(http, secret, name, str(number), victim), victim.intent_id or ""
