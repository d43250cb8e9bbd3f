"""Spans and metrics for a collector of OpenTelemetry; off unless OTEL_EXPORTER_OTLP_ENDPOINT names one.

Other code calls `span`, `add_span` and `observed`, which do nothing while it is off. OpenTelemetry's variables hold
(OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_SDK_DISABLED, ...); the protocol is
http/protobuf. Exports run in threads of their own: a collector that is away, or slow, costs a warning and the spans.
No prompt, no answer, no error's text and no address goes into a span.

The providers are this module's own. Prefect makes spans of its runs with the process's global provider, which stays
what it is, so nothing is exported twice.
"""

import contextlib
import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlsplit

from infra.running import progress

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_FLUSH_S = 3.0  # that the end of a run waits for the last export, where none has failed before
_NAME = "longmill"

Attributes = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric. The name has dots, as OpenTelemetry writes it; `labels` name what its points are told apart by."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Point:
    """A value of a metric; `labels` in the order of the metric's."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


ReadPoints = Callable[[], Iterable[Point]]


class Note(Protocol):
    """Takes note of an export."""

    def __call__(self, *, failed: bool) -> None: ...


class OpenSpan:
    """A span that is open; of telemetry that is off, nothing."""

    def __init__(self, span: "Span | None" = None) -> None:
        self._span = span

    def set(self, **attributes: str | int | float | bool) -> None:
        """Add attributes; `longmill.` comes before their names."""
        if self._span is not None:
            for name, value in attributes.items():
                self._span.set_attribute(_attribute(name), value)


_parent: ContextVar["Span | None"] = ContextVar("longmill_span", default=None)
_lock = threading.Lock()


@contextlib.contextmanager
def span(name: str, **attributes: str | int | float | bool) -> Iterator[OpenSpan]:
    """A span around the block; spans that are made in it, also in threads with a copy of its context, are its parts.

    An error marks it, by its type alone.
    """
    telemetry = _running.telemetry
    if telemetry is None:
        yield OpenSpan()
        return
    own = telemetry.start_span(name, {_attribute(key): value for key, value in attributes.items()})
    token = _parent.set(own)
    try:
        yield OpenSpan(own)
    except BaseException as error:
        telemetry.fail_span(own, type(error).__name__)
        raise
    finally:
        _parent.reset(token)
        own.end()


def add_span(name: str, started_ns: int, attributes: Attributes) -> None:
    """A span that began at `started_ns` (Unix time) and ends now; the attributes have their whole names."""
    if _running.telemetry is not None:
        _running.telemetry.start_span(name, attributes, started_ns).end()


def current_trace() -> str:
    """The open span in words for another process (W3C's `traceparent`); "" without one."""
    own = _parent.get()
    if own is None:
        return ""
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, set_span_in_context(own))
    return carrier.get("traceparent", "")


@contextlib.contextmanager
def inside_trace(parent: str) -> Iterator[None]:
    """Let spans in the block be parts of another process's span, which its `current_trace` names; "": of none."""
    if not parent or _running.telemetry is None:
        yield
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({"traceparent": parent}, Context())
    token = _parent.set(get_current_span(context))
    try:
        yield
    finally:
        _parent.reset(token)


def is_on() -> bool:
    """Whether spans go anywhere."""
    return _running.telemetry is not None


@contextlib.contextmanager
def observed(labels: Mapping[str, str], metrics: Iterable[Metric], read_points: ReadPoints) -> Iterator[None]:
    """Export what `read_points` returns, with these labels, every minute or so until the block ends, and then again."""
    telemetry = _running.telemetry
    if telemetry is None:
        yield
        return
    telemetry.observe(labels, metrics, read_points)
    try:
        yield
    finally:
        telemetry.flush()
        telemetry.forget(read_points)


@contextlib.contextmanager
def telemetry_on() -> Iterator[None]:
    """Telemetry until the block ends, where the environment asks for it; blocks inside others share one."""
    with _lock:
        if _running.users == 0 and _is_asked_for():
            _running.telemetry = _new_telemetry()
        _running.users += 1
    try:
        yield
    finally:
        with _lock:
            _running.users -= 1
            telemetry = _running.telemetry if _running.users == 0 else None
            if telemetry is not None:
                _running.telemetry = None
        if telemetry is not None:
            telemetry.close()


def _is_asked_for() -> bool:
    return bool(os.environ.get(ENDPOINT)) and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"


def _new_telemetry() -> "_Telemetry | None":
    """The providers; None, with a line for the user, where the packages are missing or a variable has a wrong value."""
    if any(_is_missing(name) for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")):
        progress.say(f"telemetry: {ENDPOINT} is set and its packages are missing: pip install -e '.[telemetry]'")
        return None
    try:
        return _Telemetry()
    except Exception as error:  # whatever OpenTelemetry makes of its variables: a run does not fail for it
        progress.say(f"telemetry: it does not start ({type(error).__name__}); look at the variables OTEL_...")
        return None


def _is_missing(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        return True


class _Telemetry:
    """The providers of spans and metrics, and what is exported."""

    def __init__(self) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        for name in ("opentelemetry.exporter", "opentelemetry.sdk"):  # they say for each export what is said once here
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._warning = _Warning()
        resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", _NAME)})
        self._tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._tracers.add_span_processor(BatchSpanProcessor(_span_exporter(self._warning.note)))
        reader = PeriodicExportingMetricReader(_metric_exporter(self._warning.note))
        self._meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._tracer = self._tracers.get_tracer(_NAME)
        self._meter = self._meters.get_meter(_NAME)
        self._observed: dict[ReadPoints, Mapping[str, str]] = {}
        self._instruments: set[Metric] = set()

    def start_span(self, name: str, attributes: Attributes, started_ns: int | None = None) -> "Span":
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        parent = _parent.get()
        context = Context() if parent is None else set_span_in_context(parent, Context())
        return self._tracer.start_span(name, context, attributes=dict(attributes), start_time=started_ns)

    def fail_span(self, own: "Span", error: str) -> None:
        from opentelemetry.trace import StatusCode

        own.set_attribute("error.type", error)
        own.set_status(StatusCode.ERROR, error)

    def observe(self, labels: Mapping[str, str], metrics: Iterable[Metric], read_points: ReadPoints) -> None:
        self._observed[read_points] = labels
        for metric in metrics:
            if metric not in self._instruments:
                self._instruments.add(metric)
                counter = metric.kind == "counter"
                make = self._meter.create_observable_counter if counter else self._meter.create_observable_gauge
                make(metric.name, [partial(self._observations, metric)], metric.unit, metric.help)

    def _observations(self, metric: Metric, options: "CallbackOptions") -> "Iterator[Observation]":
        from opentelemetry.metrics import Observation

        for read_points, labels in list(self._observed.items()):
            for point in read_points():
                if point.metric == metric:
                    of_point = dict(zip(point.metric.labels, point.labels, strict=True))
                    yield Observation(point.value, {**labels, **of_point})

    def forget(self, read_points: ReadPoints) -> None:
        self._observed.pop(read_points, None)

    def flush(self) -> None:
        """Export what there is, in a thread; it is waited for a little, and not at all after a failure."""
        self._in_time(self._meters.force_flush, self._tracers.force_flush)

    def close(self) -> None:
        self._in_time(self._tracers.shutdown, self._meters.shutdown)

    def _in_time(self, *work: Callable[[], object]) -> None:
        def run() -> None:
            for step in work:
                with contextlib.suppress(Exception):  # it is telemetry: the run has no use for its errors
                    step()

        thread = threading.Thread(target=run, name="telemetry", daemon=True)
        thread.start()
        if not self._warning.failed:
            thread.join(_FLUSH_S)
            if thread.is_alive():
                self._warning.note(failed=True)


class _Warning:
    """Says once that the collector takes nothing, and remembers it."""

    def __init__(self) -> None:
        self.failed = False  # the last export
        self._said = False
        self._lock = threading.Lock()

    def note(self, *, failed: bool) -> None:
        """Take note of an export."""
        with self._lock:
            self.failed = failed
            say = failed and not self._said
            self._said = self._said or failed
        if say:
            host = urlsplit(os.environ.get(ENDPOINT, "")).hostname or "that host"
            progress.say(f"telemetry: the collector on {host} takes nothing ({ENDPOINT}); the run goes on without it")


def _span_exporter(note: Note) -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    class NotedExporter(OTLPSpanExporter):
        def export(self, spans: "Sequence[ReadableSpan]") -> SpanExportResult:
            result = super().export(spans)
            note(failed=result is not SpanExportResult.SUCCESS)
            return result

    return NotedExporter()


def _metric_exporter(note: Note) -> "MetricExporter":
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import MetricExportResult

    class NotedExporter(OTLPMetricExporter):
        def export(
            self, metrics_data: "MetricsData", timeout_millis: float | None = 10_000, **kwargs: Any
        ) -> MetricExportResult:
            result = super().export(metrics_data, timeout_millis, **kwargs)
            note(failed=result is not MetricExportResult.SUCCESS)
            return result

    return NotedExporter()


@dataclass(slots=True)
class _Running:
    """The telemetry of this process."""

    telemetry: _Telemetry | None = None
    users: int = 0


_running = _Running()


def _attribute(name: str) -> str:
    return f"{_NAME}.{name}"
