"""Heartbeats of the bridges on reader.runs, and how a gap in them is noticed."""

from dataclasses import dataclass

import orjson

from streams.events import UnreadableRecord, parse_object
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

HEARTBEAT_KEY = b"bridge/heartbeat"
"""Every bridge writes to it, and the newest counts. A run's ID begins with a year, so it is
nobody's progress.
"""


NYLAS_RETRY_SECONDS = 600.0
"""The last of Nylas' three attempts comes 10 to 20 minutes after the first: of a longer silence it
may have missed the end.
"""


def heartbeat_record(topics: Topics, at_ms: int) -> KafkaRecord:
    """A bridge's word that it can take notifications (epoch milliseconds). That it is acknowledged
    says the rest: the broker takes them.
    """
    return KafkaRecord(topics.runs.name, HEARTBEAT_KEY, orjson.dumps({"heartbeat_ms": at_ms}), [])


def parse_heartbeat(value: bytes) -> int:
    """Epoch milliseconds from a heartbeat's value; unknown fields are ignored. Raises
    UnreadableRecord.
    """
    at_ms = parse_object(value).get("heartbeat_ms")
    if not isinstance(at_ms, int) or isinstance(at_ms, bool) or at_ms <= 0:
        raise UnreadableRecord("not_a_heartbeat")
    return at_ms


def events_lost(
    previous_ms: int | None, this_ms: int, silence: float = NYLAS_RETRY_SECONDS
) -> bool:
    """Whether events may have been lost between two heartbeats (epoch milliseconds): `silence`, in
    seconds, is what Nylas bridges.

    A heartbeat that goes back, by another bridge's clock, is no gap; nor is the first one.
    """
    return previous_ms is not None and this_ms - previous_ms > silence * 1000


@dataclass(slots=True)
class Heartbeats:
    """The bridges' heartbeats as read so far, in epoch milliseconds: the newest, and the one that
    ended the last gap.
    """

    newest_ms: int | None = None
    lost_ms: int | None = None

    def hear(self, at_ms: int, now_ms: int, silence: float = NYLAS_RETRY_SECONDS) -> None:
        """The next heartbeat. One from a future further than `silence` is passed over: believed, it
        would hide every gap until then.
        """
        if at_ms - now_ms > silence * 1000:
            return
        if events_lost(self.newest_ms, at_ms, silence):
            self.lost_ms = at_ms
        self.newest_ms = max(at_ms, self.newest_ms or 0)
