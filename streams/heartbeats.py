"""Heartbeats of the bridges on reader.runs, by which the reader notices lost notifications.

A bridge writes a heartbeat while it can take notifications. A gap between two heartbeats that is
longer than Nylas retries means that notifications may be lost.
"""

from dataclasses import dataclass

import orjson

from streams.events import UnreadableRecord, parse_object
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

# Every bridge writes to this key, and the newest heartbeat counts. The ID of a run begins with a
# year, so no run and no grant's progress has this key.
HEARTBEAT_KEY = b"bridge/heartbeat"

# Nylas sends a notification three times; the last attempt comes 10 to 20 minutes after the first.
# If no bridge answers for longer than 10 minutes, all three attempts may have failed.
NYLAS_RETRY_SECONDS = 600.0


def heartbeat_record(topics: Topics, at_ms: int) -> KafkaRecord:
    """A record that says that a bridge could take notifications at `at_ms` (epoch milliseconds).

    Once the broker acknowledges it, it also proves that the broker took records at that time.
    """
    return KafkaRecord(topics.runs.name, HEARTBEAT_KEY, orjson.dumps({"heartbeat_ms": at_ms}), [])


def parse_heartbeat(value: bytes) -> int:
    """Epoch milliseconds from a heartbeat's value. Raises UnreadableRecord.

    Unknown fields are ignored.
    """
    at_ms = parse_object(value).get("heartbeat_ms")
    if not isinstance(at_ms, int) or isinstance(at_ms, bool) or at_ms <= 0:
        raise UnreadableRecord("not_a_heartbeat")
    return at_ms


def events_lost(
    previous_ms: int | None, this_ms: int, tolerated_seconds: float = NYLAS_RETRY_SECONDS
) -> bool:
    """Whether notifications may be lost between two heartbeats (epoch milliseconds).

    A first heartbeat ends no gap, and neither does one that is older than the previous: the clocks
    of two bridges may differ.
    """
    return previous_ms is not None and this_ms - previous_ms > tolerated_seconds * 1000


@dataclass(slots=True)
class Heartbeats:
    """The heartbeats read so far. Times are epoch milliseconds."""

    newest_ms: int | None = None
    gap_end_ms: int | None = None
    """The heartbeat that ended the last gap in which notifications may be lost."""

    def apply(
        self, at_ms: int, now_ms: int, tolerated_seconds: float = NYLAS_RETRY_SECONDS
    ) -> None:
        """Takes the next heartbeat in.

        A heartbeat further in the future than `tolerated_seconds` comes from a wrong clock and is
        ignored. It would otherwise hide every gap until then.
        """
        if at_ms - now_ms > tolerated_seconds * 1000:
            return
        if events_lost(self.newest_ms, at_ms, tolerated_seconds):
            self.gap_end_ms = at_ms
        self.newest_ms = max(at_ms, self.newest_ms or 0)
