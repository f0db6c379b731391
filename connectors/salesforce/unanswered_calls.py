"""Keeps a record's owner until no call without an answer can still be carried out by the org.

A call that is cut off goes on in the org. While its owner's key stands on a record, the org's
validation rule and the unique key refuse whatever such a call brings too late. Neither does so once
the record has another owner, or none. So releases and takeovers wait.
"""

import time
from collections.abc import Callable, Sequence

from connectors.salesforce.org_fields import KEY_FIELD, VERSION_FIELD
from connectors.salesforce.outcome import UNANSWERED_CALL, Outcome, OutcomeStatus
from connectors.salesforce.planner import PlannedOutcome
from connectors.salesforce.sobject_record import SObjectRecord

# Salesforce ends a REST request after ten minutes (API request limits, "API Call Limits").
LONGEST_CALL_SECONDS = 600.0


class UnansweredCalls:
    """Until when the org may still carry out a call whose answer never came. One for each org."""

    def __init__(
        self,
        longest_call: float = LONGEST_CALL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`longest_call`: seconds after which the org has ended every call."""
        self._longest_call = longest_call
        self._clock = clock
        self._until = clock()

    def note(self) -> None:
        """A call that writes ended without an answer, or may have, of this process or another."""
        self._until = self._clock() + self._longest_call

    @property
    def remaining(self) -> float:
        """Seconds until the org has certainly ended all such calls; 0 if there are none."""
        return max(0.0, self._until - self._clock())


def take_out_waiting(
    planned: Sequence[PlannedOutcome], remaining: float
) -> tuple[list[PlannedOutcome], list[Outcome]]:
    """The contacts that may be written now, and the outcomes of those that have to wait.

    All contacts of a record that is released or taken over wait while `remaining` is above 0.
    """
    if remaining <= 0:
        return list(planned), []
    kept: list[PlannedOutcome] = []
    outcomes: list[Outcome] = []
    for member in planned:
        if member.record is None or not _changes_owner(member.record):
            kept.append(member)
            continue
        retry = Outcome(
            member.change.key, OutcomeStatus.RETRY, reason=UNANSWERED_CALL, retry_after=remaining
        )
        outcomes.append(retry)
    return kept, outcomes


def _changes_owner(record: SObjectRecord) -> bool:
    """Whether the plan takes the key from a record, or gives one to a record that had another.

    A record that never had a key has no version either, and nobody's call can be late for it.
    """
    stored = record.stored.get(KEY_FIELD) or None
    return (
        record.id is not None
        and stored != record.key
        and record.stored.get(VERSION_FIELD) is not None
    )
