"""Whether a log lost records that a worker has read, or has yet to read: plain functions and data.

A log loses its end when a broker without a second copy loses power, or by an unclean election. Then
new events get the offsets of old ones, and a worker that waits for a higher offset skips them.
"""

import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

# Between two answers of the broker that must agree. After a clean election the new leader may
# report an end of the log that lags behind for a moment.
LOSS_CONFIRM_SECONDS = 10.0


class RecordIdentity(NamedTuple):
    """By which the record at an offset is recognised: another one has another timestamp or body."""

    timestamp_ms: int
    key: bytes | None
    checksum: int


def identity(record: Any) -> RecordIdentity:
    """The identity of a record of aiokafka."""
    return RecordIdentity(record.timestamp, record.key, zlib.crc32(record.value or b""))


@dataclass(frozen=True, slots=True)
class ReadPosition:
    """Where a worker reads in a partition."""

    due: int
    """The next offset that it expects."""
    idle: bool
    """Whether it has finished everything before that."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A position outside of the log, which goes from `start` to `end`."""

    partition: int
    due: int
    start: int
    end: int

    @property
    def kind(self) -> tuple[int, int, bool]:
        """The same for the same loss, although the log goes on growing or expiring."""
        return self.partition, self.due, self.end < self.due


def losses(
    positions: Mapping[int, ReadPosition], start: Mapping[int, int], end: Mapping[int, int]
) -> list[Loss]:
    """The partitions whose position is outside of the log.

    Records that expired may still be in the memory of a worker that is busy with the ones before.
    """
    return [
        Loss(partition, at.due, start[partition], end[partition])
        for partition, at in sorted(positions.items())
        if end[partition] < at.due or (start[partition] > at.due and at.idle)
    ]


class LossWatch:
    """Which losses the broker has reported twice, LOSS_CONFIRM_SECONDS apart or more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[tuple[int, int, bool], float] = {}

    def confirmed(self, found: Iterable[Loss]) -> Loss | None:
        """The first loss that is certain, given those that the broker reports now."""
        now = self._clock()
        reported = {loss.kind: loss for loss in found}
        self._since = {kind: self._since.get(kind, now) for kind in reported}
        for kind, loss in reported.items():
            if now - self._since[kind] >= LOSS_CONFIRM_SECONDS:
                return loss
        return None
