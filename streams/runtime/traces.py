"""Traces of OpenTelemetry, from the webhook to the call of Salesforce. Off, they cost nothing.

While TRACES_ENABLED is false, nothing of OpenTelemetry is imported (streams/runtime/traces_otel.py
is where it is). No method here raises for a header that came from outside, and none waits.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

from prometheus_client import Counter

from streams.runtime.traceparent import TraceContext
from streams.settings import SettingsError, TracesSettings

SpanKind = Literal["internal", "server", "producer", "consumer"]
Attributes = Mapping[str, str | int]

NO_ATTRIBUTES: Attributes = {}


class Traces(Protocol):
    """Makes spans. A span begun within another one is its child, in the same task."""

    def span(
        self,
        name: str,
        kind: SpanKind = "internal",
        *,
        parent: TraceContext | None = None,
        links: Sequence[TraceContext] = (),
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> AbstractContextManager[TraceContext | None]:
        """A span around the block; its place in the trace, or None where there are no traces.

        `parent` is where the trace came from. With `links` and no parent the span is kept when one
        of the linked spans is kept.
        """
        ...

    def call_ended(self, name: str, status: int | None, seconds: float) -> None:
        """A call that just ended, as a child of the present span; without one it is left out."""
        ...

    def exemplar(self, place: TraceContext | None = None) -> dict[str, str] | None:
        """The exemplar for a measurement at a place in a trace, by default the present span.

        None where no trace is kept.
        """
        ...

    def close(self) -> None:
        """Sends what is left, for CLOSE_SECONDS at the most. Blocks."""
        ...


class NoTraces:
    """Traces are off."""

    def span(
        self,
        name: str,
        kind: SpanKind = "internal",
        *,
        parent: TraceContext | None = None,
        links: Sequence[TraceContext] = (),
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> AbstractContextManager[TraceContext | None]:
        """Makes none."""
        return _NO_SPAN

    def call_ended(self, name: str, status: int | None, seconds: float) -> None:
        """Makes none."""

    def exemplar(self, place: TraceContext | None = None) -> dict[str, str] | None:
        """There is none."""
        return None

    def close(self) -> None:
        """Does nothing."""


_NO_SPAN: AbstractContextManager[TraceContext | None] = nullcontext(None)

NO_TRACES: Traces = NoTraces()


def open_traces(settings: TracesSettings, stage: str, spans: Counter) -> Traces:
    """The traces of a process, as the settings say. `spans` counts spans by their `result`.

    Raises SettingsError when they are on and the packages of the extra `traces` are missing.
    """
    if not settings.enabled:
        return NO_TRACES
    try:
        from streams.runtime.traces_otel import exporting_traces
    except ImportError as error:
        raise SettingsError(
            "TRACES_ENABLED is true, and OpenTelemetry is not installed "
            f"({error.name} is missing): pip install 'contactstream[traces]', or unset it"
        ) from error
    return exporting_traces(settings.ratio, stage, spans)
