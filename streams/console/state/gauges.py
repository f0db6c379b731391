"""Sets the metrics of the console from what it knows."""

import hashlib
import time

from streams.console.state.letters import LetterState
from streams.console.state.people import OTHER, Coverage, PeopleState, Standing
from streams.metrics import GRANT_COVERAGE_STATES, OTHER_GRANTS, ConsoleMetrics

# Grants with series of their own. More would be more than a graph shows.
LARGEST_GRANTS = 20

# Reasons with a series of their own; the closed set has some 80.
MAX_REASONS = 100


class ConsoleGauges:
    """Remembers which labels have series, so that those that are over can be taken back."""

    def __init__(self, metrics: ConsoleMetrics) -> None:
        self._metrics = metrics
        self._grants: set[str] = set()
        self._reasons: set[str] = set()

    def show_people(self, people: PeopleState) -> None:
        """Sets the coverage; to be called once contacts.outcomes was read."""
        metrics = self._metrics
        for state, contacts in coverage_by_state(people.coverage()).items():
            metrics.coverage.labels(state).set(contacts)
        shown = set()
        for each in people.grants(LARGEST_GRANTS):
            name = OTHER_GRANTS if each.grant == OTHER else hashed(each.grant)
            shown.add(name)
            for state in GRANT_COVERAGE_STATES:
                contacts = coverage_by_state(each.coverage)[state]
                metrics.coverage_of_grants.labels(name, state).set(contacts)
        for name in self._grants - shown:
            for state in GRANT_COVERAGE_STATES:
                metrics.coverage_of_grants.remove(name, state)
        self._grants = shown

    def show_letters(self, letters: LetterState) -> None:
        """Sets the open letters; to be called once contacts.dead-letter was read."""
        metrics, backlog = self._metrics, letters.backlog()
        kept = self._reasons | set(sorted(backlog.by_reason)[: MAX_REASONS - len(self._reasons)])
        for reason in kept:
            metrics.open_letters.labels(reason).set(backlog.by_reason[reason])
        self._reasons = kept
        oldest_ms = backlog.oldest_ms
        metrics.oldest_letter.set_function(
            time.time if oldest_ms is None else lambda: oldest_ms / 1000
        )


def coverage_by_state(coverage: Coverage) -> dict[str, int]:
    """The numbers by the label `state`."""
    return {
        "eligible": coverage.eligible,
        "with_record": coverage.with_record,
        "covered": coverage.by_standing[Standing.COVERED],
        "ambiguous": coverage.by_standing[Standing.AMBIGUOUS],
        "failed": coverage.by_standing[Standing.FAILED],
        "held": coverage.by_standing[Standing.HELD],
        "planned": coverage.by_standing[Standing.PLANNED],
    }


def hashed(grant: str) -> str:
    """A short name of a grant that says nothing of its owner; the same in every process."""
    return hashlib.sha256(grant.encode(errors="surrogatepass")).hexdigest()[:12]
