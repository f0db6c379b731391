"""The input and the result of a sync: a contact at a version, and what was done with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from connectors.salesforce.api.errors import RowError


@dataclass(frozen=True, slots=True)
class ContactVersion:
    """A contact as of its last change. At most one for each key in a batch.

    `key` is `grant_id/contact_id`, `version` in seconds since the epoch, `contact` the Nylas
    object, None if deleted.
    """

    key: str
    version: int
    contact: Mapping[str, Any] | None


class OutcomeStatus(StrEnum):
    """What became of a change."""

    CREATED = "created"
    UPDATED = "updated"
    # the record belongs to another contact's key: only blanks were filled, perhaps none
    FILLED = "filled"
    UNCHANGED = "unchanged"
    STALE = "stale"
    SKIPPED = "skipped"
    RELEASED = "released"
    FAILED = "failed"  # cannot succeed: dead letter
    RETRY = (
        "retry"  # this row alone may succeed later; with reason NEXT_BATCH it was not even tried
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one change.

    `matched` is key, email, converted_lead or duplicate_rule; None if the record was created or
    nothing was looked up. `first`: resolved for the first time, so that it counts for the match
    rate (found where `matched` is set, else created). `reason`: a word of a closed set (why
    skipped, failed or to be retried).
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
"""Reason of a FILLED that filled nothing: the record belongs to another contact's key, and has
another name.
"""
