import builtins
import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from masking import Base
from server.build import build_service
from server.http.app import create_app
from server.settings import SettingsError
from server.telemetry.tracing import RequestTracer
from tests.support.serving import TEXT, fill, settings_of, wait_until


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def client(base: Base, tmp_path: Path, exporter: InMemorySpanExporter) -> Iterator[TestClient]:
    fill(tmp_path, base, ["sentiment"])
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    built = build_service(settings_of(tmp_path), base=base)
    with TestClient(create_app(dataclasses.replace(built, tracer=RequestTracer(provider)))) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        yield client


def spans_of(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_prediction_is_traced_by_stage(client: TestClient, exporter: InMemorySpanExporter) -> None:
    body = {"inputs": [[TEXT], [TEXT]]}
    client.post("/predict/sentiment", json=body, headers={"x-request-id": "it-is-me"})
    spans = spans_of(exporter)
    whole = spans["POST /predict/{task}"]
    assert attributes(whole) == {
        "http.request.method": "POST",
        "http.route": "/predict/{task}",
        "http.response.status_code": 200,
        "maskserve.request_id": "it-is-me",
        "maskserve.task": "sentiment",
        "maskserve.version": 1,
        "maskserve.rows": 2,
    }
    stages = [spans[name] for name in ("tokenize", "queue", "compute")]
    for before, after in itertools.pairwise(stages):
        assert before.end_time == after.start_time
    for stage in stages:
        assert stage.parent == whole.context
        assert whole.start_time <= stage.start_time <= stage.end_time <= whole.end_time  # type: ignore[operator]


def test_the_callers_trace_is_continued(client: TestClient, exporter: InMemorySpanExporter) -> None:
    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    client.get("/tasks", headers={"traceparent": parent})
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == "ab" * 16
    assert f"{span.parent.span_id:016x}" == "cd" * 8


def test_errors_and_what_is_asked_all_the_time(client: TestClient, exporter: InMemorySpanExporter) -> None:
    client.get("/health/live")
    client.get("/metrics")
    assert exporter.get_finished_spans() == ()
    client.post("/predict/nobody", json={"inputs": TEXT})
    (span,) = exporter.get_finished_spans()
    assert attributes(span)["http.response.status_code"] == 404
    assert "nobody" not in str(attributes(span))
    assert span.status.is_unset


def test_the_setting_makes_a_tracer(base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, [])
    settings = settings_of(tmp_path, otlp_endpoint="http://127.0.0.1:9/v1/traces")
    service = build_service(settings, base=base)
    assert service.tracer is not None
    service.tracer.close()
    assert build_service(settings_of(tmp_path), base=base).tracer is None


def test_the_service_is_called_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def name_of(tracer: RequestTracer) -> object:
        try:
            return tracer._provider.resource.attributes["service.name"]
        finally:
            tracer.close()

    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    assert name_of(RequestTracer.to("http://127.0.0.1:9/v1/traces")) == "maskserve"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=guards,service.namespace=eu")
    assert name_of(RequestTracer.to("http://127.0.0.1:9/v1/traces")) == "guards"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "routers")
    assert name_of(RequestTracer.to("http://127.0.0.1:9/v1/traces")) == "routers"


def test_a_missing_package_names_the_extra(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> ModuleType:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    fill(tmp_path, base, [])
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingsError, match=re.escape("pip install 'maskserve[tracing]'")):
        build_service(settings_of(tmp_path, otlp_endpoint="http://127.0.0.1:9/v1/traces"), base=base)
