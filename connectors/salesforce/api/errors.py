"""What Salesforce refuses, and what each refusal means for the row, the request or the whole sink."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

VERSION_FIELD = "Nylas_Version__c"


class SalesforceError(Exception):
    """Base of everything that the Salesforce connector raises on purpose."""


class OrgUnavailable(SalesforceError):
    """A fault of the whole org (limits, maintenance, network, login): pause and repeat, never
    dead-letter a row.

    `reason` is a key of PAUSE_REASONS; `retry_after` is in seconds, None where the caller's own
    back-off decides.
    """

    def __init__(self, reason: str, retry_after: float | None = None, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.retry_after = retry_after
        self.detail = detail


class RequestRejected(SalesforceError):
    """A whole request (or a whole subrequest of a Composite) refused for its data or for the
    configuration.

    `verdict.action` says what may help: BISECT, HALVE, STRIP_FIELD (with `verdict.fields`), or
    STOP.
    """

    def __init__(
        self, status: int, errors: "Sequence[RowError]", verdict: "Verdict | None" = None
    ) -> None:
        self.status = status
        self.errors = tuple(errors)
        self.verdict = verdict or Verdict(Action.STOP, "rejected")
        super().__init__(
            f"HTTP {status} {', '.join(error.code for error in self.errors)} ({self.verdict.reason})"
        )


class UnexpectedAnswer(SalesforceError):
    """An answer that is short, odd or not what was asked for. Nothing is concluded from it."""


class WriterFenced(SalesforceError):
    """Whoever called may have been replaced by another writer meanwhile: nothing more is sent."""


@dataclass(frozen=True, slots=True)
class DuplicateMatch:
    """A record that a duplicate rule (or a unique field) says is the same person."""

    sobject: str
    record_id: str
    rule: str = ""
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class RowError:
    """One entry of a row's or a request's `errors`. `message` may hold personal data: for the dead
    letter, not for logs.
    """

    code: str
    message: str = field(repr=False)
    fields: tuple[str, ...] = ()
    duplicates: tuple[DuplicateMatch, ...] = ()


class Action(StrEnum):
    """What to do next, from the mildest to the gravest."""

    DONE = "done"
    RETRY_ROW = (
        "retry_row"  # this row alone, later, after it was resolved anew; bounded, then dead letter
    )
    HALVE = "halve"  # the same rows in smaller requests; a single row counts as RETRY_ROW
    ADOPT_DUPLICATE = (
        "adopt_duplicate"  # one match in `verdict.duplicates`; the caller checks the shared address
    )
    STRIP_FIELD = "strip_field"  # without `verdict.fields`
    DEAD_LETTER = "dead_letter"
    FOLLOW_CONVERTED = "follow_converted"  # to the Lead's ConvertedContactId
    STALE = "stale"  # the org holds a newer version
    PAUSE = "pause"  # the whole org; raised as OrgUnavailable where it concerns a request
    # requests only
    REFRESH_TOKEN = "refresh_token"
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


# Reasons of OrgUnavailable, and the seconds to wait where Salesforce names none.
PAUSE_REASONS: Mapping[str, float] = MappingProxyType(
    {
        # only the reserve is left; the window of 24 hours rolls, so some calls come back all the
        # time
        "budget": 300,
        "daily_limit": 300,  # likewise
        "request_limit": 60,  # a limit that does not say which one it is
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
    }
)

_PAUSING = {
    "SERVER_UNAVAILABLE": "maintenance",
    "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE": "maintenance",
    "ORG_LOCKED": "maintenance",
    "STORAGE_LIMIT_EXCEEDED": "storage_limit",
    "API_DISABLED_FOR_ORG": "api_disabled",
    "API_CURRENTLY_DISABLED": "api_disabled",
    "LICENSE_LIMIT_EXCEEDED": "api_disabled",
    "INVALID_AUTH_HEADER": "login",
    "INVALID_HEADER_TYPE": "login",
}

# Codes that mean the same in a row and for a whole request. Sources: the StatusCode list of the
# SOAP API guide and the retry lists of salto, rudder-transformer and ingestr.
_RETRY_ROW = frozenset(
    {
        "UNABLE_TO_LOCK_ROW",
        "TOO_MANY_APEX_REQUESTS",
        "TXN_SECURITY_METERING_ERROR",
        "ALL_OR_NONE_OPERATION_ROLLED_BACK",  # collateral: nothing is wrong with this row
        "PROCESSING_HALTED",  # likewise
    }
)
_HALVE = frozenset(
    {"QUERY_TIMEOUT", "REQUEST_RUNNING_TOO_LONG", "OPERATION_TOO_LARGE", "QUERY_TOO_COMPLICATED"}
)
_STRIP_FIELD = frozenset({"INVALID_FIELD", "INVALID_FIELD_FOR_INSERT_UPDATE"})

_ROWS: Mapping[str, Action] = MappingProxyType(
    {
        **dict.fromkeys(_RETRY_ROW, Action.RETRY_ROW),
        **dict.fromkeys(_HALVE, Action.HALVE),
        **dict.fromkeys(_STRIP_FIELD, Action.STRIP_FIELD),
        "UNKNOWN_EXCEPTION": Action.RETRY_ROW,
        # an approval in progress: a person may end it within minutes
        "ENTITY_IS_LOCKED": Action.RETRY_ROW,
        # deleted or merged since our query: resolved anew, it has another place
        "ENTITY_IS_DELETED": Action.RETRY_ROW,
        "NOT_FOUND": Action.RETRY_ROW,  # likewise
        # likewise, purged; or its Account was, and will be forgotten
        "INVALID_CROSS_REFERENCE_KEY": Action.RETRY_ROW,
        # The loser of a race for a new key succeeds the second time. A record hidden by sharing
        # gives the same answer every time, and so ends as a dead letter.
        "DUPLICATE_VALUE": Action.RETRY_ROW,
        "DUPLICATES_DETECTED": Action.ADOPT_DUPLICATE,
        "CANNOT_UPDATE_CONVERTED_LEAD": Action.FOLLOW_CONVERTED,
        **dict.fromkeys(_PAUSING, Action.PAUSE),
        "REQUEST_LIMIT_EXCEEDED": Action.PAUSE,
        "INVALID_SESSION_ID": Action.PAUSE,
        **dict.fromkeys(
            (
                "REQUIRED_FIELD_MISSING",
                "INVALID_EMAIL_ADDRESS",
                "STRING_TOO_LONG",
                "FIELD_CUSTOM_VALIDATION_EXCEPTION",
                "FIELD_FILTER_VALIDATION_EXCEPTION",
                "FIELD_INTEGRITY_EXCEPTION",
                "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
                "DUPLICATE_EXTERNAL_ID",
                "MALFORMED_ID",
                "MISSING_ARGUMENT",
                "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
                "INSUFFICIENT_ACCESS_OR_READONLY",
                "INSUFFICIENT_ACCESS",
                "CHILD_SHARE_FAILS_PARENT",
                "INACTIVE_OWNER_OR_USER",
                "NUMBER_OUTSIDE_VALID_RANGE",
                "INVALID_TYPE_ON_FIELD_IN_RECORD",
                "TEXT_DATA_OUTSIDE_SUPPORTED_CHARSET",
                "UNAVAILABLE_RECORDTYPE_EXCEPTION",
                "LIMIT_EXCEEDED",
                "JSON_PARSER_ERROR",
                "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
                "APEX_ERROR",
            ),
            Action.DEAD_LETTER,
        ),
    }
)

_REQUESTS: Mapping[str, Action] = MappingProxyType(
    {
        **dict.fromkeys(_RETRY_ROW, Action.RETRY_ROW),
        **dict.fromkeys(_HALVE, Action.HALVE),
        **dict.fromkeys(_STRIP_FIELD, Action.STRIP_FIELD),
        **dict.fromkeys(_PAUSING, Action.PAUSE),
        "REQUEST_LIMIT_EXCEEDED": Action.PAUSE,
        "INVALID_SESSION_ID": Action.REFRESH_TOKEN,
        "JSON_PARSER_ERROR": Action.BISECT,
        **dict.fromkeys(
            (
                "INVALID_TYPE",
                "NOT_FOUND",
                "INVALID_EXTERNAL_ID_FIELD_NAME",
                "INVALID_ENTITY_FOR_UPSERT",
                "MALFORMED_QUERY",
                "METHOD_NOT_ALLOWED",
                "UNSUPPORTED_API_VERSION",
                "LIMIT_EXCEEDED",  # more subrequests than a Composite takes: our packing is wrong
                "EXCEEDED_ID_LIMIT",  # likewise, rows
                "REQUIRED_FIELD_MISSING",  # likewise, no rows at all
            ),
            Action.STOP,
        ),
    }
)

_ROW_GRAVITY = tuple(Action)[: tuple(Action).index(Action.PAUSE) + 1]
_REQUEST_GRAVITY = (
    Action.RETRY_ROW,
    Action.HALVE,
    Action.STRIP_FIELD,
    Action.BISECT,
    Action.STOP,
    Action.PAUSE,
    Action.REFRESH_TOKEN,
)

# Apex wraps its own failures into one code, so that only the text tells them apart. These names are
# not translated.
_LOCKED = re.compile(r"UNABLE_TO_LOCK_ROW")
_GOVERNOR = re.compile(
    r"Too many (SOQL|DML|query|future)|CPU time limit exceeded|LimitException|heap size too large"
)
_PASSING = re.compile(
    r"retry your request|took too long to evaluate|no healthy upstream|upstream connect error"
    r"|down for maintenance|internal server error",
    re.IGNORECASE,
)
_QUOTED_NAME = re.compile(r"['‘\"“]([A-Za-z][A-Za-z0-9_]*)['’\"”]")
_LISTED_NAMES = re.compile(r": ([A-Za-z][A-Za-z0-9_]*(?:, [A-Za-z][A-Za-z0-9_]*)*)\.")
_HELD_BY = re.compile(r"\b(00[3Q][A-Za-z0-9]{12})(?:[A-Za-z0-9]{3})?\b")
_PREFIXES = {"003": "Contact", "00Q": "Lead"}


def parse_errors(body: object) -> tuple[RowError, ...]:
    """The errors of a row (`statusCode`) or of a request (`errorCode`, or OAuth's `error`); () if
    there are none.
    """
    if isinstance(body, Mapping):
        if isinstance(body.get("errors"), Sequence):
            body = body["errors"]
        elif "error" in body:
            return (RowError(_text(body["error"]), _text(body.get("error_description"))),)
        else:
            body = [body]
    if not isinstance(body, Sequence) or isinstance(body, str | bytes):
        return ()
    return tuple(
        _error(item) for item in body if isinstance(item, Mapping) and (item.keys() & _CODES)
    )


_CODES = {"statusCode", "errorCode"}


def _error(item: Mapping[str, Any]) -> RowError:
    code = _text(item.get("statusCode") or item.get("errorCode"))
    message = _text(item.get("message"))
    fields = item.get("fields")
    names = (
        tuple(_text(name) for name in fields)
        if isinstance(fields, Sequence) and not isinstance(fields, str)
        else ()
    )
    duplicates = _duplicates(item)
    if code == "DUPLICATE_VALUE" and not duplicates:
        held = _HELD_BY.search(message)
        duplicates = (DuplicateMatch(_PREFIXES[held[1][:3]], held[1]),) if held else ()
    return RowError(code, message, names, duplicates)


def _duplicates(item: Mapping[str, Any]) -> tuple[DuplicateMatch, ...]:
    # REST spells the key without its l (seen v50 to v56); other stacks spell it right
    result = item.get("duplicateResut") or item.get("duplicateResult")
    found: dict[str, DuplicateMatch] = {}
    if not isinstance(result, Mapping):
        return ()
    for match in _mappings(result.get("matchResults")):
        for entry in _mappings(match.get("matchRecords")):
            record = entry.get("record")
            if not isinstance(record, Mapping) or not isinstance(record.get("Id"), str):
                continue
            attributes = record.get("attributes")
            sobject = (
                attributes.get("type")
                if isinstance(attributes, Mapping)
                else match.get("entityType")
            )
            found.setdefault(
                record["Id"][:15],
                DuplicateMatch(
                    _text(sobject), record["Id"], _text(result.get("duplicateRule")), dict(record)
                ),
            )
    return tuple(found.values())


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def classify_row(errors: Sequence[RowError]) -> Verdict:
    """What a row's errors mean together: the gravest wins, so a lock beside a bad address is a bad
    address.

    No errors is DONE.
    """
    verdicts = [_classify_row_error(error) for error in errors]
    if not verdicts:
        return Verdict(Action.DONE, "done")
    gravest = max(verdicts, key=lambda verdict: _ROW_GRAVITY.index(verdict.action))
    if gravest.action is Action.STRIP_FIELD:
        return replace(
            gravest,
            fields=tuple(dict.fromkeys(name for verdict in verdicts for name in verdict.fields)),
        )
    return gravest


def _classify_row_error(error: RowError) -> Verdict:
    code = error.code
    action = _ROWS.get(code)
    if action is None:
        # a failed row without a code may have been anything; an unknown code is taken for the
        # data's fault
        return (
            Verdict(Action.DEAD_LETTER, "unknown_code")
            if code
            else Verdict(Action.RETRY_ROW, "unexplained")
        )
    reason = code.lower()
    if action is Action.PAUSE:
        return _pause(_pause_reason(error))
    if action is Action.STRIP_FIELD:
        names = _field_names(error)
        return Verdict(action, reason, names) if names else Verdict(Action.DEAD_LETTER, reason)
    if action is Action.ADOPT_DUPLICATE:
        adopt = len(error.duplicates) == 1
        return Verdict(action if adopt else Action.DEAD_LETTER, reason, duplicates=error.duplicates)
    if code == "FIELD_CUSTOM_VALIDATION_EXCEPTION" and error.fields == (VERSION_FIELD,):
        return Verdict(Action.STALE, "stale")
    if code in {"CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "APEX_ERROR"}:
        if _LOCKED.search(error.message):
            return Verdict(Action.RETRY_ROW, "unable_to_lock_row")
        if _GOVERNOR.search(error.message):
            return Verdict(Action.HALVE, "apex_limit")
    return Verdict(action, reason, duplicates=error.duplicates)


def _field_names(error: RowError) -> tuple[str, ...]:
    """The fields that the org refuses: named in `fields`, or only in the message (seen for
    INVALID_FIELD).
    """
    if error.fields:
        return error.fields
    if quoted := _QUOTED_NAME.search(error.message):
        return (quoted[1],)
    listed = _LISTED_NAMES.search(error.message)
    return tuple(listed[1].split(", ")) if listed else ()


def _pause_reason(error: RowError) -> str:
    if error.code == "REQUEST_LIMIT_EXCEEDED":
        if "TotalRequests" in error.message:
            return "daily_limit"
        return "concurrent_limit" if "Concurrent" in error.message else "request_limit"
    return _PAUSING.get(error.code, "login")


def _pause(reason: str) -> Verdict:
    return Verdict(Action.PAUSE, reason, retry_after=PAUSE_REASONS[reason])


def classify_request(status: int, body: object, *, inside_composite: bool = False) -> Verdict:
    """What a whole answer means. `body` is parsed JSON, or str/bytes where it was not JSON (an HTML
    page).
    """
    text = isinstance(body, str | bytes)
    if 200 <= status < 300:
        return _pause("not_json") if text else Verdict(Action.DONE, "done")
    errors = parse_errors(body)
    verdicts = [
        verdict
        for error in errors
        if (verdict := _classify_request_error(error, inside_composite=inside_composite))
    ]
    if verdicts:
        return max(verdicts, key=lambda verdict: _REQUEST_GRAVITY.index(verdict.action))
    return _classify_status(status, errors, text=text)


def _classify_request_error(error: RowError, *, inside_composite: bool) -> Verdict | None:
    reason = error.code.lower()
    if error.code == "UNKNOWN_EXCEPTION":
        # beside answers of other subrequests it is these rows that break the org's code; alone it
        # may be the org
        return Verdict(Action.HALVE, reason) if inside_composite else _pause("server_error")
    action = _REQUESTS.get(error.code)
    if action is None:
        return _pause("server_error") if _PASSING.search(error.message) else None
    if action is Action.PAUSE:
        return _pause(_pause_reason(error))
    if action is Action.STRIP_FIELD:
        names = _field_names(error)
        return Verdict(action, reason, names) if names else Verdict(Action.STOP, reason)
    return Verdict(action, reason)


def _classify_status(status: int, errors: Sequence[RowError], *, text: bool) -> Verdict:
    """By the HTTP status alone: the codes said nothing that we know."""
    match status:
        case 401:
            return Verdict(Action.REFRESH_TOKEN, "session")
        case 413:
            return Verdict(Action.HALVE, "too_large")
        case 420 | 429:
            return _pause("throttled")
        case 502 | 503 | 504:
            return _pause("maintenance")
        case 408:
            return _pause("network")
        case 412 | 414 | 428 | 431:
            return Verdict(Action.STOP, f"http_{status}")
    if status >= 500:
        return _pause("server_error")
    if 300 <= status < 400:
        return _pause("moved")
    if text:
        return _pause("not_json")
    if status == 400 and errors:
        return Verdict(Action.BISECT, "unknown_code")
    return Verdict(Action.STOP, "rejected")


def raise_for(
    status: int, body: object, *, inside_composite: bool = False, retry_after: float | None = None
) -> None:
    """Raise OrgUnavailable or RequestRejected for anything that is not a 2xx with JSON."""
    verdict = classify_request(status, body, inside_composite=inside_composite)
    match verdict.action:
        case Action.DONE:
            return
        case Action.PAUSE:
            raise OrgUnavailable(
                verdict.reason, retry_after or verdict.retry_after, f"HTTP {status}"
            )
        case (
            Action.RETRY_ROW
        ):  # passing, and there are no rows to hold back: row_results has already taken those
            raise OrgUnavailable(
                "server_error", retry_after or PAUSE_REASONS["server_error"], f"HTTP {status}"
            )
        case Action.REFRESH_TOKEN:
            raise OrgUnavailable("login", retry_after or PAUSE_REASONS["login"], f"HTTP {status}")
        case _:
            raise RequestRejected(status, parse_errors(body), verdict)


# what Salesforce asks for is honoured up to here; then it is asked again
MAX_RETRY_AFTER = 600.0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from either form of Retry-After; None if it is absent or unreadable. `headers` must
    ignore case, as httpx's do.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value), MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return (
        min(max((date - datetime.now(UTC)).total_seconds(), 0.0), MAX_RETRY_AFTER)
        if date.tzinfo
        else None
    )


# Refusals of a request that one odd value may cause as well as a wrong configuration: only what
# becomes of others can tell.
_ODD_REQUESTS = frozenset(
    {
        "malformed_query",
        "limit_exceeded",
        "exceeded_id_limit",
        "required_field_missing",
        "http_414",
        "http_431",
    }
)
_ODD_PAUSES = frozenset({"server_error", "not_json", "network", "maintenance"})


def possible_row_fault(error: Exception) -> str:
    """A word of a closed set for a failure that a single row may be the cause of, in every call
    that it is in.

    Empty for what is certainly the org's or ours: limits, logins, an org that is not prepared.
    """
    match error:
        case OrgUnavailable():
            return error.reason if error.reason in _ODD_PAUSES else ""
        case RequestRejected():
            verdict = error.verdict
            odd = verdict.action in {Action.HALVE, Action.BISECT} or verdict.reason in _ODD_REQUESTS
            return (
                "rejected" if odd or (verdict.reason == "rejected" and error.status == 400) else ""
            )
        case UnexpectedAnswer():
            return "unexpected_answer"
        case SalesforceError():
            return ""
    return "unforeseen"
