"""Traces with OpenTelemetry, where they are configured: request, then job, then job process.

The libraries are loaded only then. A job's spans are written when it ends, by whoever ran it (`jobs.traces` gives their
identifiers), so that a job may wait for days and outlive its server.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from graticule import __version__
from graticule.errors import InvalidSetting
from graticule.jobs.job import Job
from graticule.jobs.traces import span_id

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_LAST_S = 2.0
"""Seconds for the last spans when the service stops."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def open_tracing(endpoint: str, environ: Mapping[str, str]) -> Tracing | None:
    """Return what writes traces; None where nobody has asked for them.

    Parameters
    ----------
    endpoint : str
        Address of a collector (OTLP over HTTP), without ``/v1/traces``; empty: what the variables say.
    environ : mapping of str to str
        Variables; OpenTelemetry's own, ``OTEL_…``, have their standard meaning.

    Raises
    ------
    InvalidSetting
        If traces are asked for and the libraries that send them are not installed.
    """
    disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if disabled or not (endpoint or any(environ.get(name) for name in _ENDPOINTS)):
        return None
    try:
        return Tracing(f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None)
    except ImportError as error:
        remedy = f"traces need libraries that are not installed ({error.name}); pip install 'graticule[otel]'"
        raise InvalidSetting("telemetry.otlp_endpoint", remedy) from error


class Tracing:
    """Writes spans; a listener of the feed of jobs.

    Parameters
    ----------
    endpoint : str, optional
        Where to; None: where OpenTelemetry's variables say.
    """

    def __init__(self, endpoint: str | None) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        class Identifiers(RandomIdGenerator):
            """Gives the next span the identifier that it is to have."""

            wanted = 0

            def generate_span_id(self) -> int:
                wanted, self.wanted = self.wanted, 0
                return wanted or super().generate_span_id()

        self._identifiers = Identifiers()
        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        resource = Resource.create({"service.version": __version__})
        if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "graticule"}))
        self._provider = TracerProvider(resource=resource, id_generator=self._identifiers, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("graticule", __version__)
        self._propagator = TraceContextTextMapPropagator()

    # --- requests ---------------------------------------------------------------------------------------------------

    def begin(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Span:
        """Begin the span of a request, below the one that its headers name."""
        from opentelemetry.trace import SpanKind

        known = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in {b"traceparent", b"tracestate"}
        }
        return self._tracer.start_span(
            method, self._propagator.extract(known), SpanKind.SERVER, {"http.request.method": method, "url.path": path}
        )

    @staticmethod
    def traceparent(span: Span) -> str:
        """Return a span as the header ``traceparent``."""
        context = span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    @staticmethod
    def end(span: Span, method: str, route: str, status: int) -> None:
        """End the span of a request."""
        from opentelemetry.trace import StatusCode

        if route:
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    # --- jobs -------------------------------------------------------------------------------------------------------

    def began(self, job: Job) -> None:
        """Do nothing: a job's spans are written at its end."""

    def progressed(self, job: Job) -> None:
        """Do nothing: progress is no span."""

    def ended(self, job: Job) -> None:
        if not job.trace:
            return
        from opentelemetry import trace

        attributes = {
            "graticule.job.id": job.id,
            "graticule.process.id": job.process,
            "graticule.workspace": job.workspace,
            "graticule.job.status": job.status,
            "graticule.job.attempts": job.attempts,
        }
        failure = job.failed_because() if job.failure else None
        if failure is not None:
            attributes["graticule.job.cause"] = failure.cause
        above = self._propagator.extract({"traceparent": job.trace})
        span = self._span(f"job {job.process}", above, span_id(job.id, "job"), job.created, attributes)
        if job.started:
            inside = trace.set_span_in_context(span)
            work = self._span(f"run {job.process}", inside, span_id(job.id, "process"), job.started, attributes)
            _finish(work, job)
        _finish(span, job)

    def _span(self, name: str, above: Any, identifier: int, at: int, attributes: Mapping[str, Any]) -> Span:
        self._identifiers.wanted = identifier
        return self._tracer.start_span(name, above, attributes=attributes, start_time=at * 1000)

    def close(self) -> None:
        """Send what is left, if the collector takes it soon; blocks."""
        flushing = threading.Thread(target=self._provider.force_flush, name="traces", daemon=True)
        flushing.start()
        flushing.join(_LAST_S)
        # Ends its attempts to reach a collector that is not there.
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._provider.shutdown()


def _finish(span: Span, job: Job) -> None:
    from opentelemetry.trace import StatusCode

    if job.status == "failed":
        span.set_status(StatusCode.ERROR, job.message)
    span.end(end_time=job.finished * 1000)
