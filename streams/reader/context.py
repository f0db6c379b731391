"""What every part of the active reader needs: where to publish, when, and what to count."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from streams.kafka.records import KafkaRecord
from streams.metrics import ReaderMetrics
from streams.reader.gate import Gate
from streams.reader.work import ReaderWork
from streams.runtime.traceparent import TraceContext
from streams.runtime.traces import NO_TRACES, Traces
from streams.topics import Topics

Publish = Callable[[Sequence[KafkaRecord]], Awaitable[None]]
"""Publishes records and returns once the broker has acknowledged all; waits while it is away."""


@dataclass(frozen=True, slots=True)
class ReaderContext:
    """Shared by the parts of the active reader."""

    topics: Topics
    publish: Publish
    gate: Gate
    metrics: ReaderMetrics
    work: ReaderWork = field(default_factory=ReaderWork)
    traces: Traces = NO_TRACES

    def page_span(self) -> AbstractContextManager[TraceContext | None]:
        """The trace of one page: around building and publishing its records."""
        name = self.topics.events.name
        attributes = {"messaging.system": "kafka", "messaging.destination.name": name}
        return self.traces.span(f"send {name}", "producer", attributes=attributes)
