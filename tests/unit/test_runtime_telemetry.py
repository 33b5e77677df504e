"""Traces tell that something failed and of which type; never what it said."""

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, Tracer
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from corridor.runtime import telemetry
from corridor.runtime.settings import load

PRIVATE = "canary"
"""Held by name: a stack's lines show source, and may."""

Traced = Callable[[], tuple[ReadableSpan, ...]]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> tuple[Tracer, Traced]:
    """A tracer of a process that was started with an OTLP endpoint, and what left that process."""
    seen = InMemorySpanExporter()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(telemetry, "OTLPSpanExporter", lambda: seen)
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _: None)  # it is global, and set once
    started = telemetry.start(load(metrics_port=0), "test")
    assert started.tracing is not None

    def left() -> tuple[ReadableSpan, ...]:
        started.close()
        return seen.get_finished_spans()

    return started.tracing.get_tracer("test"), left


class _Fails(ActivityInboundInterceptor):
    def __init__(self) -> None:
        """The last of its chain."""

    async def execute_activity(self, input: ExecuteActivityInput) -> NoReturn:  # noqa: A002 — the SDK's name
        raise ApplicationError(f"the provider said: {PRIVATE}", type="DECLINED") from ValueError(PRIVATE)


async def test_a_failed_activity_leaves_its_type_and_none_of_its_words(traced: tuple[Tracer, Traced]) -> None:
    tracer, left = traced
    failing = TracingInterceptor(tracer).intercept_activity(_Fails())
    nothing: Any = ExecuteActivityInput(fn=_Fails, args=(), executor=None, headers={})
    with pytest.raises(ApplicationError):
        await ActivityEnvironment().run(failing.execute_activity, nothing)
    (span,) = left()
    assert PRIVATE not in span.to_json()
    assert span.status.status_code is StatusCode.ERROR
    (event,) = span.events
    assert event.attributes is not None
    assert event.attributes["exception.type"] == "temporalio.exceptions.ApplicationError"


async def test_everything_else_of_a_span_leaves_as_it_was(traced: tuple[Tracer, Traced]) -> None:
    tracer, left = traced
    with tracer.start_as_current_span("outer"):
        with tracer.start_as_current_span("inner", attributes={"corridor.outcome": "approved"}) as inner:
            inner.add_event("asked", {"n": 1})
        with tracer.start_as_current_span("fine"):
            pass
    told, fine, outer = left()
    assert (told.name, fine.name, outer.name) == ("inner", "fine", "outer")
    assert told.parent == fine.parent == outer.context
    assert told.attributes == {"corridor.outcome": "approved"}
    assert [(event.name, dict(event.attributes or {})) for event in told.events] == [("asked", {"n": 1})]
    assert told.resource.attributes["service.name"] == "corridor-test"
    assert told.end_time is not None
    assert told.instrumentation_scope == outer.instrumentation_scope
