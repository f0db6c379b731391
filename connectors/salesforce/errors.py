"""What Salesforce refuses, and what each refusal means for the row, the request or the whole sink."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

VERSION_FIELD = "Nylas_Version__c"


class SalesforceError(Exception):
    """Base of everything that the Salesforce connector raises on purpose."""


class OrgUnavailable(SalesforceError):
    """A fault of the whole org (limits, maintenance, network, login): pause and repeat, never dead-letter a row.

    `reason` is one of PAUSE_REASONS; `retry_after` is in seconds, None where the caller's own back-off decides.
    """

    def __init__(self, reason: str, retry_after: float | None = None, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.retry_after = retry_after
        self.detail = detail


class RequestRejected(SalesforceError):
    """A whole request (or a whole subrequest of a Composite) refused for its data or for the configuration.

    `verdict.action` says what may help: BISECT, HALVE, STRIP_FIELD (with `verdict.fields`), or STOP.
    """

    def __init__(self, status: int, errors: "Sequence[RowError]", verdict: "Verdict | None" = None) -> None:
        self.status = status
        self.errors = tuple(errors)
        self.verdict = verdict or Verdict(Action.STOP, "rejected")
        super().__init__(f"HTTP {status} {', '.join(error.code for error in self.errors)} ({self.verdict.reason})")


class UnexpectedAnswer(SalesforceError):
    """An answer that is short, odd or not what was asked for. Nothing is concluded from it."""


@dataclass(frozen=True, slots=True)
class DuplicateMatch:
    """A record that a duplicate rule (or a unique field) says is the same person."""

    sobject: str
    record_id: str
    rule: str = ""
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class RowError:
    """One entry of a row's or a request's `errors`. `message` may hold personal data: for the dead letter, not for logs."""

    code: str
    message: str = field(repr=False)
    fields: tuple[str, ...] = ()
    duplicates: tuple[DuplicateMatch, ...] = ()


class Action(StrEnum):
    """What to do next, from the mildest to the gravest."""

    DONE = "done"
    RETRY_ROW = "retry_row"  # this row alone, later, after it was resolved anew; bounded, then dead letter
    HALVE = "halve"  # the same rows in smaller requests; a single row counts as RETRY_ROW
    ADOPT_DUPLICATE = "adopt_duplicate"  # one match in `verdict.duplicates`; the caller checks the shared address
    STRIP_FIELD = "strip_field"  # without `verdict.fields`
    DEAD_LETTER = "dead_letter"
    FOLLOW_CONVERTED = "follow_converted"  # to the Lead's ConvertedContactId
    STALE = "stale"  # the org holds a newer version
    PAUSE = "pause"  # the whole org; raised as OrgUnavailable where it concerns a request
    # requests only
    REFRESH_TOKEN = "refresh_token"  # noqa: S105
    BISECT = "bisect"  # one row of many is unreadable
    STOP = "stop"  # our configuration or our code is wrong; no row is to blame


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why in one word of a closed set (usable as a metric label).

    `fields`: to strip. `duplicates`: to adopt. `retry_after`: seconds, for PAUSE.
    """

    action: Action
    reason: str
    fields: tuple[str, ...] = ()
    duplicates: tuple[DuplicateMatch, ...] = ()
    retry_after: float | None = None


def parse_errors(body: object) -> tuple[RowError, ...]:
    """The errors of a row (`statusCode`) or of a request (`errorCode`, or OAuth's `error`); () if there are none."""
    raise NotImplementedError


def classify_row(errors: Sequence[RowError]) -> Verdict:
    """What a row's errors mean together: the gravest wins, so a lock beside a bad address is a bad address.

    No errors is DONE.
    """
    raise NotImplementedError


def classify_request(status: int, body: object, *, inside_composite: bool = False) -> Verdict:
    """What a whole answer means. `body` is parsed JSON, or str/bytes where it was not JSON (an HTML page)."""
    raise NotImplementedError


def raise_for(status: int, body: object, *, inside_composite: bool = False, retry_after: float | None = None) -> None:
    """Raise OrgUnavailable or RequestRejected for anything that is not a 2xx with JSON."""
    raise NotImplementedError
