"""Traces made with OpenTelemetry. Imported only where TRACES_ENABLED is true.

Spans wait in a bounded queue, from which a thread of their own sends them. A span that finds the
queue full is dropped and counted, so that a collector that is away never holds up a record.
"""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.util.types import Attributes as OtelAttributes
from prometheus_client import Counter

from streams.runtime.traceparent import TraceContext
from streams.runtime.traces import NO_ATTRIBUTES, Attributes, SpanKind

# Spans that wait to be sent: some 4 MB at the most. OpenTelemetry's own default.
MAX_QUEUED_SPANS = 2048

# Spans in one request to the collector, and how long the first of them waits for others.
# OpenTelemetry's own defaults.
MAX_SENT_SPANS, SEND_EVERY_SECONDS = 512, 5.0

# For sending what is left when the process stops; its grace period is 30 s.
CLOSE_SECONDS = 3.0

# Of one span. OpenTelemetry's own default, and what collectors expect. A batch has up to 1,000
# changes: links to those beyond are left out, those of kept traces come first.
MAX_LINKS = 128

_KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}


class LinkedOrRatio(Sampler):
    """Keeps a root span when a span that it links to is kept, else by the ratio."""

    def __init__(self, ratio: float) -> None:
        self._ratio = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: trace.SpanKind | None = None,
        attributes: OtelAttributes = None,
        links: Sequence[trace.Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        """Decides on one span."""
        kept = any(link.context.trace_flags.sampled for link in links or ())
        sampler: Sampler = ALWAYS_ON if kept else self._ratio
        return sampler.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """For OpenTelemetry's own messages."""
        return f"LinkedOrRatio({self._ratio.get_description()})"


class BoundedProcessor(SpanProcessor):
    """Sends spans from a thread of its own; drops and counts those that find its queue full.

    `spans` counts by `result`: exported, failed (the collector did not take them), dropped.
    """

    def __init__(
        self, exporter: SpanExporter, spans: Counter, most: int = MAX_QUEUED_SPANS
    ) -> None:
        self._exporter = exporter
        self._queue: queue.Queue[ReadableSpan] = queue.Queue(most)
        self._spans = spans
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="traces", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """Never blocks."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        try:
            self._queue.put_nowait(span)
        except queue.Full:
            self._spans.labels("dropped").inc()

    def shutdown(self) -> None:
        """Sends what is left, for CLOSE_SECONDS at the most."""
        self._closing.set()
        self._thread.join(CLOSE_SECONDS)
        if left := self._queue.qsize():
            self._spans.labels("dropped").inc(left)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Not needed: `shutdown` sends what is left."""
        return True

    def _send_all(self) -> None:
        while not self._closing.wait(SEND_EVERY_SECONDS) or not self._queue.empty():
            while spans := self._taken():
                self._send(spans)
        self._exporter.shutdown()

    def _taken(self) -> list[ReadableSpan]:
        spans: list[ReadableSpan] = []
        while len(spans) < MAX_SENT_SPANS:
            try:
                spans.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return spans

    def _send(self, spans: Sequence[ReadableSpan]) -> None:
        try:
            sent = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:  # noqa: BLE001  traces must not end the process; the counter tells
            sent = False
        self._spans.labels("exported" if sent else "failed").inc(len(spans))


class OtelTraces:
    """Spans of one process."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("contactstream")

    @contextmanager
    def span(
        self,
        name: str,
        kind: SpanKind = "internal",
        *,
        parent: TraceContext | None = None,
        links: Sequence[TraceContext] = (),
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> Iterator[TraceContext | None]:
        """As Traces.span. An error that leaves the block is noted by its type, without its text."""
        # False sorts first: the links of kept traces are not the ones that are left out.
        chosen = sorted(dict.fromkeys(links), key=lambda place: not place.sampled)[:MAX_LINKS]
        begun = self._tracer.start_span(
            name,
            trace.set_span_in_context(trace.NonRecordingSpan(_context(parent))) if parent else None,
            _KINDS[kind],
            dict(attributes),
            [trace.Link(_context(place)) for place in chosen],
        )
        with trace.use_span(
            begun, end_on_exit=True, record_exception=False, set_status_on_exception=False
        ):
            try:
                yield _place(begun)
            except BaseException as error:
                begun.set_attribute("error.type", type(error).__name__)
                begun.set_status(trace.StatusCode.ERROR)
                raise

    def call_ended(self, name: str, status: int | None, seconds: float) -> None:
        """As Traces.call_ended."""
        if not trace.get_current_span().is_recording():
            return
        ended = time.time_ns()
        span = self._tracer.start_span(
            name, kind=trace.SpanKind.CLIENT, start_time=ended - int(seconds * 1e9)
        )
        if status is not None:
            span.set_attribute("http.response.status_code", status)
        if status is None or status >= 400:
            span.set_attribute("error.type", str(status or "no_answer"))
            span.set_status(trace.StatusCode.ERROR)
        span.end(ended)

    def exemplar(self, place: TraceContext | None = None) -> dict[str, str] | None:
        """As Traces.exemplar."""
        place = place or _place(trace.get_current_span())
        return {"trace_id": place.trace_id} if place is not None and place.sampled else None

    def close(self) -> None:
        """As Traces.close."""
        self._provider.shutdown()


def otel_traces(ratio: float, stage: str, processor: SpanProcessor) -> OtelTraces:
    """Traces that end in `processor`. `ratio` of the traces that begin here are kept, 0 to 1."""
    provider = TracerProvider(
        sampler=ParentBased(LinkedOrRatio(ratio)),
        resource=Resource.create({"service.name": f"contactstream-{stage}"}),
        span_limits=SpanLimits(max_links=MAX_LINKS),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)
    return OtelTraces(provider)


def exporting_traces(ratio: float, stage: str, spans: Counter) -> OtelTraces:
    """Traces that go to the collector of the variables OTEL_EXPORTER_OTLP_*."""
    return otel_traces(ratio, stage, BoundedProcessor(OTLPSpanExporter(), spans))


def _context(place: TraceContext) -> trace.SpanContext:
    flags = trace.TraceFlags.SAMPLED if place.sampled else trace.TraceFlags.DEFAULT
    return trace.SpanContext(
        int(place.trace_id, 16),
        int(place.span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(flags),
    )


def _place(span: trace.Span) -> TraceContext | None:
    found = span.get_span_context()
    if not found.is_valid:
        return None
    return TraceContext(
        f"{found.trace_id:032x}", f"{found.span_id:016x}", found.trace_flags.sampled
    )
