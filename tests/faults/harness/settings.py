"""What one storm consists of, and the constants that several of its parts share."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.harness.schedule import Fault

TOPIC_PREFIX = "storm."
PARTITIONS = 4
"""Of contacts.events."""

# The product's default is 10. A shorter session makes more takeovers.
SESSION_SECONDS = 6.0

LATE_SECONDS = 8.0
"""After which a late call is applied: another sink has taken over by then."""

LONGEST_CALL_SECONDS = 10.0
"""Longer than any call of the simulated org takes, the late ones too."""

# A restart under load, with a table to restore.
READY_SECONDS = 60.0

IDLE_SECONDS = 900.0
"""For everything that may still be in flight when the faults end.

That is a frozen stage, a broker's recovery, a grant that Nylas' faults have put aside for a minute,
contacts that are read again at some a second, and the reader's pause between two searches for
successors, which is twenty times as long as the search took.
"""

NYLAS_AHEAD_SECONDS = 620.0
"""How far the clocks of Nylas and the reader are ahead of the other clocks.

A contact is read again once the page margin of ten minutes has passed since its event. With these
clocks it has passed at once, and a page's version is of about the same second as the notifications
beside it.
"""


@dataclass(frozen=True)
class StormSettings:
    """What one storm consists of: its load, its faults, and how many processes it has."""

    seed: int
    contacts: int = 1000
    versions: int = 40
    rate: float = 600.0
    """Notifications a second at most, so that the load lasts as long as the faults."""
    fault_interval: float = 3.0
    """Seconds from one fault to the next, on average; 0 for no faults."""
    only_faults: Sequence[Fault] = ()
    complete_first_pass: bool = True
    """Go through the first pass of the faults to its end, even when the load ends before."""
    book_contacts: int = 300
    """Contacts of the address book that is read page by page."""
    nodes: int = 1
    """Of the Kafka cluster. With three, every topic has three replicas, and one node goes and
    comes while the others serve.
    """
    bridges: int = 2
    dedupes: int = 2
    sinks: int = 2
    readers: int = 2
    variant: tuple[str, str] | None = None
    """A stage, and the variant (see variants.py) in which it runs."""
    idle_seconds: float = IDLE_SECONDS
    """How long the stages may take after the faults until nothing is left to do."""
    version_rule: bool = True
    """Whether the org has the validation rule that refuses older versions."""
    env: tuple[tuple[str, str], ...] = ()

    def variant_of(self, stage: str) -> str | None:
        """The variant in which this stage runs; None when it runs as it is."""
        if self.variant is None or self.variant[0] != stage:
            return None
        return self.variant[1]
