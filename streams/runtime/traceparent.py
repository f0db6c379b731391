"""The header `traceparent` of W3C Trace Context: which trace a record belongs to.

https://www.w3.org/TR/trace-context/. Without I/O, and without OpenTelemetry: a stage that makes no
traces hands the header on all the same.
"""

import re
from dataclasses import dataclass

TRACEPARENT = "traceparent"
"""Name of the header, of HTTP and of Kafka."""

# Version 00 has 55 characters. A later one may be longer; ours never is, so that more is no trace.
MAX_TRACEPARENT_BYTES = 128

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?")
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace: the IDs as lower-case hexadecimal digits."""

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


def parse_traceparent(value: str | bytes | None) -> TraceContext | None:
    """The place that a header names; None where it is missing or broken, which is no error.

    A header of a later version counts by its first four fields, as the standard says.
    """
    if not value or len(value) > MAX_TRACEPARENT_BYTES:
        return None
    text = value.decode("ascii", errors="replace") if isinstance(value, bytes) else value
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if (
        version == "ff"
        or (version == "00" and more)
        or not (int(trace_id, 16) and int(span_id, 16))
    ):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))
