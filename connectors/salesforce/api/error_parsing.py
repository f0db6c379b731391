"""Reads the errors out of the bodies of answers, and the wait out of their headers."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from connectors.salesforce.api.errors import DuplicateMatch, RowError

# a longer wait that Salesforce asks for is cut to this, so that an end of the limit is noticed
MAX_RETRY_AFTER_SECONDS = 600.0

_CODE_NAMES = {"statusCode", "errorCode"}
# The message of DUPLICATE_VALUE names the record that holds the value. The first three characters
# of an ID are the key prefix of its sObject.
_RECORD_ID = re.compile(r"\b(00[3Q][A-Za-z0-9]{12})(?:[A-Za-z0-9]{3})?\b")
_KEY_PREFIXES = {"003": "Contact", "00Q": "Lead"}


def parse_errors(body: object) -> tuple[RowError, ...]:
    """The errors in parsed JSON of a row's result or of a refused request; () if it holds none.

    A row names its code `statusCode`, a request `errorCode`, a login `error`.
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
        _error(item) for item in body if isinstance(item, Mapping) and (item.keys() & _CODE_NAMES)
    )


def _error(item: Mapping[str, Any]) -> RowError:
    code = _text(item.get("statusCode") or item.get("errorCode"))
    message = _text(item.get("message"))
    fields = item.get("fields")
    if isinstance(fields, Sequence) and not isinstance(fields, str):
        names = tuple(_text(name) for name in fields)
    else:
        names = ()
    duplicates = _duplicates(item)
    if code == "DUPLICATE_VALUE" and not duplicates:
        holder = _RECORD_ID.search(message)
        duplicates = (DuplicateMatch(_KEY_PREFIXES[holder[1][:3]], holder[1]),) if holder else ()
    return RowError(code, message, names, duplicates)


def _duplicates(item: Mapping[str, Any]) -> tuple[DuplicateMatch, ...]:
    # REST spells the key without its l (seen in v50 to v56); other stacks spell it right
    result = item.get("duplicateResut") or item.get("duplicateResult")
    found: dict[str, DuplicateMatch] = {}
    if not isinstance(result, Mapping):
        return ()
    rule = _text(result.get("duplicateRule"))
    for match in _mappings(result.get("matchResults")):
        for entry in _mappings(match.get("matchRecords")):
            record = entry.get("record")
            if not isinstance(record, Mapping) or not isinstance(record.get("Id"), str):
                continue
            attributes = record.get("attributes")
            if isinstance(attributes, Mapping):
                sobject = attributes.get("type")
            else:
                sobject = match.get("entityType")
            found.setdefault(
                record["Id"][:15],
                DuplicateMatch(_text(sobject), record["Id"], rule),
            )
    return tuple(found.values())


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After header in either form; None if it is absent or unreadable.

    `headers` must ignore case, as httpx's do.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value), MAX_RETRY_AFTER_SECONDS)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if not date.tzinfo:
        return None
    seconds = (date - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
