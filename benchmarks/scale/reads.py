"""Every list and look the product offers, timed in databases of different sizes: the API's own and the relay's.

The API's go through the real application, authentication and JSON included, without a socket. The merchant who asks
is the hot one unless a read says otherwise. Databases take turns, read by read.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import SecretStr
from sqlalchemy import Connection, Row, Table, func, select

from api import feed
from api.__main__ import DeskQuotes
from api.admission import PolicyAdmission
from api.app import create_app
from api.dependencies import ApiDependencies
from api.gateway import TemporalGateway
from api.paging import Cursors
from benchmarks.scale.fill import Filled
from benchmarks.scale.steps import PROVIDER
from benchmarks.scale.weighing import Weighed
from corridor.ledger.seal import seal
from corridor.runtime import client as temporal_client
from corridor.runtime.settings import Settings
from corridor.storage import events, inbox_routing, settlement, waiting
from corridor.storage import webhook_deliveries as deliveries
from corridor.storage.database import Database
from corridor.storage.tables import event_positions, payments, refunds
from corridor.storage.unstarted import unstarted_payments, unstarted_refunds
from workers import wiring
from workers.relay.orphans import BATCH, PATIENCE

WARM_UP = 2

Look = Callable[["Desk"], Awaitable[object]]


@dataclass(frozen=True)
class Known:
    """Something in the middle of the hot merchant's history to ask for."""

    payment_id: str
    reference: str
    key: str
    cursor: str
    settled_cursor: str
    refund_cursor: str
    refunded: str
    position: int
    newest_position: int


@dataclass(frozen=True)
class Desk:
    """One database behind the API and behind the relay's functions."""

    filled: Filled
    http: httpx.AsyncClient
    database: Database
    known: Known

    async def get(self, path: str, who: str = "hot", **query: Any) -> Any:
        """Raises when the answer is no list: a refusal would be quick too."""
        answer = await self.http.get(
            path, params=query, headers={"Authorization": f"Bearer {self.filled.keys[who]}"}
        )
        answer.raise_for_status()
        return answer.json()


def _api(path: str, who: str = "hot", **query: Any) -> Look:
    return lambda desk: desk.get(path, who, **query)


def _with_status(path: str, *statuses: str) -> Look:
    return lambda desk: desk.get(path, "hot", **{"status[in]": list(statuses)})


def _about(ask: Callable[[Known], dict[str, Any]], path: str) -> Look:
    return lambda desk: desk.get(path, "hot", **ask(desk.known))


def _read(work: Callable[[Connection], Any]) -> Look:
    return lambda desk: desk.database.read(work)


LISTS: dict[str, Look] = {
    "payments, newest": _api("/v1/payments"),
    "payments, newest 100": _api("/v1/payments", limit=100),
    "payments, newest, small merchant": _api("/v1/payments", "small"),
    "payments, page from mid-history": _about(lambda known: {"starting_after": known.cursor}, "/v1/payments"),
    "payments, settled": _with_status("/v1/payments", "settled"),
    "payments, settled, page from mid-history": _about(
        lambda known: {"starting_after": known.settled_cursor, "status[in]": "settled"}, "/v1/payments"
    ),
    "payments, failed": _with_status("/v1/payments", "failed"),
    "payments, settled or failed": _with_status("/v1/payments", "settled", "failed"),
    "payments, waiting for somebody": _with_status(
        "/v1/payments", "processing", "requires_action", "requires_review"
    ),
    "payments, expired (there are none)": _with_status("/v1/payments", "expired"),
    "payments, by reference": _about(lambda known: {"merchant_reference": known.reference}, "/v1/payments"),
    "payments, by unknown reference": _api("/v1/payments", merchant_reference="no-such-order"),
    "payments, by idempotency key": _about(lambda known: {"idempotency_key": known.key}, "/v1/payments"),
    "one payment": lambda desk: desk.get(f"/v1/payments/{desk.known.payment_id}"),
    "its events": lambda desk: desk.get(f"/v1/payments/{desk.known.payment_id}/events"),
    "refunds, newest": _api("/v1/refunds"),
    "refunds, page from mid-history": _about(
        lambda known: {"starting_after": known.refund_cursor}, "/v1/refunds"
    ),
    "refunds, of one payment": _about(lambda known: {"payment": known.refunded}, "/v1/refunds"),
    "refunds, succeeded": _with_status("/v1/refunds", "succeeded"),
    "refunds, failed (there are none)": _with_status("/v1/refunds", "failed"),
    "events, from the oldest": _api("/v1/events"),
    "events, since mid-history": _about(lambda known: {"after_position": known.position}, "/v1/events"),
    "events, at the feed's end": _about(
        lambda known: {"after_position": known.newest_position}, "/v1/events"
    ),
    "events, from the oldest, small merchant": _api("/v1/events", "small"),
    "reviews, open": _api("/v1/reviews", "operator"),
    "balances": _api("/v1/balances"),
    "balances, small merchant": _api("/v1/balances", "small"),
    "webhook endpoints": _api("/v1/webhook_endpoints"),
}


def _now() -> datetime:
    return datetime.now(UTC)


def _placed(connection: Connection) -> None:
    """What the sequencer's turn takes; undone, so that the next look finds the same events waiting."""
    with connection.begin_nested() as savepoint:
        events.assign_positions(connection, 500)
        savepoint.rollback()


RELAY: dict[str, Look] = {
    "relay: events to place": lambda desk: desk.database.write(_placed),
    "relay: payments never started": _read(lambda it: unstarted_payments(it, _now(), PATIENCE, "", BATCH)),
    "relay: refunds never started": _read(lambda it: unstarted_refunds(it, _now(), PATIENCE, "", BATCH)),
    "relay: events not dispatched": _read(lambda it: events.undispatched(it, 200)),
    "relay: last place in the feed": _read(events.last_position),
    "relay: deliveries not started": _read(lambda it: deliveries.unstarted(it, 16)),
    "relay: provider events due": _read(lambda it: inbox_routing.is_due(it, _now())),
    "relay: staged report rows": _read(lambda it: settlement.batches_with_staged_rows(it, PROVIDER)),
    "relay: newest report": _read(lambda it: settlement.newest_batch_at(it, PROVIDER)),
    "relay: postings to seal": lambda desk: desk.database.write(seal, _now(), 500),
    "watch: what waits and since when": _read(lambda it: waiting.look(it, _now())),
    "stream: first look at the feed": _read(lambda it: feed._grown(it, 0)),  # noqa: SLF001 — an API process's first look
    "stream: later looks": lambda desk: desk.database.read(feed._grown, desk.known.newest_position),  # noqa: SLF001
}
READS = LISTS | RELAY


@contextlib.asynccontextmanager
async def desks(filled: Sequence[Filled], settings: Settings) -> AsyncIterator[list[Desk]]:
    """The API and a way into the database, for each of the databases."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_desk(one, settings)) for one in filled]


@contextlib.asynccontextmanager
async def _desk(one: Filled, settings: Settings) -> AsyncIterator[Desk]:
    wired = wiring.build(settings.model_copy(update={"database_url": SecretStr(one.url)}))
    edge = wired.edge
    app = create_app(
        ApiDependencies(
            database=edge.database,
            # Lists never ask Temporal: there is none at this address.
            gateway=TemporalGateway(await temporal_client.connect(settings, lazy=True)),
            settings=settings,
            quotes=DeskQuotes(edge.desk, edge.database),
            admission=PolicyAdmission(edge.policies, edge.desk.per_euro),
            registry=edge.providers,
            sealer=wired.sealer,
            clock=edge.now,
        )
    )
    known = await edge.database.read(_known, one.hot.id, app.state.cursors)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://scale.test") as http:
        yield Desk(one, http, edge.database, known)
    await wired.close()


def _known(connection: Connection, merchant_id: str, cursors: Cursors) -> Known:
    row = _middle(connection, payments, merchant_id)
    refund = _middle(connection, refunds, merchant_id)
    at, back_at = (row.created_at, row.id), (refund.created_at, refund.id)
    of_payments: dict[str, Any] = {
        "list": "payments",
        "merchant": merchant_id,
        "status": [],
        "reference": None,
    }
    of_refunds: dict[str, Any] = {"list": "refunds", "merchant": merchant_id, "status": [], "payment": None}
    newest = connection.execute(select(func.max(event_positions.c.position))).scalar_one()
    return Known(
        payment_id=row.id,
        reference=row.merchant_reference,
        key=row.idempotency_key,
        cursor=cursors.write(at, of_payments),
        settled_cursor=cursors.write(at, of_payments | {"status": ["settled"]}),
        refund_cursor=cursors.write(back_at, of_refunds),
        refunded=refund.payment_id,
        position=newest // 2,
        newest_position=newest,
    )


def _middle(connection: Connection, table: Table, merchant_id: str) -> Row[Any]:
    mine = table.c.merchant_id == merchant_id
    count = connection.execute(select(func.count()).where(mine)).scalar_one()
    return connection.execute(
        select(table).where(mine).order_by(table.c.id).offset(count // 2).limit(1)
    ).one()


async def measure(found: Sequence[Desk], count: int, say: Callable[[str], None]) -> list[Weighed]:
    """Every read `count` times in each database."""
    weighed = {name: Weighed(name) for name in READS}
    for name, look in READS.items():
        for number in range(-WARM_UP, count):
            for desk in found:
                begun = time.perf_counter()
                await look(desk)
                if number >= 0:
                    weighed[name].seconds[desk.filled.payments].append(time.perf_counter() - begun)
    say(f"{len(READS)} reads, {count} times in each of {len(found)} databases")
    return list(weighed.values())
