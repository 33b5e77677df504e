"""The server takes the longest summary a payment can have, sealed."""

from uuid import uuid4

from temporalio.testing import WorkflowEnvironment

from tests.fakes.rows import payment_row
from workers.relay.starting import start_once
from workflows import names, starts


async def test_the_longest_summary_is_accepted_and_a_second_start_changes_nothing(
    temporal_env: WorkflowEnvironment,
) -> None:
    workflow_id = names.payment_workflow_id(f"test-{uuid4()}")
    row = payment_row(id=workflow_id, amount_minor=10**14, merchant_reference="商" * 128, quote_id="qte_1")
    for _ in range(2):
        await start_once(
            temporal_env.client,
            names.PAYMENT,
            starts.payment_start(row),
            workflow_id=workflow_id,
            summary=starts.payment_summary(row),
            details=starts.payment_details(row),
            search_attributes=starts.payment_search_attributes(row),
        )
    handle = temporal_env.client.get_workflow_handle(workflow_id)
    first = await handle.describe()
    assert await first.static_summary() == starts.payment_summary(row)
    await handle.terminate()
    await start_once(
        temporal_env.client,
        names.PAYMENT,
        starts.payment_start(row),
        workflow_id=workflow_id,
        summary="again",
    )
    assert (await handle.describe()).run_id == first.run_id
