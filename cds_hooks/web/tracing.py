"""Spans for OpenTelemetry: one for each call or feedback, one below it for each query to a FHIR server.

Only with `tracing = "otlp"` and the extra `otel`; the usual variables OTEL_EXPORTER_OTLP_* say where they are sent.
The spans are made here rather than by the instrumentation of Flask and requests, because that writes URLs into
attributes, and with them ids of patients. What stands in ours are names of our own, counts and states.
"""

from __future__ import annotations

import time
from typing import Any, Final

from cds_hooks import __version__
from cds_hooks.errors import ContentError
from cds_hooks.web.metrics import word_for
from cds_hooks.web.visit import Visit

NAME: Final = "cds-hooks"


class Tracing:
    """Begins and ends the span of a request. `exporter` is an opentelemetry SpanExporter (none: OTLP over HTTP)."""

    def __init__(self, exporter: Any = None) -> None:
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise ContentError("settings", "tracing", "needs the extra `otel`, which is not installed") from None
        if exporter is None:
            exporter = _over_http()
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say wins over these.
        about = Resource({"service.name": NAME, "service.version": __version__}).merge(Resource.create())
        self._provider = TracerProvider(resource=about, shutdown_on_exit=True)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(NAME, __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, visit: Visit, name: str) -> None:
        """Begin the span of a request; what it sends on belongs to the span from now on."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        given = {"traceparent": visit.trace_parent} if visit.trace_parent else {}
        visit.span = self._tracer.start_span(name, self._propagator.extract(given), kind=SpanKind.SERVER)
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(visit.span))
        visit.trace_parent = carrier.get("traceparent", visit.trace_parent)

    def end(self, visit: Visit, status: int) -> None:
        """End it, with the spans of its queries, whose times are known by now."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        span = visit.span
        span.set_attributes({"cds_hooks.service": visit.service, "http.response.status_code": status})
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        if visit.outcome is not None:
            span.set_attribute("cds_hooks.topics", visit.outcome.topics)
            context, zero = set_span_in_context(span), time.time_ns() - time.perf_counter_ns()
            for fetch in visit.outcome.fetches:
                began = zero + int(fetch.began * 1e9)
                below = self._tracer.start_span("fetch", context, kind=SpanKind.CLIENT, start_time=began)
                below.set_attribute("cds_hooks.key", fetch.key)
                if fetch.problem is not None:
                    below.set_status(Status(StatusCode.ERROR, word_for(fetch.problem)))
                below.end(began + int(fetch.seconds * 1e9))
        span.end()

    def flush(self) -> None:
        """Send what waits to be sent."""
        self._provider.force_flush()

    def close(self) -> None:
        """Send it and stop."""
        self._provider.shutdown()


def _over_http() -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise ContentError("settings", "tracing", "needs the extra `otel`, which is not installed") from None
    return OTLPSpanExporter()
