"""No list and no look of the relay costs more in a long history than in a short one, by the steps SQLite takes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from benchmarks.scale import fill, moulds, plans, reads
from benchmarks.scale.reads import Desk
from corridor.fx.ecb import EcbRates
from corridor.runtime import keys
from corridor.runtime.settings import load
from corridor.storage.sealing import Sealer

SIZES = (1_500, 4_500)
BOUNDED = {"relay: postings to seal"}
"""The sealer looks back over a fixed number of postings, of which the shorter history has fewer."""

_KEYSET = "`a < x OR (a = x AND b < y)` is no range: the page walks from the newest; compare (a, b) < (x, y)"
_BOUNDS = "min() and max() in one SELECT read the whole index; ask for each by itself"
_UNSTARTED = "ordered by id, so the primary key is walked; the partial index must be on id"
_FEED = "GROUP BY merchant reads the whole feed; page by position and fold"
_REFERENCE = "no index on (merchant_id, merchant_reference, created_at, id)"
STEEP = {
    "payments, page from mid-history": _KEYSET,
    "payments, settled, page from mid-history": _KEYSET,
    "refunds, page from mid-history": _KEYSET,
    "payments, waiting for somebody": "several statuses walk all of history; read each status by its index and merge",
    "payments, by reference": _REFERENCE,
    "payments, by unknown reference": _REFERENCE,
    "refunds, of one payment": "no index on (payment_id, merchant_id, created_at, id)",
    "refunds, failed (there are none)": "no index on (merchant_id, status, created_at, id)",
    "events, from the oldest": _BOUNDS,
    "events, since mid-history": _BOUNDS,
    "events, at the feed's end": _BOUNDS,
    "events, from the oldest, small merchant": _BOUNDS,
    "relay: events to place": "the window makes SQLite scan all events; read the outbox first, materialised",
    "relay: payments never started": _UNSTARTED,
    "relay: refunds never started": _UNSTARTED,
    "stream: first look at the feed": _FEED,
    "stream: later looks": _FEED,
}
"""What is not flat yet, and why: a read that becomes flat must leave this list."""
PAGES = [
    pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=STEEP[name])) if name in STEEP else name
    for name in reads.READS
    if name not in BOUNDED
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def desks(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Desk]]:
    directory = tmp_path_factory.mktemp("reads")
    settings = load(data_dir=directory / "data", log_level="warning", market_day=EcbRates().newest_day())
    keys.load_or_generate(settings)
    ring = keys.load(settings)
    now = datetime.now(UTC)
    made = await moulds.make(settings, directory, now, variety=1)
    sealer = Sealer(ring.current, ring.keys)
    filled = [
        await fill.fill(f"sqlite:///{directory / f'{size}.db'}", size, made, settings, sealer, now)
        for size in SIZES
    ]
    async with reads.desks(filled, settings) as found:
        yield found


@pytest.mark.parametrize("name", PAGES)
async def test_a_longer_history_makes_no_read_costlier(desks: list[Desk], name: str) -> None:
    look = reads.READS[name]
    for desk in desks:
        await look(desk)  # reads the caller's key, once
    small, large = [await plans.steps(desk, look) for desk in desks]
    assert large <= 1.2 * small + 10 * plans.GRAIN, await plans.of(desks[-1], look)
