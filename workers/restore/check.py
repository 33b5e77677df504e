"""Restore check: the database came back older than the world; find what it lacks, and make again what is proven.

Three witnesses are heard: the workflow histories (what was decided and answered), the providers' reports and lists
(what happened to the money), and the database itself (what it still knows). Checking is repairing and rolling back,
so what the check lists is exactly what the repair does. Nothing is sent to a provider but questions.

The histories' workflows that still run need no restart afterwards: a repaired database is where they left it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, select
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.edge import Edge
from corridor.domain.ids import Prefix, is_id
from corridor.providers.port import ListsEffects, LookUpFailed, PaymentProvider
from corridor.runtime.histories import Run, Unopened, from_server, query_since
from corridor.storage import effects, events, refunds
from corridor.storage.database import Database
from corridor.storage.tables import event_positions
from corridor.storage.tables import events as event_table
from workers.histories import reading
from workers.histories.archive import Archive
from workers.histories.reading import Reading, Sealed
from workers.restore import deliveries
from workers.restore.gaps import DIFFERING, Findings, Gap, GapKind
from workers.restore.imports import Imports
from workers.restore.imports import catch_up as importing_again
from workers.restore.picture import Picture, look
from workers.restore.repair import Family, Repaired, repair
from workers.restore.untold import as_the_provider_tells
from workflows import names

STANDS_STILL = 4
"""Equal counts of the workflows, a second apart, after which the list counts as whole."""
GIVEN_BACK_AFTER = timedelta(seconds=12)
"""The server takes a workflow's task back from a worker that died after ten seconds. Until then the history shows nothing
of what came in meanwhile, a step's result among it, and the workflow would go on with what the database was not told.
"""
MARGIN = timedelta(minutes=10)
"""Clocks and visibility may be this far behind what the newest event of the database says."""
LATEST_EVENTS = 200
"""Of so many, the oldest is believed: a process whose clock ran ahead wrote some of the newest, never all."""
PLACED_AT_ONCE = 500
LOOK_BACK = timedelta(days=30)
"""How far a provider's own lists are read where nothing says how old the database is."""
SPARE_PLACES = 1000
"""Places left free in the merchants' feed beyond the events that are known to be lost."""

_NO_KEY = "restore the key ring that sealed it; nothing is known of this payment until then"
_OTHER_BUILD = "nothing of this payment was made again or stopped; before the workers start, run this with the build that wrote it"
_STRANGER = "look in the provider's dashboard who made it; it is not touched from here"
_ASK_LATER = "run this again when the provider answers"


class _Undo(Exception):
    """Carries what a transaction found out of its rollback."""

    def __init__(self, gaps: list[Gap], lost_events: int) -> None:
        super().__init__()
        self.gaps = gaps
        self.lost_events = lost_events


@dataclass(frozen=True)
class Check:
    """One run of the command and all it stands on."""

    edge: Edge
    client: Client
    since: datetime | None = None
    """What closed before is not read; None: ten minutes before the newest events the database knows."""
    query: str = ""
    """A visibility query that narrows which workflows are read; empty: all."""
    archive: Archive | None = None
    """Exported histories, for runs the server does not have any more."""
    settles_within: timedelta = timedelta()
    """How long to wait for the server's list of workflows, which it writes behind them, to stand still.

    With any, the workers may have died a moment ago: what they had taken is waited for as well.
    """

    @property
    def database(self) -> Database:
        return self.edge.database

    async def run(self, *, is_repair: bool, findings: Findings | None = None) -> Findings:
        """Find every gap, and with `is_repair` close those that are provable. A second run finds nothing of these.

        `findings` is filled on the way, and is all that is left of a run that raises `DatabaseUnavailable`, `RPCError`.
        """
        findings = Findings(repaired=is_repair) if findings is None else findings
        begun = time.monotonic()
        await self._list_is_whole()
        if self.settles_within:
            await asyncio.sleep(max(0.0, GIVEN_BACK_AFTER.total_seconds() - (time.monotonic() - begun)))
        since = self.since or await self.database.read(newest_surely_known)
        imports = Imports()
        families = [
            await as_the_provider_tells(family, self.edge.providers)
            for family in await self._read_families(since, findings, imports)
        ]
        behind, gaps, lost = await self._compare(families, imports)
        if is_repair:
            ahead = await self._repair(behind, imports, lost, findings)
            async for it in self._stop([*imports.blind, *ahead]):
                findings.stopped.append(it)
        else:
            findings.gaps += gaps
        findings.gaps += await importing_again(self.database, imports, is_repair)
        delivered = self._runs(since, names.WEBHOOK_DELIVERY)
        findings.gaps += await deliveries.catch_up(self.database, delivered, is_repair)
        findings.gaps += [gap async for gap in self._strangers(since, families)]
        return findings

    async def _list_is_whole(self) -> None:
        """A server that was killed with the rest lists its newest workflows seconds after it is back."""
        deadline, counts = self.edge.now() + self.settles_within, list[int]()
        while self.edge.now() < deadline and (
            len(counts) < STANDS_STILL or len(set(counts[-STANDS_STILL:])) > 1
        ):
            counts.append((await self.client.count_workflows(self.query or None)).count)
            await asyncio.sleep(1)

    # --- what the histories say ------------------------------------------------------------------------------------

    async def _read_families(
        self, since: datetime | None, findings: Findings, imports: Imports
    ) -> list[Family]:
        """Payments with their refunds, oldest first."""
        families: dict[str, Family] = {}
        async for found in self._runs(since, names.PAYMENT, names.REFUND, names.SETTLEMENT):
            findings.histories += 1
            if isinstance(found, Gap):
                findings.gaps.append(found)
            elif found.workflow_type == names.SETTLEMENT:
                imports.add(found)
            elif found.workflow_type == names.PAYMENT:
                families.setdefault(found.object_id, Family(found.object_id)).payment.append(found)
            else:
                payment_id = found.start.payment_id
                family = families.setdefault(payment_id, Family(payment_id))
                family.refunds.setdefault(found.object_id, []).append(found)
        for family in families.values():
            for runs in (family.payment, *family.refunds.values()):
                runs.sort(key=lambda it: it.started_at)
        left_out = {gap.object_id for gap in findings.gaps if gap.kind is GapKind.UNREAD}
        sealed = [gap.object_id for gap in findings.gaps if gap.kind is GapKind.SEALED]
        left_out |= {await self._payment_of(workflow_id, families) for workflow_id in sealed}
        return [families[payment_id] for payment_id in sorted(families.keys() - left_out)]

    async def _payment_of(self, workflow_id: str, families: dict[str, Family]) -> str:
        """The payment that a sealed workflow is about. Of a refund nothing but another run or the database can say it."""
        object_id = workflow_id.partition("-")[2]
        if not is_id(object_id, Prefix.REFUND):
            return object_id
        told = (it.payment_id for it in families.values() if object_id in it.refunds)
        return next(told, None) or await self.database.read(_payment_known_of, object_id) or ""

    async def _runs(self, since: datetime | None, *types: str) -> AsyncIterator[Reading | Gap]:
        """What runs, and what closed since then."""
        of = " OR ".join(f'WorkflowType = "{name}"' for name in types)
        query = f"({of}) AND ({self.query})" if self.query else f"({of})"
        seen = set()
        async for run in from_server(self.client, query_since(query, since)):
            seen.add(run.run_id)
            yield await self._read(run)
        if self.archive is None:
            return
        async for archived in self.archive.runs(since, types, seen):
            yield await self._read(archived)

    async def _read(self, run: Run | Unopened) -> Reading | Gap:
        if isinstance(run, Unopened):
            return Gap(GapKind.SEALED, run.workflow_id, str(run), _NO_KEY)
        try:
            told = await reading.read(run.history, self.client.data_converter, run.run_id)
        except Sealed as sealed:
            return Gap(GapKind.SEALED, run.workflow_id, str(sealed), _NO_KEY)
        if not told.unread:
            return told
        return Gap(GapKind.UNREAD, _owner(told), f"{told.workflow_id}: {told.unread[0]}", _OTHER_BUILD)

    # --- what the database lacks -----------------------------------------------------------------------------------

    async def _compare(self, families: list[Family], imports: Imports) -> tuple[list[Family], list[Gap], int]:
        """Repair each payment and roll it back; returns those with gaps, these, and how many events were lost in all.

        Each is alone with the database as it is, so what one owes to another's repair is a gap of its own here.
        """
        behind, gaps, lost = list[Family](), list[Gap](), 0
        for family in families:
            try:
                await self.database.write(self._and_undo, family, imports)
            except _Undo as undone:
                gaps += undone.gaps
                lost += undone.lost_events
                if undone.gaps:
                    behind.append(family)
        return behind, gaps, lost

    def _and_undo(self, connection: Connection, family: Family, imports: Imports) -> None:
        before = look(connection, family.object_ids)
        repaired = self._make_again(connection, family, imports, before)
        told = sum(max(0, number - before.sequence(it)) for it, number in family.reached.items())
        lost = max(told, repaired.after.events - before.events)
        raise _Undo(repaired.gaps, lost if repaired.gaps else 0)

    def _make_again(
        self, connection: Connection, family: Family, imports: Imports, before: Picture
    ) -> Repaired:
        imports.stage_for(connection, family.payment_id)
        return repair(connection, family, self.edge, before)

    async def _repair(
        self, behind: list[Family], imports: Imports, lost: int, findings: Findings
    ) -> list[Reading]:
        """Each payment in a transaction of its own, so that a repair cut off goes on where it was.

        Payments share their merchant's balance, and a refund may have taken what another brought in. So those that
        differ are taken again as long as any payment gets further. Returns the runs that are ahead at last.
        """
        beyond = await self.database.read(events.last_position) + lost + SPARE_PLACES if lost else 0
        differing, is_further = list[tuple[Family, Repaired]](), True
        while behind and is_further:
            differing, is_further = [], False
            for family in behind:
                repaired, placed = await self.database.write(self._for_good, family, imports, beyond)
                if placed:
                    beyond = 0  # that place is beyond all that were given; those that follow come after it
                made = [gap for gap in repaired.gaps if gap.kind not in DIFFERING]
                is_further |= findings.note(family.payment_id, made)
                if len(made) < len(repaired.gaps):
                    differing.append((family, repaired))
            behind = [family for family, _ in differing]
        for _, last in differing:
            findings.gaps += [gap for gap in last.gaps if gap.kind in DIFFERING]
        return [it for _, last in differing for it in last.ahead]

    def _for_good(
        self, connection: Connection, family: Family, imports: Imports, beyond: int
    ) -> tuple[Repaired, int]:
        """Returns with it how many events were placed: none, where none was lost or none could be made."""
        repaired = self._make_again(connection, family, imports, look(connection, family.object_ids))
        return repaired, events.assign_positions(connection, PLACED_AT_ONCE, beyond) if beyond else 0

    async def _stop(self, ahead: list[Reading]) -> AsyncIterator[str]:
        """End the workflows of what could not be repaired: their next step would meet rows older than they know.

        An import that is stopped is begun anew by its schedule.
        """
        for it in ahead:
            if not it.is_closed and await self._terminate(it):
                yield it.workflow_id

    async def _terminate(self, it: Reading) -> bool:
        handle = self.client.get_workflow_handle(it.workflow_id, run_id=it.run_id)
        try:
            await handle.terminate(
                reason="restore-check: ahead of a database that could not be brought up to it"
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True

    # --- what the providers say ------------------------------------------------------------------------------------

    def _providers(self) -> list[PaymentProvider]:
        return [self.edge.providers[name] for name in self.edge.providers.names]

    async def _strangers(self, since: datetime | None, families: list[Family]) -> AsyncIterator[Gap]:
        """Effects in a provider's books that neither the database nor any history declared."""
        declared = {key for family in families for it in family.readings for key in _declared(it)}
        for provider in self._providers():
            name = provider.capabilities.provider
            if not isinstance(provider, ListsEffects):
                continue
            try:
                seen = await provider.effects_since(since or self.edge.now() - LOOK_BACK)
            except LookUpFailed as failed:
                yield Gap(GapKind.UNREACHABLE, name, f"its books could not be read: {failed}", _ASK_LATER)
                continue
            for effect in seen:
                key = effect.effect_key
                if key not in declared and not await self.database.read(_is_known, key):
                    yield Gap(
                        GapKind.STRANGER,
                        key or effect.provider_reference,
                        f"{name}: {effect.what}",
                        _STRANGER,
                    )


def _owner(it: Reading) -> str:
    """The payment it is about, also where its start could not be read; of what is about none, its own id."""
    is_read = not isinstance(it.start, dict)
    payment_id = getattr(it.start, "payment_id", None) if is_read else it.start.get("payment_id")
    return str(payment_id or it.object_id)


def _payment_known_of(connection: Connection, refund_id: str) -> str | None:
    refund = refunds.find(connection, refund_id)
    return None if refund is None else str(refund.payment_id)


def _declared(it: Reading) -> set[str]:
    plans = (getattr(step.result, "plan", None) for step in it.steps)
    return {plan.effect_key for plan in plans if plan is not None}


def _is_known(connection: Connection, key: str | None) -> bool:
    return key is not None and effects.find(connection, key) is not None


def newest_surely_known(connection: Connection) -> datetime | None:
    """A moment before which the database is surely complete, also when one of the clocks that wrote it ran ahead."""
    newest = select(event_table.c.created_at).order_by(event_table.c.created_at.desc()).limit(LATEST_EVENTS)
    last = (
        select(event_table.c.created_at)
        .join(event_positions, event_positions.c.event_id == event_table.c.id)
        .order_by(event_positions.c.position.desc())
        .limit(LATEST_EVENTS)
    )
    moments = [*connection.execute(newest).scalars(), *connection.execute(last).scalars()]
    return min(moments) - MARGIN if moments else None
