"""A real history, sealed on a real server, replayed: after rotation, without the key, and by reordered code."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio import activity, workflow
from temporalio.client import WorkflowHistory
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    # The workflows of this file are imported again inside the sandbox, where `cryptography` cannot be.
    from corridor.runtime.converter import make_converter
    from corridor.runtime.histories import from_directory
    from corridor.runtime.keys import KeyRing
    from corridor.runtime.replay import Verdict, replay

CANARY = "buyer-canary"


@activity.defn(name="test.greet")
async def greet(name: str) -> str:
    return f"hello {name}"


@workflow.defn(name="TestGreeting")
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        answer = await workflow.execute_activity(
            "test.greet", name, result_type=str, start_to_close_timeout=timedelta(seconds=5)
        )
        await workflow.sleep(0.01)
        return answer


@workflow.defn(name="TestGreeting")
class Reordered:
    @workflow.run
    async def run(self, name: str) -> str:
        await workflow.sleep(0.01)
        return await workflow.execute_activity(
            "test.greet", name, result_type=str, start_to_close_timeout=timedelta(seconds=5)
        )


@pytest.fixture(scope="module")
async def history(temporal_env: WorkflowEnvironment) -> WorkflowHistory:
    client, queue = temporal_env.client, f"replay-{uuid4()}"
    async with Worker(client, task_queue=queue, workflows=[Greeting], activities=[greet]):
        handle = await client.start_workflow("TestGreeting", CANARY, id=queue, task_queue=queue)
        assert await asyncio.wait_for(handle.result(), 10) == f"hello {CANARY}"
        return await handle.fetch_history()


async def _one(history: WorkflowHistory) -> AsyncIterator[WorkflowHistory]:
    yield history


async def _verdict(history: WorkflowHistory, code: type, ring: KeyRing) -> Verdict:
    (result,) = await replay(_one(history), [code], make_converter(ring, "default"))
    return result.verdict


async def test_payloads_are_unreadable_in_an_exported_history(history: WorkflowHistory) -> None:
    assert CANARY not in history.to_json()
    assert "encryption-key-id" in history.to_json()


async def test_a_history_of_key_one_replays_after_rotation(
    history: WorkflowHistory, key_ring: KeyRing
) -> None:
    assert await _verdict(history, Greeting, key_ring.rotated()) is Verdict.FITS


async def test_reordered_code_does_not_fit(history: WorkflowHistory, key_ring: KeyRing) -> None:
    assert await _verdict(history, Reordered, key_ring) is Verdict.NONDETERMINISTIC


async def test_without_the_key_nothing_is_learnt(history: WorkflowHistory) -> None:
    assert await _verdict(history, Greeting, KeyRing.generate()) is Verdict.NOT_REPLAYABLE


async def test_exported_files_replay(history: WorkflowHistory, key_ring: KeyRing, tmp_path: Path) -> None:
    (tmp_path / "greeting.json").write_text(history.to_json())
    (result,) = await replay(from_directory(tmp_path), [Greeting], make_converter(key_ring, "default"))
    assert (result.workflow_id, result.verdict) == ("greeting", Verdict.FITS)
