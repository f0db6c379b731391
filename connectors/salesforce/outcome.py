"""The input and the result of a sync: a contact at a version, and what was done with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from connectors.salesforce.api.errors import RowError


@dataclass(frozen=True, slots=True)
class ContactVersion:
    """A contact as of its last change. At most one for each key in a batch.

    `key` is `grant_id/contact_id`. `version` is in seconds since the epoch. `contact` is the Nylas
    object, or None if the contact was deleted.
    """

    key: str
    version: int
    contact: Mapping[str, Any] | None


class OutcomeStatus(StrEnum):
    """What happened to a change."""

    CREATED = "created"
    UPDATED = "updated"
    # the record belongs to another contact's key: only blanks were filled, perhaps none
    FILLED = "filled"
    UNCHANGED = "unchanged"
    # the org holds a newer version
    STALE = "stale"
    SKIPPED = "skipped"
    RELEASED = "released"
    # cannot succeed: the change belongs in the dead-letter topic
    FAILED = "failed"
    # this change alone may succeed later; with reason NEXT_BATCH it was not attempted at all
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to one change.

    `matched` is key, email, converted_lead, merged or duplicate_rule; None if the record was
    created or nothing was looked up. `first` is true when the contact was resolved for the first
    time, so that it counts for the match rate: as found where `matched` is set, otherwise as
    created. `reason` is one word of a closed set: why the change was skipped, failed or must be
    retried.
    """

    key: str
    status: OutcomeStatus
    sobject: str | None = None
    record_id: str | None = None
    matched: str | None = None
    first: bool = False
    reason: str = ""
    errors: tuple[RowError, ...] = ()
    ambiguous: bool = False


NAME_DIFFERS = "name_differs"
"""Reason of a FILLED that filled nothing.

The record belongs to another contact's key, and has another name.
"""

NEXT_BATCH = "next_batch"
"""Reason of a RETRY that is no failed attempt.

The batch was full, or another batch in flight holds the Account or wrote the record. The change
belongs in the next batch.
"""


def next_batch(change: ContactVersion) -> Outcome:
    """The outcome of a change that was not attempted."""
    return Outcome(change.key, OutcomeStatus.RETRY, reason=NEXT_BATCH)
