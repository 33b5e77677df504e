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

pytestmark = pytest.mark.slow  # two histories are filled first

SIZES = (1_500, 4_500)
BOUNDED = {"relay: postings to seal"}
"""The sealer looks back over a fixed number of postings, of which the shorter history has fewer."""

PAGES = [name for name in reads.READS if name not in BOUNDED]


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
