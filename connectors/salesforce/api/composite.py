"""Composite requests as plain data: subrequests, packing of rows into calls, and matching of
answers.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import quote

from connectors.salesforce.api.errors import (
    Action,
    RowError,
    UnexpectedAnswer,
    classify_request,
    parse_errors,
    raise_for,
)

Op = Literal["upsert", "update"]

KEY_FIELD = "Nylas_Contact_Id__c"

# REST API guide, Composite and sObject Collections; queries and collections share the places
MAX_SUBREQUESTS = 25
MAX_COLLECTIONS = 5
MAX_ROWS = 200
MAX_STATEMENT = 100_000

_REFERENCE = re.compile(r"\w+", re.ASCII)


def write_headers(*, allow_save: bool = True) -> Mapping[str, str]:
    """The headers of every subrequest that writes; a Composite does not hand its own down.

    `allow_save` saves past duplicate rules that only alert. Details of the matches are asked for,
    so that a Block rule's refusal names the record. Without Auto-Assign FALSE every write would run
    the Lead assignment rules again.
    """
    return MappingProxyType(
        {
            "Sforce-Duplicate-Rule-Header": f"allowSave={str(allow_save).lower()}; includeRecordDetails=true",
            "Sforce-Auto-Assign": "FALSE",
        }
    )


WRITE_HEADERS = write_headers()


@dataclass(frozen=True, slots=True)
class Subrequest:
    """One part of a Composite. `url` is relative to `/services/data/vNN.N` (`/query?q=...`)."""

    method: Literal["GET", "PATCH", "POST"]
    url: str
    reference_id: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubAnswer:
    """The answer to one Subrequest; `body` is parsed JSON. Its status is not checked yet
    (row_results, query_page do).
    """

    reference_id: str
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowResult:
    """A row's own fate. `created` is None where Salesforce does not say (updates, and some
    upserts).
    """

    id: str | None
    success: bool
    created: bool | None
    errors: tuple[RowError, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryPage:
    records: tuple[Mapping[str, Any], ...]
    total: int
    next_url: str | None  # nextRecordsUrl, absolute path; None on the last page


@dataclass(frozen=True, slots=True)
class WriteRow:
    """A record to write. `fields` without `attributes`; an upsert has the key field, an update has
    `Id`.

    `people`: tokens of every address (and key) of the person, compared for equality only.
    `tag`: whatever the caller wants back beside the row.
    """

    sobject: str
    op: Op
    fields: Mapping[str, Any]
    account_id: str | None = None
    people: frozenset[str] = frozenset()
    tag: Any = None


@dataclass(frozen=True, slots=True)
class Collection:
    """Up to 200 rows of one sObject type and one operation, ordered by AccountId: one subrequest."""

    sobject: str
    op: Op
    rows: tuple[WriteRow, ...]


Call = tuple[Collection, ...]


def query_subrequest(soql: str, ref: str) -> Subrequest:
    """A query; the statement is URL-encoded whole, because a raw `+` would become a space."""
    if len(soql) > MAX_STATEMENT:
        raise ValueError(f"a statement of {len(soql)} characters, Salesforce takes {MAX_STATEMENT}")
    return Subrequest("GET", f"/query?q={quote(soql, safe='', errors='replace')}", ref)


def upsert_subrequest(
    sobject: str,
    key_field: str,
    rows: Sequence[Mapping[str, Any]],
    ref: str,
    headers: Mapping[str, str] = WRITE_HEADERS,
) -> Subrequest:
    """PATCH /composite/sobjects/{sobject}/{key_field}. ValueError for what Salesforce would refuse
    whole or twice.
    """
    _check_rows(rows, key_field)
    if any("Id" in row for row in rows):
        raise ValueError("an upsert by key takes no Id")
    return Subrequest(
        "PATCH",
        f"/composite/sobjects/{sobject}/{key_field}",
        ref,
        _collection_body(sobject, rows),
        headers,
    )


def update_subrequest(
    sobject: str,
    rows: Sequence[Mapping[str, Any]],
    ref: str,
    headers: Mapping[str, str] = WRITE_HEADERS,
) -> Subrequest:
    """PATCH /composite/sobjects by record `Id`. ValueError as for upserts."""
    _check_rows(rows, "Id")
    return Subrequest("PATCH", "/composite/sobjects", ref, _collection_body(sobject, rows), headers)


def _check_rows(rows: Sequence[Mapping[str, Any]], identity: str) -> None:
    if not 1 <= len(rows) <= MAX_ROWS:
        raise ValueError(f"a collection has 1 to {MAX_ROWS} rows, not {len(rows)}")
    values = [row.get(identity) for row in rows]
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise ValueError(
            f"every row needs its {identity}: a row without would be refused, or created without a key"
        )
    if len(set(values)) < len(values):
        raise ValueError(
            f"the same {identity} twice in one request: Salesforce refuses every row of them"
        )


def _collection_body(sobject: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    attributes = {"type": sobject}
    return {"allOrNone": False, "records": [{"attributes": attributes, **row} for row in rows]}


def collection_subrequest(
    collection: Collection, ref: str, headers: Mapping[str, str] = WRITE_HEADERS
) -> Subrequest:
    """The subrequest of a packed Collection; upserts go by KEY_FIELD."""
    rows = [row.fields for row in collection.rows]
    if collection.op == "update":
        return update_subrequest(collection.sobject, rows, ref, headers)
    return upsert_subrequest(collection.sobject, KEY_FIELD, rows, ref, headers)


def composite_body(subrequests: Sequence[Subrequest], api_version: str) -> dict[str, Any]:
    """The JSON of `POST /composite`: independent subrequests, in order. ValueError if Salesforce
    would refuse it.
    """
    if not 1 <= len(subrequests) <= MAX_SUBREQUESTS:
        raise ValueError(
            f"a Composite has 1 to {MAX_SUBREQUESTS} subrequests, not {len(subrequests)}"
        )
    if sum(map(_is_bulky, subrequests)) > MAX_COLLECTIONS:
        raise ValueError(f"a Composite has at most {MAX_COLLECTIONS} queries and collections")
    references = [subrequest.reference_id for subrequest in subrequests]
    if len(set(references)) < len(references) or not all(map(_REFERENCE.fullmatch, references)):
        raise ValueError("reference IDs are unique and hold letters, digits and underscores only")
    return {
        # independent rows and requests: with a true outside, rolled-back rows would still say
        # success
        "allOrNone": False,
        "collateSubrequests": False,
        "compositeRequest": [_subrequest(subrequest, api_version) for subrequest in subrequests],
    }


def _is_bulky(subrequest: Subrequest) -> bool:
    return subrequest.url.startswith(("/query", "/composite/sobjects"))


def _subrequest(subrequest: Subrequest, api_version: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "method": subrequest.method,
        "url": f"/services/data/v{api_version}{subrequest.url}",
        "referenceId": subrequest.reference_id,
    }
    if subrequest.headers:
        made["httpHeaders"] = dict(subrequest.headers)
    if subrequest.body is not None:
        made["body"] = subrequest.body
    return made


def match_answers(subrequests: Sequence[Subrequest], answer: object) -> list[SubAnswer]:
    """The subanswers in the order of the subrequests, by referenceId. UnexpectedAnswer if any is
    missing or too many.
    """
    parts = answer.get("compositeResponse") if isinstance(answer, Mapping) else None
    if not isinstance(parts, list):
        raise UnexpectedAnswer("a Composite answer without compositeResponse")
    found: dict[str, SubAnswer] = {}
    for part in parts:
        reference = part.get("referenceId") if isinstance(part, Mapping) else None
        status = part.get("httpStatusCode") if isinstance(part, Mapping) else None
        if not isinstance(reference, str) or type(status) is not int:
            codes = (
                ", ".join(error.code for error in parse_errors(part.get("body")))
                if isinstance(part, Mapping)
                else ""
            )
            raise UnexpectedAnswer(
                f"a part of a Composite answer belongs to no subrequest ({codes or 'no code'})"
            )
        if reference in found:
            raise UnexpectedAnswer("two parts of a Composite answer for one subrequest")
        headers = part.get("httpHeaders")
        found[reference] = SubAnswer(
            reference, status, part.get("body"), headers if isinstance(headers, dict) else {}
        )
    wanted = [subrequest.reference_id for subrequest in subrequests]
    if found.keys() != set(wanted):
        raise UnexpectedAnswer(
            f"{len(found)} parts in a Composite answer to {len(wanted)} subrequests, or other ones"
        )
    return [found[reference] for reference in wanted]


def row_results(answer: SubAnswer, rows: Sequence[object]) -> list[RowResult]:
    """Each row's fate, by position; only `success` is trusted (a rolled-back row may carry an id).

    Raises OrgUnavailable, RequestRejected (the whole collection was refused; see its verdict),
    UnexpectedAnswer. A collection refused whole for a passing fault of its rows (a lock) comes back
    as rows that each carry that error.
    """
    if (
        classify_request(answer.status, answer.body, inside_composite=True).action
        is Action.RETRY_ROW
    ):
        errors = parse_errors(answer.body)
        return [RowResult(None, False, None, errors) for _ in rows]
    raise_for(answer.status, answer.body, inside_composite=True)
    if not isinstance(answer.body, list) or len(answer.body) != len(rows):
        count = len(answer.body) if isinstance(answer.body, list) else "no"
        raise UnexpectedAnswer(f"{count} results for {len(rows)} rows")
    return [_row_result(result) for result in answer.body]


def _row_result(result: object) -> RowResult:
    success = result.get("success") if isinstance(result, Mapping) else None
    if not isinstance(result, Mapping) or not isinstance(success, bool):
        raise UnexpectedAnswer("a row's result without success")
    if not success:
        return RowResult(
            None, False, None, parse_errors(result) or (RowError("", "failed without an error"),)
        )
    record_id, created = result.get("id"), result.get("created")
    if not isinstance(record_id, str):
        raise UnexpectedAnswer("a row's success without an id")
    return RowResult(record_id, True, created if isinstance(created, bool) else None)


def query_page(answer: SubAnswer) -> QueryPage:
    """The records of a query subanswer. Raises OrgUnavailable, RequestRejected, UnexpectedAnswer."""
    raise_for(answer.status, answer.body, inside_composite=True)
    return parse_query(answer.body)


def parse_query(body: object) -> QueryPage:
    """A page of records. UnexpectedAnswer if it is none, or if it is not the last and names no
    next.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("records"), list):
        raise UnexpectedAnswer("a query's answer without records")
    done, next_url = body.get("done"), body.get("nextRecordsUrl")
    if not isinstance(done, bool) or (not done and not isinstance(next_url, str)):
        raise UnexpectedAnswer("a query's answer that is neither the last page nor names the next")
    total = body.get("totalSize")
    return QueryPage(
        tuple(body["records"]), total if isinstance(total, int) else -1, None if done else next_url
    )
