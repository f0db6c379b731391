"""What the sink is made of: groups of objects that `process` wires and the stage takes.

Each group is what one question needs, so that a part of the stage takes a group and not ten
objects.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from confluent_kafka import Consumer

from streams.kafka.followed import Followed
from streams.kafka.transactions import TransactionalPublisher
from streams.metrics import SinkMetrics
from streams.runtime.ops import Health
from streams.runtime.traces import NO_TRACES, Traces
from streams.sink.deletion_keeper import DeletionKeeper
from streams.sink.failure_breakers import FailureBreakers
from streams.sink.fence import WriteFence
from streams.sink.live_pace import LivePace
from streams.sink.org_guard import OrgGuard
from streams.sink.spent import Spent
from streams.sink.write_limits import WriteLimits
from streams.topics import Topics


@dataclass(frozen=True, slots=True)
class KafkaEnds:
    """Where changes come from and where outcomes go."""

    consumer: Consumer
    publisher: TransactionalPublisher
    names: Topics
    topic_id: str = ""
    """Of contacts.changes; empty where the broker has no IDs."""
    control: Followed | None = None
    """Feeds the failure breakers and what else is followed; see BreakerKeeper."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """How the sink shows what it does."""

    metrics: SinkMetrics
    health: Health
    traces: Traces = NO_TRACES


@dataclass(frozen=True, slots=True)
class WriteGuards:
    """What decides whether, when and how much may be written."""

    fence: WriteFence
    failures: FailureBreakers
    limits: WriteLimits
    pace: LivePace
    """When live batches go that are not full."""
    guard: OrgGuard | None = None
    """Keeps to one org; None if any will do."""


def nothing_deleted() -> Iterable[tuple[str, int]]:
    """For a sink without a predecessor."""
    return ()


@dataclass(frozen=True, slots=True)
class Predecessor:
    """What the last writer knew, which is read before the first write of an assignment."""

    deleted: Callable[[], Iterable[tuple[str, int]]] = nothing_deleted
    """Blocks: keys and versions of the contacts that it deleted lately."""
    spent: Callable[[], Spent] = field(default=Spent)
    """Blocks: what was written until now of what is limited."""
    deleted_records: DeletionKeeper | None = None
    """What people deleted in the org; without it the recycle bin alone answers."""
