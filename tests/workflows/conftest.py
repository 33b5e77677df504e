"""One small installation per test module: Temporal is shared, database and sandbox books are its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from corridor.fx.ecb import EcbRates
from corridor.runtime.keys import KeyRing
from corridor.runtime.settings import load
from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.embedded import EmbeddedSandbox
from tests.workflows.world import World, world


@pytest_asyncio.fixture
async def here(
    temporal_env: WorkflowEnvironment, key_ring: KeyRing, database_url: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """The installation on SQLite and on PostgreSQL, with a sandbox that pays out only when asked to."""
    config = SandboxConfig(
        port=0, data_dir=tmp_path / "sandbox", settlement_delay_seconds=0, payout_period_seconds=0,
        payout_transit_seconds=0, search_lag_seconds=0,
    )
    with EmbeddedSandbox(config) as sandbox:
        monkeypatch.setenv("DATABASE_URL", database_url)
        settings = load(
            data_dir=tmp_path,
            stripe_url=f"{sandbox.url}/stripe",
            liquidity_url=f"{sandbox.url}/lp",
            encryption_keys=key_ring.render(),
            market_day=EcbRates().newest_day(),
        )
        async with world(temporal_env.client, settings, sandbox.url) as opened:
            yield opened
