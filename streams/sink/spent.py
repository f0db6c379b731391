"""What was created and replaced lately: the counts that the limits of the sink are for.

Days and hours are those of UTC. Plain data; a new writer counts from contacts.outcomes.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

from connectors.salesforce.outcome import Outcome, OutcomeStatus
from connectors.salesforce.person import grant_of
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import read_to_end
from streams.settings import KafkaSettings
from streams.topics import Topics

HOUR_SECONDS = 3600
DAY_SECONDS = 86_400


@dataclass(slots=True)
class Spent:
    """Creations of a day, in total and by grant, and replaced values of an hour.

    What is of another day or hour counts no more. Memory: a number for each grant.
    """

    day: int = 0
    """Days since the epoch."""
    hour: int = 0
    """Hours since the epoch."""
    creations: int = 0
    of_grant: Counter[str] = field(default_factory=Counter)
    replaced: int = 0

    def move_to(self, now: float) -> None:
        """Forgets what is of an earlier day or hour; `now` is in epoch seconds."""
        day, hour = int(now) // DAY_SECONDS, int(now) // HOUR_SECONDS
        if day > self.day:
            self.day, self.creations = day, 0
            self.of_grant.clear()
        if hour > self.hour:
            self.hour, self.replaced = hour, 0

    def add(self, grant: str, created: int, replaced: int) -> None:
        """Counts what was written now."""
        self.creations += created
        self.replaced += replaced
        if created:
            self.of_grant[grant] += created

    def note(self, outcome: Outcome) -> None:
        """Counts what follows from an outcome of now."""
        created = outcome.status is OutcomeStatus.CREATED
        self.add(grant_of(outcome.key), created, len(outcome.replaced))


def spent_until(now: float, outcomes: Iterable[KafkaRecord]) -> Spent:
    """The counts at `now` (epoch seconds) from records of contacts.outcomes, in any order.

    Records that are no outcomes are skipped.
    """
    spent = Spent()
    spent.move_to(now)
    for record in outcomes:
        try:
            found = orjson.loads(record.value or b"null")
            at_seconds = int(found["at_ms"]) // 1000
            created = found["outcome"] == OutcomeStatus.CREATED.value
            replaced = int(found.get("replaced") or 0)
        except (ValueError, TypeError, KeyError):
            continue
        if at_seconds // DAY_SECONDS != spent.day:
            continue
        if at_seconds // HOUR_SECONDS != spent.hour:
            replaced = 0
        spent.add(grant_of((record.key or b"").decode(errors="replace")), created, replaced)
    return spent


def read_spent(kafka: KafkaSettings, names: Topics, now: float) -> Spent:
    """The counts at `now`, from the outcomes of the day. Blocks.

    contacts.outcomes keeps each outcome for a week before it is compacted. Raises SnapshotStalled,
    KafkaException.
    """
    midnight = int(now) // DAY_SECONDS * DAY_SECONDS
    return spent_until(now, read_to_end(kafka, names.outcomes.name, since=float(midnight)))
