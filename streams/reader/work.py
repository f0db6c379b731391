"""The work of an active reader that its liveness probe watches, by the part that does it."""

from dataclasses import dataclass, field
from functools import partial

from streams.kafka.snapshot import READING_SECONDS
from streams.runtime.ops import Health, WorkInFlight

# One piece, without the waits on purpose. The longest step is one request to Nylas: 120 s for a
# connection of the pool, 10 s to connect, 95 s for the answer (`connectors.nylas.client.TIMEOUT`).
# This is more than twice that; a piece that lasts longer hangs.
PIECE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class ReaderWork:
    """What is in flight. A piece that waits on purpose is not (`waiting_on_purpose`)."""

    runs: WorkInFlight = field(default_factory=partial(WorkInFlight, "runs at work", PIECE_SECONDS))
    listings: WorkInFlight = field(
        default_factory=partial(WorkInFlight, "listings of grants", PIECE_SECONDS)
    )
    grant_events: WorkInFlight = field(
        default_factory=partial(WorkInFlight, "events of grants", PIECE_SECONDS)
    )
    deletions: WorkInFlight = field(
        default_factory=partial(WorkInFlight, "deletions of grants", PIECE_SECONDS)
    )
    refetches: WorkInFlight = field(
        default_factory=partial(WorkInFlight, "contacts to read again", PIECE_SECONDS)
    )
    successors: WorkInFlight = field(
        default_factory=partial(WorkInFlight, "searches for successors", PIECE_SECONDS)
    )
    readings: WorkInFlight = field(
        default_factory=partial(WorkInFlight, "readings of a topic", READING_SECONDS)
    )

    def watch(self, health: Health) -> None:
        """From now on the process is alive only while none of this is overdue."""
        for work in (
            self.runs,
            self.listings,
            self.grant_events,
            self.deletions,
            self.refetches,
            self.successors,
            self.readings,
        ):
            health.watch(work)
