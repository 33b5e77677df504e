"""One trace from the caller through workflow and activity to the provider's call."""

from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio.client import Client
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.testing import WorkflowEnvironment

from corridor.runtime.converter import make_converter
from corridor.runtime.keys import KeyRing
from tests.workflows.conftest import installation
from tests.workflows.world import world

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_payment_is_one_trace_from_its_caller_to_the_provider(
    temporal_env: WorkflowEnvironment,
    key_ring: KeyRing,
    sqlite_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(seen))
    trace.set_tracer_provider(provider)
    client = await Client.connect(
        temporal_env.client.service_client.config.target_host,
        data_converter=make_converter(key_ring, "default"),
        interceptors=[TracingInterceptor()],
    )
    with installation(sqlite_database, key_ring, tmp_path, monkeypatch) as (settings, sandbox):
        async with world(client, settings, sandbox) as here:
            with trace.get_tracer("test").start_as_current_span("POST /v1/payments") as caller:
                payment = await here.pay()
            assert payment.status == "captured"
    wanted = caller.get_span_context().trace_id
    names = {span.name for span in seen.get_finished_spans() if span.context.trace_id == wanted}
    assert {"RunActivity:provider.execute.v1", "RunActivity:payment.prepare.v1", "stripe sale"} <= names
    sale = [span for span in seen.get_finished_spans() if span.name == "stripe sale"][-1]
    provider.shutdown()
    assert sale.attributes is not None
    assert sale.attributes["corridor.outcome"] == "approved"
