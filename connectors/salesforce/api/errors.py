"""The errors of Salesforce as values and exceptions: what was refused, and what to do about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

# Reasons of OrgUnavailable, and the seconds to wait where Salesforce names none.
PAUSE_SECONDS: Mapping[str, float] = MappingProxyType(
    {
        # only the reserve is left; the window of 24 hours rolls, so some calls come back all the
        # time
        "budget": 300,
        "own_limit": 300,  # our own limit of a day is reached: the next day, or a person, helps
        "daily_limit": 300,  # likewise
        "request_limit": 60,  # a limit that Salesforce does not name
        "concurrent_limit": 5,  # long requests end within seconds to minutes
        "throttled": 30,
        "storage_limit": 600,  # a person has to act
        "api_disabled": 600,  # likewise
        "maintenance": 60,
        "server_error": 10,
        "not_json": 30,  # a page of a load balancer or of a login form
        "network": 5,
        "moved": 60,
        "login": 60,  # logins are limited per user
        "accounts": 300,  # their first read was refused: a person has to grant the user the object
    }
)


@dataclass(frozen=True, slots=True)
class DuplicateMatch:
    """An existing record that a duplicate rule or a unique field says is the same as the row's."""

    sobject: str
    record_id: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class RowError:
    """One entry in the `errors` of a row or of a request.

    `message` may hold personal data: it may go to the dead-letter topic, never to a log.
    """

    code: str
    message: str = field(repr=False)
    fields: tuple[str, ...] = ()
    duplicates: tuple[DuplicateMatch, ...] = ()


class Action(StrEnum):
    """What to do next, from the mildest to the gravest."""

    DONE = "done"
    # send this row again later, after its record was looked up anew; bounded, then dead letter
    RETRY_ROW = "retry_row"
    # send the same rows in smaller requests; for a single row it means RETRY_ROW
    HALVE = "halve"
    # write to the one match in `verdict.duplicates`, if the caller finds that it is the same record
    ADOPT_DUPLICATE = "adopt_duplicate"
    STRIP_FIELD = "strip_field"  # send again without `verdict.fields`
    # The org's automation failed for this row, or for another row of its collection. Send rows that
    # failed alike in smaller collections; for a single row it means DEAD_LETTER.
    ISOLATE = "isolate"
    DEAD_LETTER = "dead_letter"
    FOLLOW_CONVERTED = "follow_converted"  # write to the Lead's ConvertedContactId instead
    STALE = "stale"  # the org holds a newer version
    PAUSE = "pause"  # the whole org; for a request it is raised as OrgUnavailable
    # of requests only
    REFRESH_TOKEN = "refresh_token"  # noqa: S105  # an action, not a token
    BISECT = "bisect"  # one row of many cannot be read: find it by sending parts
    STOP = "stop"  # the configuration or this program is wrong; no row is at fault


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about an error, and a reason from a closed set (usable as a metric label).

    `fields` are for STRIP_FIELD, `duplicates` for ADOPT_DUPLICATE, `retry_after` (seconds) for
    PAUSE.
    """

    action: Action
    reason: str
    fields: tuple[str, ...] = ()
    duplicates: tuple[DuplicateMatch, ...] = ()
    retry_after: float | None = None


class SalesforceError(Exception):
    """Base of everything that the Salesforce connector raises on purpose."""


class OrgUnavailable(SalesforceError):
    """A fault of the whole org (limits, maintenance, network, login): pause, then send again.

    It never justifies a dead letter. `reason` is a key of PAUSE_SECONDS. `retry_after` is in
    seconds; None leaves the wait to the caller's back-off.
    """

    def __init__(self, reason: str, retry_after: float | None = None, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.retry_after = retry_after
        self.detail = detail


class RequestRejected(SalesforceError):
    """A request, or a subrequest of a Composite, was refused whole for its data or configuration.

    `verdict.action` says what may help: BISECT, HALVE, STRIP_FIELD (with `verdict.fields`) or STOP.
    `remedy` says what an operator can do, if that is known.
    """

    def __init__(
        self,
        status: int,
        errors: Sequence[RowError],
        verdict: Verdict | None = None,
        remedy: str = "",
    ) -> None:
        self.status = status
        self.errors = tuple(errors)
        self.verdict = verdict or Verdict(Action.STOP, "rejected")
        codes = ", ".join(error.code for error in self.errors)
        super().__init__(
            f"HTTP {status} {codes} ({self.verdict.reason}){': ' if remedy else ''}{remedy}"
        )


class UnexpectedAnswer(SalesforceError):
    """An answer that is incomplete or not what was asked for. Nothing may be concluded from it."""


class WriterFenced(SalesforceError):
    """This process may no longer write, because another writer may have taken over."""
