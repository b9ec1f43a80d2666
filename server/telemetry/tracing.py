"""Tracing: each request as an OpenTelemetry trace, one span for the request, one for each stage.

Spans are made when a request is over, from the times that were noted on its way, so nothing is slowed down
where it matters. A caller's `traceparent` is continued. Needs the extra `tracing`, which is imported only
where traces are wanted.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from server.engine.pending import Timings
from server.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_SERVER_ERROR = 500


class RequestTracer:
    """Makes spans of finished requests."""

    def __init__(self, provider: "TracerProvider") -> None:
        """Make spans by `provider`, which is shut down with the tracer."""
        self._provider = provider
        self._tracer = provider.get_tracer("maskserve")

    @classmethod
    def to(cls, endpoint: str) -> Self:
        """Return a tracer that sends to an OTLP endpoint over HTTP, in batches, from a thread of its own.

        Args:
            endpoint: The whole URL, such as http://collector:4318/v1/traces.

        Raises:
            SettingsError: The extra `tracing` is not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        except ImportError:
            raise SettingsError(
                "--otlp-endpoint: traces need OpenTelemetry: pip install 'maskserve[tracing]'"
            ) from None
        # The environment's OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over our own name.
        resource = Resource.create({"service.name": "maskserve"}).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        return cls(provider)

    def record(
        self,
        name: str,
        timings: Timings,
        ended: float,
        headers: Mapping[str, str],
        attributes: Mapping[str, str | int | float],
    ) -> None:
        """Make the spans of one request that is over.

        Args:
            name: Of the request's span.
            timings: When it reached each stage; a prediction that was not finished has no spans of stages.
            ended: When the reply was sent, on the monotonic clock: now.
            headers: Those of the request, by lower-case name; for the caller's trace.
            attributes: What is known about it.
        """
        from opentelemetry.propagate import extract  # noqa: PLC0415
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context  # noqa: PLC0415

        now = time.time_ns()

        def since_epoch(at: float) -> int:
            return now - round((ended - at) * 1e9)

        whole = self._tracer.start_span(
            name,
            context=extract(headers),
            kind=SpanKind.SERVER,
            start_time=since_epoch(timings.received),
            attributes=attributes,
        )
        for stage, start, end in timings.stages:
            part = self._tracer.start_span(
                stage, context=set_span_in_context(whole), start_time=since_epoch(start)
            )
            part.end(since_epoch(end))
        if int(attributes["http.response.status_code"]) >= _SERVER_ERROR:
            whole.set_status(Status(StatusCode.ERROR))
        whole.end(now)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
