"""The input and the result of a sync: a contact at a version, and what was done with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from connectors.salesforce.api.errors import RowError


@dataclass(frozen=True, slots=True)
class ContactVersion:
    """A contact as of its last change. At most one for each key in a batch.

    `key` is `grant_id/contact_id`. `version` is in seconds since the epoch. `contact` is the Nylas
    object, or None if the contact was deleted. `restore` are fields that the owner of the record
    writes even where somebody else's value stands. `live` changes come from a notification, and not
    from a run that reads many contacts; only they may run the org's assignment rule. `origin` is
    one word for people: what set the change off, such as `webhook` or `backfill`.
    """

    key: str
    version: int
    contact: Mapping[str, Any] | None
    restore: frozenset[str] = frozenset()
    live: bool = False
    origin: str = ""
    erase: bool = False
    """Of a deleted contact: whether nothing of ours may stay on its record, not even hashes."""
    read: list[Any] = field(default_factory=list, init=False, compare=False, repr=False)
    """What `planner.person_of` made of the contact last, so that a contact is read once: when it is
    taken in for what it claims, and again when its batch is planned.
    """


class OutcomeStatus(StrEnum):
    """What happened to a change."""

    CREATED = "created"
    UPDATED = "updated"
    # the record belongs to another contact's key: only blanks were filled, perhaps none
    FILLED = "filled"
    UNCHANGED = "unchanged"
    # a record with another person's name holds the contact's primary address: nothing was written
    COVERED = "covered"
    # records of several people may be the contact: none was written, and none was created
    AMBIGUOUS = "ambiguous"
    # the org holds a newer version
    STALE = "stale"
    SKIPPED = "skipped"
    # beyond a limit, or creations are paused: nothing was written, and a person releases it
    HELD = "held"
    # nothing was written, because the mode is report-only: what another mode would have done
    PLANNED = "planned"
    RELEASED = "released"
    # cannot succeed: the change belongs in the dead-letter topic
    FAILED = "failed"
    # this change alone may succeed later; with a reason of NOT_ATTEMPTED it was not even tried
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class ReplacedValue:
    """A value of a record that another one takes the place of; `old` is never blank."""

    sobject: str
    record_id: str
    field: str
    old: Any
    new: Any
    """None if the field is cleared."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to one change.

    `record_id` of a covered contact is the record that holds its primary address. `candidates` are
    the IDs of all records between which a person has to decide, for a covered or ambiguous contact.
    `matched` is key, email, address_field, converted_lead, merged or duplicate_rule; None if the
    record was created or nothing was looked up. `first` is true when the contact was resolved for
    the first time, so that it counts for the match rate: as found where `matched` is set, otherwise
    as created. `reason` is one word of a closed set: why the change was skipped, failed or must be
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
    account_by: str = ""
    """Where the record got an Account from us: by which evidence, a word of `AccountEvidence`."""
    several_matched: bool = False
    """Several records matched equally well, and one of them was chosen."""
    candidates: tuple[str, ...] = ()
    replaced: tuple[ReplacedValue, ...] = ()
    """The values that the row of the contact replaced in the org. Of several contacts in one row,
    the owner of the record has them.
    """
    owner_rule: str = ""
    """By which OwnerRule a created record got its owner; "" for every other outcome."""
    retry_after: float = 0.0
    """Seconds before a RETRY can succeed, as far as that is known."""

    def as_created(self, record_id: str | None, owner_rule: str) -> "Outcome":
        """The planned outcome of a creation, once its record exists.

        Written out, because a first sync creates everybody, and `replace` takes thrice as long.
        """
        return Outcome(
            self.key,
            self.status,
            self.sobject,
            record_id,
            self.matched,
            self.first,
            self.reason,
            self.errors,
            self.account_by,
            self.several_matched,
            self.candidates,
            self.replaced,
            owner_rule,
            self.retry_after,
        )


UNANSWERED_CALL = "unanswered_call"
"""Reason of a RETRY that is no failed attempt: see `unanswered_calls`."""

NEXT_BATCH = "next_batch"
"""Reason of a RETRY that is no failed attempt.

Another batch in flight holds the Account or wrote the record. The change belongs in a batch that
starts when that one has ended.
"""

NO_ROOM = "no_room"
"""Reason of a RETRY that is no failed attempt: the batch was full."""

NOT_ATTEMPTED = frozenset({NEXT_BATCH, NO_ROOM})


def next_batch(change: ContactVersion) -> Outcome:
    """The outcome of a change that was not attempted because of another batch."""
    return Outcome(change.key, OutcomeStatus.RETRY, reason=NEXT_BATCH)


def no_room(change: ContactVersion) -> Outcome:
    """The outcome of a change that was not attempted because the batch was full."""
    return Outcome(change.key, OutcomeStatus.RETRY, reason=NO_ROOM)
