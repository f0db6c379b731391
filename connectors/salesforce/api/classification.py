"""Decides what an error of Salesforce means: for one row, for a request, or for the whole org.

`classify_row` and `classify_request` return a Verdict. `raise_for` turns a refused request into an
exception of `errors`. `possible_row_fault` decides whether one row may have caused an exception.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from connectors.salesforce.api.error_parsing import parse_errors
from connectors.salesforce.api.errors import (
    PAUSE_SECONDS,
    Action,
    OrgUnavailable,
    RequestRejected,
    RowError,
    SalesforceError,
    UnexpectedAnswer,
    Verdict,
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

# Codes that mean the same for a row and for a whole request. Sources: the StatusCode list of the
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

# Apex triggers and flows wrap their own failures into these codes.
_AUTOMATION = frozenset(
    {"CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "CANNOT_EXECUTE_FLOW_TRIGGER", "APEX_ERROR"}
)

# Reasons of a dead letter that say nothing of the row: when all rows of a batch have them, the org
# is at fault.
DOUBTFUL_REASONS = frozenset({"unknown_code", *map(str.lower, _AUTOMATION)})

_ROW_ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        **dict.fromkeys(_RETRY_ROW, Action.RETRY_ROW),
        **dict.fromkeys(_HALVE, Action.HALVE),
        **dict.fromkeys(_STRIP_FIELD, Action.STRIP_FIELD),
        "UNKNOWN_EXCEPTION": Action.RETRY_ROW,
        # an approval in progress: a person may end it within minutes
        "ENTITY_IS_LOCKED": Action.RETRY_ROW,
        # the record was deleted or merged since it was queried; the next lookup finds another
        "ENTITY_IS_DELETED": Action.RETRY_ROW,
        "NOT_FOUND": Action.RETRY_ROW,  # likewise
        # likewise purged; or a record that the row refers to was, such as its Account
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
                "INVALID_OPERATION",
                "OP_WITH_INVALID_USER_TYPE_EXCEPTION",
                "TRANSFER_REQUIRES_READ",
                "NUMBER_OUTSIDE_VALID_RANGE",
                "INVALID_TYPE_ON_FIELD_IN_RECORD",
                "TEXT_DATA_OUTSIDE_SUPPORTED_CHARSET",
                "UNAVAILABLE_RECORDTYPE_EXCEPTION",
                "LIMIT_EXCEEDED",
                "JSON_PARSER_ERROR",
            ),
            Action.DEAD_LETTER,
        ),
        # An exception in a trigger, or in an element that a flow runs for all rows at once, fails
        # every row of the collection for the sake of one.
        **dict.fromkeys(_AUTOMATION, Action.ISOLATE),
    }
)

ROW_REASONS = frozenset(
    {"unknown_code", "unexplained", "unable_to_lock_row", "entity_is_locked", "apex_limit"}
    | {code.lower() for code, action in _ROW_ACTIONS.items() if action is not Action.PAUSE}
)
"""Every reason with which a row can fail by itself."""

_REQUEST_ACTIONS: Mapping[str, Action] = MappingProxyType(
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
                "LIMIT_EXCEEDED",  # more subrequests than a Composite takes: the packing is wrong
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

# Codes whose message may quote a lock or a limit that the org's automation met, besides the codes
# that are not in the tables. A trigger's `addError` gives FIELD_CUSTOM_VALIDATION_EXCEPTION.
_QUOTING = _AUTOMATION | {
    "FIELD_CUSTOM_VALIDATION_EXCEPTION",
    "LIMIT_EXCEEDED",
    "UNKNOWN_EXCEPTION",
}
# Codes and exceptions in such messages. The sentences around them are in the user's language, these
# are not, except for the English sentences that older releases give without a code.
_LOCKED = re.compile(r"UNABLE_TO_LOCK_ROW|unable to obtain exclusive access")
_IN_APPROVAL = re.compile(r"\bENTITY_IS_LOCKED\b")
# What fewer rows in one transaction may avoid. Sources: the Apex guide's "Execution Governors and
# Limits", the flow limits of the help, and messages in public issue trackers.
_GOVERNOR_LIMIT = re.compile(
    r"Too many (SOQL|SOSL|DML|query|queueable|future|callouts|Email)"
    r"|CPU time limit exceeded|CPU_TIME_LIMIT|LimitException|heap size too large"
    r"|\bLIMIT_EXCEEDED\b|\bREQUEST_RUNNING_TOO_LONG\b|\bQUERY_TIMEOUT\b|\bTXN_SECURITY_METERING"
    r"|number of executed elements|Maximum stack depth|\bTOO_MANY_APEX_REQUESTS\b"
    # several rows of one collection make a flow update the same record, such as their Account
    r"|duplicate updates in one batch",
    re.IGNORECASE,
)
# what differs between two messages of one fault: IDs of records, of the error and of the interview
_NUMBERED_WORD = re.compile(r"[-\w]*\d[-\w]*")
# a statement or a string in it that is longer than SOQL takes
_TOO_LONG = re.compile(r"can ?not be longer|too long", re.IGNORECASE)
# messages of faults that pass, under codes that are not in the tables
_TEMPORARY = re.compile(
    r"retry your request|took too long to evaluate|no healthy upstream|upstream connect error"
    r"|down for maintenance|internal server error",
    re.IGNORECASE,
)
_QUOTED_NAME = re.compile(r"['‘\"“]([A-Za-z][A-Za-z0-9_]*)['’\"”]")
_LISTED_NAMES = re.compile(r": ([A-Za-z][A-Za-z0-9_]*(?:, [A-Za-z][A-Za-z0-9_]*)*)\.")


def classify_row(errors: Sequence[RowError], version_field: str) -> Verdict:
    """What a row's errors mean together; DONE for no errors.

    The gravest error decides: a lock beside an invalid address is an invalid address. A validation
    rule that shows its error at `version_field` means that the org holds a newer version (STALE).
    """
    verdicts = [_classify_row_error(error, version_field) for error in errors]
    if not verdicts:
        return Verdict(Action.DONE, "done")
    gravest = max(verdicts, key=lambda verdict: _ROW_GRAVITY.index(verdict.action))
    if gravest.action is Action.STRIP_FIELD:
        names = dict.fromkeys(name for verdict in verdicts for name in verdict.fields)
        return replace(gravest, fields=tuple(names))
    return gravest


def _classify_row_error(error: RowError, version_field: str) -> Verdict:
    code = error.code
    if code == "FIELD_CUSTOM_VALIDATION_EXCEPTION" and error.fields == (version_field,):
        return Verdict(Action.STALE, "stale")
    action = _ROW_ACTIONS.get(code)
    if (action is None or code in _QUOTING) and (quoted := _quoted_fault(error.message)):
        return quoted
    if action is None:
        # a row that failed without a code may have failed for anything; an unknown code is taken
        # for a fault of the row's data
        if code:
            return Verdict(Action.DEAD_LETTER, "unknown_code")
        return Verdict(Action.RETRY_ROW, "unexplained")
    reason = code.lower()
    if action is Action.PAUSE:
        return _pause(_pause_reason(error))
    if action is Action.STRIP_FIELD:
        names = _field_names(error)
        return Verdict(action, reason, names) if names else Verdict(Action.DEAD_LETTER, reason)
    if action is Action.ADOPT_DUPLICATE:
        adopt = len(error.duplicates) == 1
        return Verdict(action if adopt else Action.DEAD_LETTER, reason, duplicates=error.duplicates)
    return Verdict(action, reason, duplicates=error.duplicates)


def _quoted_fault(message: str) -> Verdict | None:
    """The lock or the limit that a message quotes, whatever its code; None if it quotes neither."""
    if _LOCKED.search(message):
        return Verdict(Action.RETRY_ROW, "unable_to_lock_row")
    if _IN_APPROVAL.search(message):
        return Verdict(Action.RETRY_ROW, "entity_is_locked")
    if _GOVERNOR_LIMIT.search(message):
        return Verdict(Action.HALVE, "apex_limit")
    return None


def fault_of(errors: Sequence[RowError]) -> str:
    """What rows have in common that failed alike: their codes and messages without IDs.

    Only to be compared for equality: it may hold personal data.
    """
    return "; ".join(f"{error.code}: {_NUMBERED_WORD.sub('#', error.message)}" for error in errors)


def _field_names(error: RowError) -> tuple[str, ...]:
    """The fields that the org refuses.

    They are in `fields`, or only in the message (seen for INVALID_FIELD).
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
    return Verdict(Action.PAUSE, reason, retry_after=PAUSE_SECONDS[reason])


def classify_request(status: int, body: object, *, inside_composite: bool = False) -> Verdict:
    """What the answer to a whole request means.

    `body` is parsed JSON, or str or bytes where it was not JSON (an HTML page).
    `inside_composite`: the answer belongs to a subrequest, and its Composite succeeded.
    """
    is_text = isinstance(body, str | bytes)
    if 200 <= status < 300:
        return _pause("not_json") if is_text else Verdict(Action.DONE, "done")
    errors = parse_errors(body)
    verdicts = [
        verdict
        for error in errors
        if (verdict := _classify_request_error(error, inside_composite=inside_composite))
    ]
    if verdicts:
        return max(verdicts, key=lambda verdict: _REQUEST_GRAVITY.index(verdict.action))
    return _classify_status(status, has_errors=bool(errors), is_text=is_text)


def _classify_request_error(error: RowError, *, inside_composite: bool) -> Verdict | None:
    """None for a code that is not in the table: then the HTTP status decides."""
    reason = error.code.lower()
    if error.code == "UNKNOWN_EXCEPTION":
        # Other subrequests were answered: these rows make the org's own code fail. Without a
        # Composite around it, the org itself may be at fault.
        return Verdict(Action.HALVE, reason) if inside_composite else _pause("server_error")
    action = _REQUEST_ACTIONS.get(error.code)
    if error.code == "MALFORMED_QUERY" and _TOO_LONG.search(error.message):
        return Verdict(Action.HALVE, "too_long")
    if action is None:
        if quoted := _quoted_fault(error.message):
            return quoted
        return _pause("server_error") if _TEMPORARY.search(error.message) else None
    if action is Action.PAUSE:
        return _pause(_pause_reason(error))
    if action is Action.STRIP_FIELD:
        names = _field_names(error)
        return Verdict(action, reason, names) if names else Verdict(Action.STOP, reason)
    return Verdict(action, reason)


_STATUS_VERDICTS: Mapping[int, Verdict] = MappingProxyType(
    {
        401: Verdict(Action.REFRESH_TOKEN, "session"),
        408: _pause("network"),
        413: Verdict(Action.HALVE, "too_large"),
        414: Verdict(Action.HALVE, "too_long"),
        420: _pause("throttled"),
        429: _pause("throttled"),
        502: _pause("maintenance"),
        503: _pause("maintenance"),
        504: _pause("maintenance"),
        431: Verdict(Action.HALVE, "too_long"),
        **{status: Verdict(Action.STOP, f"http_{status}") for status in (412, 428)},
    }
)


def _classify_status(status: int, *, has_errors: bool, is_text: bool) -> Verdict:
    """The verdict by the HTTP status alone, for an answer without a known code."""
    if verdict := _STATUS_VERDICTS.get(status):
        return verdict
    if status >= 500:
        return _pause("server_error")
    if 300 <= status < 400:
        return _pause("moved")
    if is_text:
        return _pause("not_json")
    if status == 400 and has_errors:
        return Verdict(Action.BISECT, "unknown_code")
    return Verdict(Action.STOP, "rejected")


def raise_for(
    status: int, body: object, *, inside_composite: bool = False, retry_after: float | None = None
) -> None:
    """Raises OrgUnavailable or RequestRejected for everything but a 2xx with JSON.

    `retry_after` is the wait that the answer's headers ask for, in seconds.
    """
    verdict = classify_request(status, body, inside_composite=inside_composite)
    detail = f"HTTP {status}"
    match verdict.action:
        case Action.DONE:
            return
        case Action.PAUSE:
            raise OrgUnavailable(verdict.reason, retry_after or verdict.retry_after, detail)
        case Action.RETRY_ROW:
            # The fault passes, and this answer has no rows to retry: `row_results` has taken those
            # that have.
            seconds = retry_after or PAUSE_SECONDS["server_error"]
            raise OrgUnavailable("server_error", seconds, detail)
        case Action.REFRESH_TOKEN:
            raise OrgUnavailable("login", retry_after or PAUSE_SECONDS["login"], detail)
        case _:
            errors = parse_errors(body)
            remedy = "" if inside_composite else _remedy(status, errors)
            raise RequestRejected(status, errors, verdict, remedy)


_ANOTHER_VERSION = (
    "set SALESFORCE_API_VERSION to one that the org lists at /services/data, or remove the setting"
)


def _remedy(status: int, errors: Sequence[RowError]) -> str:
    """What to do about a request that was refused whole; "" where nothing is known.

    Salesforce answers 410 to a version of its REST API that it no longer has, and 404 NOT_FOUND to
    one that it does not have yet, as to every other path that it does not know.
    """
    codes = {error.code for error in errors}
    if status == 410 or "UNSUPPORTED_API_VERSION" in codes:
        return f"the org no longer has this version of the REST API; {_ANOTHER_VERSION}"
    if status == 404 and "NOT_FOUND" in codes:
        return (
            "the org does not know the path of the request, most often because it does not have "
            f"this version of the REST API: {_ANOTHER_VERSION}. If it has the version, the user "
            "lacks the object: contactstream doctor names it"
        )
    return ""


# Reasons of refused requests that one unusual value causes as well as a wrong configuration. Only
# the results of other rows can tell which it was.
_AMBIGUOUS_REJECTIONS = frozenset(
    {
        "malformed_query",
        "limit_exceeded",
        "exceeded_id_limit",
        "required_field_missing",
    }
)
_AMBIGUOUS_PAUSES = frozenset({"server_error", "not_json", "network", "maintenance"})

LONE_ROW_REASONS = frozenset({*_AMBIGUOUS_PAUSES, "rejected", "unexpected_answer", "unforeseen"})
"""Every reason that `possible_row_fault` returns."""


def possible_row_fault(error: Exception) -> str:
    """A word from a closed set if a single row may have caused this failure, otherwise "".

    Such a row makes every call fail that it is in. "" is for what is certainly the fault of the org
    or of this program: limits, logins, an org without our fields.
    """
    match error:
        case OrgUnavailable():
            return error.reason if error.reason in _AMBIGUOUS_PAUSES else ""
        case RequestRejected():
            return "rejected" if _one_row_may_cause(error) else ""
        case UnexpectedAnswer():
            return "unexpected_answer"
        case SalesforceError():
            return ""
        case _:
            return "unforeseen"


def _one_row_may_cause(rejected: RequestRejected) -> bool:
    verdict = rejected.verdict
    return (
        verdict.action in {Action.HALVE, Action.BISECT}
        or verdict.reason in _AMBIGUOUS_REJECTIONS
        or (verdict.reason == "rejected" and rejected.status == 400)
    )
