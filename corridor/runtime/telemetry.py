"""Switches telemetry on for one process: traces by OTLP, metrics for Prometheus, and Temporal's own metrics.

Traces leave only if OpenTelemetry's standard `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) is set;
without it no tracing header is written into histories either. Of an error only its type leaves: what it says may quote a
provider's answer or the row that a database refused, and Temporal's own interceptor would send it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status
from prometheus_client import start_http_server
from temporalio.client import Interceptor
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from corridor.runtime import build
from corridor.runtime.settings import Settings

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@dataclass(frozen=True)
class Telemetry:
    """What `client.connect` wants: `interceptors` and `runtime`; and `close` for an orderly end."""

    interceptors: tuple[Interceptor, ...]
    runtime: Runtime | None
    tracing: TracerProvider | None = None
    measuring: MeterProvider | None = None

    def close(self) -> None:
        """Send what is still buffered; called once, at the end of the process."""
        for provider in (self.tracing, self.measuring):
            if provider is not None:
                provider.shutdown()


def start(settings: Settings, process: str) -> Telemetry:
    """Install the providers of this process; called once, before the Temporal client is made."""
    resource = Resource.create(
        {"service.name": f"corridor-{process}", "service.version": build.build_id(settings)}
    )
    tracing = _tracing(resource) if any(os.environ.get(name) for name in _ENDPOINTS) else None
    return Telemetry(
        # Client and worker both take it from the client; spans in workflow code are made replay-safe by the SDK.
        interceptors=(TracingInterceptor(),) if tracing else (),
        runtime=_temporal_runtime(settings),
        tracing=tracing,
        measuring=_measuring(settings, resource) if settings.metrics_port else None,
    )


def _tracing(resource: Resource) -> TracerProvider:
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(ErrorsByType(OTLPSpanExporter())))
    trace.set_tracer_provider(provider)
    return provider


class ErrorsByType(SpanExporter):
    """Hands on every span, with errors as their types alone."""

    def __init__(self, to: SpanExporter) -> None:
        self._to = to

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand on a batch."""
        return self._to.export([_without_words(span) for span in spans])

    def shutdown(self) -> None:
        """End the exporter behind it."""
        self._to.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter behind it."""
        return self._to.force_flush(timeout_millis)


def _without_words(span: ReadableSpan) -> ReadableSpan:
    """The same span; a finished one cannot be changed, so this is a copy where there is something to leave out."""
    if span.status.is_ok and not span.events:
        return span
    return ReadableSpan(
        span.name,
        span.context,
        span.parent,
        span.resource,
        span.attributes,
        [_by_type(event) for event in span.events],
        span.links,
        span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _by_type(event: Event) -> Event:
    # The names of OpenTelemetry's semantic conventions for exceptions.
    quoting = ("exception.message", "exception.stacktrace")
    kept = {name: value for name, value in (event.attributes or {}).items() if name not in quoting}
    return Event(event.name, kept, event.timestamp)


def _measuring(settings: Settings, resource: Resource) -> MeterProvider:
    provider = MeterProvider(metric_readers=[PrometheusMetricReader()], resource=resource)
    metrics.set_meter_provider(provider)
    start_http_server(settings.metrics_port, addr=settings.host)
    return provider


def _temporal_runtime(settings: Settings) -> Runtime | None:
    """Metrics of Temporal's core: task queue latency, slots in use, failed workflow tasks (alert on any)."""
    if not settings.temporal_metrics_port:
        return None
    address = f"{settings.host}:{settings.temporal_metrics_port}"
    exposed = PrometheusConfig(
        bind_address=address, counters_total_suffix=True, durations_as_seconds=True, unit_suffix=True
    )
    return Runtime(
        telemetry=TelemetryConfig(metrics=exposed), worker_heartbeat_interval=timedelta(seconds=60)
    )
