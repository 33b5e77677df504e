"""The server takes the longest summary a payment can have, sealed."""

from types import SimpleNamespace
from uuid import uuid4

from temporalio.testing import WorkflowEnvironment

from workers.relay.starting import start_once
from workflows import names, starts


async def test_the_longest_summary_is_accepted_and_a_second_start_changes_nothing(
    temporal_env: WorkflowEnvironment,
) -> None:
    workflow_id = names.payment_workflow_id(f"test-{uuid4()}")
    row = SimpleNamespace(
        id=workflow_id, merchant_id="mer_1", amount_minor=10**14, currency="EUR", settle_currency="CNY",
        corridor="DE-EUR>CN-CNY", source_country="DE", destination_country="CN", merchant_reference="商" * 128,
        capture_method="automatic", quote_id="qte_1",
    )  # fmt: skip
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
