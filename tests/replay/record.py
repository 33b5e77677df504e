"""Records the golden histories anew: `python -m pytest tests/replay/record.py`.

Not collected by itself: recording replaces what the gate compares with, so it is asked for by name.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, select
from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from temporalio.testing import WorkflowEnvironment

from corridor.ledger import store
from corridor.storage.ledger_tables import postings
from tests.replay import gate, golden
from tests.replay.golden import RING, Json
from tests.replay.scenarios import SCENARIOS
from tests.workflows.books import prove
from tests.workflows.conftest import installation
from tests.workflows.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture
async def here(
    temporal_env: WorkflowEnvironment, sqlite_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """A small installation whose histories are sealed with the published key."""
    address = temporal_env.client.service_client.config.target_host
    client = await Client.connect(address, namespace=golden.NAMESPACE, data_converter=golden.converter())
    with installation(sqlite_database, RING, tmp_path, monkeypatch) as (settings, sandbox):
        async with world(client, settings, sandbox) as opened:
            yield opened
            await prove(opened)


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_record(here: World, scenario: str) -> None:
    for workflow, workflow_id in await SCENARIOS[scenario](here):
        history = await _at_rest(here.client.get_workflow_handle(workflow_id))
        told = await golden.postings(history, golden.converter())
        expected: Json = {
            "result": await golden.result_of(history, golden.converter()),
            # From the ledger itself, not from the history: the comparison is to prove that both say the same.
            "postings": await here.database.read(_posted, [posting["key"] for posting in told], workflow_id),
            "commands": await gate.commands_of(history),
        }
        golden.save(workflow, scenario, history, expected)


async def _at_rest(handle: WorkflowHandle[Any, Any]) -> WorkflowHistory:
    """The history once nothing is under way: a row may show what the workflow's task has not reported yet."""
    history = await handle.fetch_history()
    while True:
        await asyncio.sleep(1)
        later = await handle.fetch_history()
        if len(later.events) == len(history.events):
            return later
        history = later


def _posted(connection: Connection, told: list[str], workflow_id: str) -> list[Json]:
    """What the ledger holds of the workflow's object (of a settlement: under the keys its history names)."""
    object_id = workflow_id.partition("-")[2]
    keys = set(
        connection.execute(select(postings.c.key).where(postings.c.key.startswith(f"{object_id}:"))).scalars()
    )
    found = (store.posting_by_key(connection, key) for key in sorted(keys | set(told)))
    return [golden.comparable(posting.model_dump(mode="json")) for posting in found if posting is not None]
