"""A trace of each request, sent by the OpenTelemetry protocol: one span for the request, one for each stage.

Spans are made when a request is over, from the times that were noted on its way, so nothing is slowed down
where it matters. A caller's `traceparent` is continued. Needs the extra `tracing`, and imports it only where
traces are wanted. Metrics and logs are elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from server.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_SERVER_ERROR = 500


@dataclass(frozen=True)
class Span:
    """Something that took time; `start` and `end` are in nanoseconds since the epoch."""

    name: str
    start: int
    end: int


class RequestTracer:
    """Makes spans of finished requests."""

    def __init__(self, provider: "TracerProvider") -> None:
        """Makes spans by `provider`, which is shut down with the tracer."""
        self._provider = provider
        self._tracer = provider.get_tracer("maskserve")

    @classmethod
    def to(cls, endpoint: str) -> Self:
        """A tracer that sends to an OTLP endpoint over HTTP, in batches, from a thread of its own.

        Args:
            endpoint: The whole URL, such as http://collector:4318/v1/traces.

        Raises:
            SettingsError: The extra `tracing` is not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        except ImportError:
            raise SettingsError(
                "--otlp-endpoint: traces need OpenTelemetry: pip install 'maskserve[tracing]'"
            ) from None
        provider = TracerProvider(resource=Resource.create({"service.name": "maskserve"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        return cls(provider)

    def record(
        self,
        request: Span,
        stages: tuple[Span, ...],
        headers: Mapping[str, str],
        attributes: Mapping[str, str | int | float],
    ) -> None:
        """Make the spans of one request.

        Args:
            request: The whole request.
            stages: Its parts.
            headers: Those of the request, by lower-case name; for the caller's trace.
            attributes: What is known about it.
        """
        from opentelemetry.propagate import extract  # noqa: PLC0415
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context  # noqa: PLC0415

        whole = self._tracer.start_span(
            request.name,
            context=extract(headers),
            kind=SpanKind.SERVER,
            start_time=request.start,
            attributes=attributes,
        )
        for stage in stages:
            part = self._tracer.start_span(
                stage.name, context=set_span_in_context(whole), start_time=stage.start
            )
            part.end(stage.end)
        if int(attributes["http.response.status_code"]) >= _SERVER_ERROR:
            whole.set_status(Status(StatusCode.ERROR))
        whole.end(request.end)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
