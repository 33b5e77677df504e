"""The virtual clock tests rely on: a month passes in a moment, and the payloads are sealed there too."""

from datetime import timedelta
from uuid import uuid4

from temporalio import workflow
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker


@workflow.defn(name="TestMonth")
class Month:
    @workflow.run
    async def run(self, word: str) -> int:
        begun = workflow.now()
        await workflow.sleep(timedelta(days=30))
        return (workflow.now() - begun).days


async def test_a_month_passes_in_a_moment(skipping_env: WorkflowEnvironment) -> None:
    client, queue = skipping_env.client, f"month-{uuid4()}"
    async with Worker(client, task_queue=queue, workflows=[Month]):
        handle = await client.start_workflow(
            "TestMonth", "canary", id=queue, task_queue=queue, result_type=int
        )
        assert await handle.result() == 30
    assert "canary" not in (await handle.fetch_history()).to_json()
