"""Traces: one trace ID from the webhook to the call of Salesforce; off, nothing is imported."""

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, Counter

from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.policy import Policy
from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.world import World
from connectors.salesforce.sync import Sync
from streams.dedupe.planner import DedupePlanner
from streams.events import Origin, event_headers, handed_on, trace_headers
from streams.kafka.records import KafkaRecord, header
from streams.metrics import SinkMetrics
from streams.org import open_client
from streams.runtime.traceparent import TraceContext, parse_traceparent
from streams.runtime.traces import NO_TRACES, open_traces
from streams.runtime.traces_otel import MAX_LINKS, BoundedProcessor, OtelTraces, otel_traces
from streams.settings import SalesforceSettings, SettingsError, TracesSettings, load
from tests.support.bridge_harness import NAMES, running_bridge
from tests.support.sink_harness import running_sink
from tests.support.webhooks import contact_body, sign

INCOMING = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def traced(ratio: float = 1.0) -> tuple[OtelTraces, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    return otel_traces(ratio, "test", SimpleSpanProcessor(exporter)), exporter


def spans_counter() -> Counter:
    return Counter("spans", "-", ("result",), registry=CollectorRegistry())


def trace_id(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}" if span.context else ""


@given(st.one_of(st.none(), st.text(), st.binary()))
def test_a_broken_traceparent_is_ignored_and_never_an_error(value: str | bytes | None) -> None:
    place = parse_traceparent(value)
    assert place is None or parse_traceparent(str(place)) == place
    assert handed_on([("traceparent", value)]) == trace_headers(place)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255), st.booleans())
def test_a_traceparent_is_read_as_it_was_written(
    trace: int, span: int, flags: int, as_bytes: bool
) -> None:
    text = f"00-{trace:032x}-{span:016x}-{flags:02x}"
    place = parse_traceparent(text.encode() if as_bytes else text)
    assert place == TraceContext(f"{trace:032x}", f"{span:016x}", bool(flags & 1))


@pytest.mark.parametrize(
    ("value", "known"),
    [
        (INCOMING, True),
        (INCOMING + "-more", False),
        ("01" + INCOMING[2:] + "-more", True),
        ("ff" + INCOMING[2:], False),
        (INCOMING.upper(), False),
        (INCOMING.replace(TRACE_ID, "0" * 32), False),
        (INCOMING.replace("00f067aa0ba902b7", "0" * 16), False),
        (INCOMING + "\n", False),
    ],
)
def test_the_rules_of_the_standard_hold(value: str, known: bool) -> None:
    assert (parse_traceparent(value) is not None) is known


def test_off_nothing_of_opentelemetry_is_imported() -> None:
    program = (
        "import sys, streams.bridge.process, streams.reader.process, streams.sink.process\n"
        "import streams.dedupe.planner\n"
        "from streams.runtime.traces import NO_TRACES, open_traces\n"
        "from streams.settings import TracesSettings\n"
        "assert open_traces(TracesSettings(), 'sink', None) is NO_TRACES\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_without_the_packages_the_setting_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "streams.runtime.traces_otel", None)
    with pytest.raises(SettingsError, match=r"pip install 'contactstream\[traces\]'"):
        open_traces(load(TracesSettings, {"TRACES_ENABLED": "true"}), "sink", spans_counter())


def consumed(record: KafkaRecord) -> SimpleNamespace:
    return SimpleNamespace(
        topic=record.topic,
        partition=0,
        offset=0,
        timestamp=0,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
    )


async def webhook_record(traces: OtelTraces, traceparent: str) -> KafkaRecord:
    body = contact_body("g", "c", given_name="Ada", emails=[{"email": "ada@acme.example"}])
    async with running_bridge(traces=traces) as bridge:
        answer = await bridge.post(body, X_Nylas_Signature=sign(body), traceparent=traceparent)
        assert answer.status == 200
        (record,) = bridge.broker.records
    return record


async def test_one_trace_goes_from_the_webhook_to_the_call_of_salesforce() -> None:
    traces, exporter = traced(0.0)
    record = await webhook_record(traces, INCOMING)
    sent = parse_traceparent(header(record.headers, "traceparent"))
    assert sent is not None
    assert sent.trace_id == TRACE_ID

    (change,) = DedupePlanner(FieldMapping(), NAMES).plan([consumed(record)], {}, 1).outputs
    topic, value, key, headers = change
    assert header(headers, "traceparent") == str(sent).encode()

    async with TestServer(app(World())) as server:
        settings = {
            "SALESFORCE_CLIENT_ID": "id",
            "SALESFORCE_CLIENT_SECRET": "secret",
            "SALESFORCE_LOGIN_URL": str(server.make_url("")).rstrip("/"),
        }
        metrics = SinkMetrics(CollectorRegistry())
        client = open_client(load(SalesforceSettings, settings), metrics, traces=traces)
        seen: list[str] = []

        async def note(request: object) -> None:
            seen.extend(getattr(request, "headers", {}))

        client._http.event_hooks["request"].append(note)
        async with client, running_sink(Sync(client, Policy()), traces=traces) as sink:
            sink.consumer.log.append(KafkaRecord(topic, key, value, headers, 0, 0))
            await sink.until_committed()
    assert "traceparent" not in seen  # Salesforce is a third party

    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert trace_id(spans["send contacts.events"]) == TRACE_ID
    batch = spans["process batch"]
    assert [f"{link.context.trace_id:032x}" for link in batch.links] == [TRACE_ID]
    assert batch.parent is None
    assert batch.attributes is not None
    assert batch.attributes["messaging.batch.message_count"] == 1
    written = spans["salesforce composite_write"]
    assert trace_id(written) == trace_id(batch)
    assert written.parent is not None
    assert batch.context is not None
    assert written.parent.span_id == batch.context.span_id


@pytest.mark.parametrize("broken", ["", "nonsense", "00-0-0-01", "\x80" * 10])
async def test_a_webhook_with_a_broken_traceparent_begins_a_trace(broken: str) -> None:
    traces, _ = traced()
    record = await webhook_record(traces, broken)
    assert parse_traceparent(header(record.headers, "traceparent")) is not None


async def test_a_change_without_a_trace_is_written_in_a_batch_without_links() -> None:
    traces, exporter = traced()
    headers = event_headers(Origin.WEBHOOK, 1)
    assert handed_on(headers) == []
    with traces.span("process batch", "consumer", links=[]):
        pass
    (span,) = exporter.get_finished_spans()
    assert not span.links


def test_a_batch_is_kept_when_a_change_of_it_is_and_links_are_bounded() -> None:
    traces, exporter = traced(0.0)
    dropped = [TraceContext(f"{n:032x}", f"{n:016x}", False) for n in range(1, 500)]
    with traces.span("not kept", links=dropped):
        traces.call_ended("salesforce query", 200, 0.1)
    kept = TraceContext(TRACE_ID, "00f067aa0ba902b7", True)
    with traces.span("kept", links=[*dropped, kept]):
        pass
    (span,) = exporter.get_finished_spans()
    assert span.name == "kept"
    assert len(span.links) == MAX_LINKS
    assert f"{span.links[0].context.trace_id:032x}" == TRACE_ID


def test_an_error_is_noted_by_its_type_without_its_text() -> None:
    traces, exporter = traced()
    with pytest.raises(ValueError, match="ada@"), traces.span("batch"):
        raise ValueError("ada@acme.example")
    (span,) = exporter.get_finished_spans()
    assert "ada@" not in span.to_json()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ValueError"


def test_an_exemplar_names_only_a_kept_trace() -> None:
    traces, _ = traced()
    place = TraceContext(TRACE_ID, "00f067aa0ba902b7", True)
    assert traces.exemplar(place) == {"trace_id": TRACE_ID}
    assert traces.exemplar(TraceContext(TRACE_ID, "00f067aa0ba902b7", False)) is None
    assert traces.exemplar() is None
    assert NO_TRACES.exemplar(place) is None


class StuckExporter(SpanExporter):
    """A collector that does not answer."""

    def __init__(self) -> None:
        self.answer = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.answer.wait(10)
        raise ConnectionError("gone")

    def shutdown(self) -> None:
        pass


def test_a_collector_that_is_away_holds_nothing_up_and_the_lost_spans_are_counted() -> None:
    exporter, spans = StuckExporter(), spans_counter()
    processor = BoundedProcessor(exporter, spans, most=10)
    traces = otel_traces(1.0, "test", processor)
    began = time.monotonic()
    for _ in range(100):
        with traces.span("one"):
            pass
    assert time.monotonic() - began < 5
    assert spans.labels("dropped")._value.get() == 90
    exporter.answer.set()
    traces.close()
    assert spans.labels("failed")._value.get() == 10
