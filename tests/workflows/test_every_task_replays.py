"""The main scenarios once more on a worker that caches nothing: every workflow task replays the whole history."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from corridor.runtime.keys import KeyRing
from tests.replay.scenarios import SCENARIOS
from tests.workflows.books import prove
from tests.workflows.conftest import installation
from tests.workflows.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="session")


TOO_SLOW = "_DeadlockError"
"""A task that takes two seconds, on a machine that is taken away, is interrupted by the SDK and taken again."""


@pytest_asyncio.fixture
async def forgetful(
    temporal_env: WorkflowEnvironment,
    key_ring: KeyRing,
    sqlite_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """Workers with a cache of 0 workflows."""
    with installation(sqlite_database, key_ring, tmp_path, monkeypatch) as (settings, sandbox):
        async with world(temporal_env.client, settings, sandbox, cached_workflows=0) as opened:
            yield opened
            await prove(opened)


@pytest.mark.parametrize(
    "scenario",
    [
        "happy", "three_d_secure", "unknown_not_found", "canceled", "cancel_during_capture", "review_approved",
        "refund_came_back", "settlement", "webhook_before_response",
    ],
)  # fmt: skip
async def test_a_workflow_that_is_never_cached_does_the_same(forgetful: World, scenario: str) -> None:
    for _, workflow_id in await SCENARIOS[scenario](forgetful):
        history = await forgetful.client.get_workflow_handle(workflow_id).fetch_history()
        failed = [
            event.workflow_task_failed_event_attributes.failure
            for event in history.events
            if event.HasField("workflow_task_failed_event_attributes")
        ]
        assert [it for it in failed if it.application_failure_info.type != TOO_SLOW] == []
