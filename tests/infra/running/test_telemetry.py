"""Spans and metrics reach a collector; one that is away costs a line; and nothing of a prompt is in them."""

import contextlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from infra.recipe import Price
from infra.running import progress, telemetry
from infra.running.progress import ProgressUpdate
from infra.running.telemetry import (
    ENDPOINT,
    Metric,
    Point,
    current_trace,
    inside_trace,
    observed,
    span,
    telemetry_on,
)
from tests.support.http_server import http_server
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import client_of, requests
from tests.support.stub_server import StubServer, running_stub

KEY = "sk-a-key-of-the-judge"


class Collector:
    """A collector's HTTP server: what it was sent, by path."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.bodies: list[tuple[str, bytes]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.bodies.append((self.path, body))
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.handler = Handler
        self.url = ""

    def spans(self) -> dict[str, Any]:
        """The spans by name."""
        spans = {}
        for path, body in self.bodies:
            if path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    spans.update({span.name: span for scope in resource.scope_spans for span in scope.spans})
        return spans

    def metrics(self) -> dict[str, Any]:
        """The last values by name of metric and its labels."""
        values = {}
        for path, body in self.bodies:
            if path == "/v1/metrics":
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                        for point in (*metric.gauge.data_points, *metric.sum.data_points):
                            labels = tuple(sorted(attributes(point).values()))
                            values[metric.name, labels] = point.as_double or point.as_int
        return values


def attributes(thing: Any) -> dict[str, Any]:
    return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in thing.attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    with http_server(collector.handler) as port:
        collector.url = f"http://127.0.0.1:{port}"
        monkeypatch.setenv(ENDPOINT, collector.url)
        yield collector


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The lines that the user gets."""
    texts: list[str] = []

    def watcher(step: ProgressUpdate) -> None:
        if step.says:
            texts.append(step.note or "")

    progress.watch(watcher)
    yield texts
    progress.watch(None)


@pytest.fixture(scope="module")
def stub() -> Iterator[StubServer]:
    with running_stub() as stub:
        yield stub


def call(stub: StubServer) -> None:
    """A shard that asks three times, two of them the same."""
    price = Price(input_per_million=1.0, output_per_million=2.0)
    with span("shard", plan="9a008e", shard=3) as own:
        first, second = requests(1, 2)
        with client_of(MemoryLedger(), stub, api_key=KEY, price=price) as client:
            client.complete([first, second, second])
        own.set(made=2)


def test_spans_of_shard_and_calls_reach_the_collector_without_a_word_of_the_prompt(
    stub: StubServer, collector: Collector
) -> None:
    with telemetry_on(), telemetry_on():
        call(stub)
    spans = collector.spans()
    assert set(spans) == {"shard", "calls sample"}
    assert spans["calls sample"].parent_span_id == spans["shard"].span_id
    assert attributes(spans["shard"]) == {"longmill.plan": "9a008e", "longmill.shard": 3, "longmill.made": 2}
    calls = attributes(spans["calls sample"])
    assert (calls["longmill.calls.made"], calls["longmill.calls.reused"], calls["longmill.calls.failed"]) == (2, 1, 0)
    tokens = calls["gen_ai.usage.input_tokens"], calls["gen_ai.usage.output_tokens"]
    assert min(tokens) > 0
    assert calls["longmill.cost"] == pytest.approx((tokens[0] + 2 * tokens[1]) / 1e6)
    sent = b"".join(body for _, body in collector.bodies)
    for word in (KEY, "of words that make an answer", stub.url):
        assert word.encode() not in sent


def test_a_span_of_another_process_is_the_parent(stub: StubServer, collector: Collector) -> None:
    with telemetry_on():
        with span("build"):
            parent = current_trace()
        with inside_trace(parent):
            call(stub)
        with inside_trace(""), span("alone"):
            pass
    spans = collector.spans()
    build, shard, alone = spans["build"], spans["shard"], spans["alone"]
    assert (shard.trace_id, shard.parent_span_id) == (build.trace_id, build.span_id)
    assert spans["calls sample"].trace_id == build.trace_id != alone.trace_id
    assert not alone.parent_span_id
    assert current_trace() == ""


def test_a_parent_that_is_none_is_left(collector: Collector) -> None:
    with telemetry_on(), inside_trace("00-no-parent"), span("shard"):
        pass
    assert not collector.spans()["shard"].parent_span_id


def test_an_error_marks_its_span_by_its_type_alone(collector: Collector) -> None:
    with telemetry_on(), contextlib.suppress(ValueError), span("task sample"):
        raise ValueError("the prompt was: a secret")
    (own,) = collector.spans().values()
    assert attributes(own) == {"error.type": "ValueError"}
    assert own.status.code == 2 and not own.events
    assert b"secret" not in collector.bodies[0][1]


def test_metrics_are_read_again_at_the_end(collector: Collector) -> None:
    calls = Metric("longmill.calls", "counter", "{call}", "Calls", ("outcome",))
    flights = Metric("longmill.calls.in_flight", "gauge", "{call}", "Calls in flight")
    points = [Point(calls, 5, ("made",))]
    with telemetry_on(), observed({"plan": "9a008e"}, [calls, flights], lambda: points):
        points[:] = [Point(calls, 7, ("made",)), Point(flights, 2)]
    assert collector.metrics() == {
        ("longmill.calls", ("9a008e", "made")): 7,
        ("longmill.calls.in_flight", ("9a008e",)): 2,
    }


@pytest.mark.parametrize("status", [0, 503, 400])
def test_a_collector_that_is_away_costs_one_line(
    stub: StubServer, collector: Collector, lines: list[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv(ENDPOINT, collector.url if status else "http://user:secret@127.0.0.1:9")
    collector.status = status
    with telemetry_on():
        for _ in range(2):
            with observed({}, [], list):
                call(stub)
    (line,) = lines
    assert line.startswith("telemetry: the collector on 127.0.0.1 takes nothing")
    assert "secret" not in line


def test_without_an_endpoint_there_is_no_telemetry_and_without_the_packages_a_line(
    monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)
    with telemetry_on():
        assert not telemetry.is_on()
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with telemetry_on():
        assert not telemetry.is_on()
    assert lines == []
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with telemetry_on():
        assert not telemetry.is_on()
    assert lines.pop() == "telemetry: it does not start (ValueError); look at the variables OTEL_..."
    monkeypatch.setattr(telemetry, "_is_missing", lambda module: True)
    with telemetry_on():
        assert not telemetry.is_on()
    assert lines == [f"telemetry: {ENDPOINT} is set and its packages are missing: pip install -e '.[telemetry]'"]
