"""Whom to blame for a failure, as plain functions: the org, for which everybody waits, or one
contact, which is dead-lettered.
"""

from enum import StrEnum

EQUAL_FAILURES = 3  # of one batch in the same way, before it is suspected: two are often one outage
# of one contact alone, before it is blamed: an org that fails every other call would blame one in
# 64
LONE_FAILURES = 6
BURIED_MOST, BURIED_SECONDS = 10, 3600.0
"""So many contacts in so many seconds are dead-lettered for what broke their whole calls. More are
no bad contacts, but a fault of a part of the org (the Leads, say): those wait, and a person is
told.
"""

RETRY_SECONDS = (
    300.0  # a row's passing fault (a lock) is retried this long beside the flow, then dead-lettered
)
RETRY_ATTEMPTS = 8  # and this often: what passes while the org is away are no attempts
EQUAL_ATTEMPTS = {
    # The loser of a race for a new key finds the record with the next query. Whoever is refused
    # after a new query as well meets a record that sharing hides from our user: it will be refused
    # every time.
    "duplicate_value": 2,
    "entity_is_locked": 4,  # an approval takes a person: seconds are worth a wait, hours are not
}
"""Fewer attempts for faults that seldom pass, counted while they come one after the other."""


class Next(StrEnum):
    """What to do with a batch that failed."""

    AGAIN = "again"  # as it is, after a pause of everybody
    APART = "apart"  # after everybody else, and in halves where they are several
    BURY = "bury"  # its only contact is dead-lettered


def after_failure(rows: int, failures: int, *, others_written: bool, buried: int) -> Next:
    """What to do with a batch of so many rows that has failed so often, one time after the other
    and in the same way.

    `others_written`: contacts that were not in it were written meanwhile. `buried`: contacts
    dead-lettered by this function's word within BURIED_SECONDS.
    """
    if failures < EQUAL_FAILURES:
        return Next.AGAIN
    alone = rows == 1 and failures >= LONE_FAILURES
    return Next.BURY if alone and others_written and buried < BURIED_MOST else Next.APART


def after_split(half: int) -> int:
    """How often a half of so many rows counts as failed: once more and it is halved again, but a
    contact alone starts anew.
    """
    return 0 if half == 1 else EQUAL_FAILURES - 1


def may_retry(reason: str, *, attempts: int, equal: int, seconds: float) -> bool:
    """Whether a row that failed alone, with a fault that may pass, is tried again.

    `attempts` failed so far, the last `equal` of them with this `reason`, the first one `seconds`
    ago.
    """
    if equal >= EQUAL_ATTEMPTS.get(reason, equal + 1):
        return False
    return attempts < RETRY_ATTEMPTS or seconds < RETRY_SECONDS
