"""Composite requests as plain data: builds their subrequests, matches and reads their answers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

from connectors.salesforce.api.classification import classify_request, raise_for
from connectors.salesforce.api.error_parsing import parse_errors
from connectors.salesforce.api.errors import Action, RowError, UnexpectedAnswer
from connectors.salesforce.api.percent_encoding import percent_encoded

# Limits of the REST API guide, Composite and sObject Collections.
MAX_SUBREQUESTS = 25
MAX_COLLECTIONS = 5  # collections and queries of a Composite together
MAX_ROWS = 200  # of a collection
MAX_CHUNKS = 10  # of a collection of several sObjects: runs of rows of the same one
MAX_STATEMENT = 100_000  # characters of a SOQL statement

_REFERENCE_ID = re.compile(r"\w+", re.ASCII)


def write_headers(*, allow_save: bool = True) -> Mapping[str, str]:
    """The headers of every subrequest that writes; a Composite does not pass on its own.

    `allow_save` saves past duplicate rules that only alert. The refusal of a Block rule names the
    record by its ID; includeRecordDetails would add all of its fields [REST guide: Duplicate Rule
    Header]. Without Auto-Assign FALSE every write would run
    the Lead assignment rules again.
    """
    save = str(allow_save).lower()
    return MappingProxyType(
        {
            "Sforce-Duplicate-Rule-Header": f"allowSave={save}",
            "Sforce-Auto-Assign": "FALSE",
        }
    )


WRITE_HEADERS = write_headers()


@dataclass(frozen=True, slots=True)
class Subrequest:
    """One part of a Composite. `url` is relative to `/services/data/vNN.N` (`/query?q=...`)."""

    method: Literal["GET", "PATCH", "POST", "DELETE"]
    url: str
    reference_id: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubAnswer:
    """The answer to one Subrequest; `body` is parsed JSON.

    Its status is not checked yet: `row_results`, `query_page` and `describe_answer` do that.
    """

    reference_id: str
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowResult:
    """The result of one row of a collection.

    `created` is None where Salesforce does not say (updates, and some upserts).
    """

    id: str | None
    success: bool
    created: bool | None
    errors: tuple[RowError, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryPage:
    """One page of a query's result."""

    records: tuple[Mapping[str, Any], ...]
    total: int  # of the whole query; -1 where Salesforce does not say
    next_url: str | None  # nextRecordsUrl, absolute path; None on the last page


def query_subrequest(soql: str, reference: str, *, deleted: bool = False) -> Subrequest:
    """A query; the statement is URL-encoded whole, because a raw `+` would become a space.

    `deleted`: also of records in the recycle bin, those that lost a merge among them. Raises
    ValueError for a statement that is too long.
    """
    if len(soql) > MAX_STATEMENT:
        raise ValueError(
            f"the SOQL statement has {len(soql)} characters, Salesforce takes {MAX_STATEMENT}"
        )
    resource = "queryAll" if deleted else "query"
    return Subrequest("GET", f"/{resource}?q={percent_encoded(soql)}", reference)


def upsert_subrequest(
    sobject: str,
    key_field: str,
    rows: Sequence[Mapping[str, Any]],
    reference: str,
    headers: Mapping[str, str] = WRITE_HEADERS,
) -> Subrequest:
    """A collection of upserts by an external ID: PATCH /composite/sobjects/{sobject}/{key_field}.

    Raises ValueError for rows that Salesforce would refuse as a whole.
    """
    _check_rows(rows, key_field)
    if any("Id" in row for row in rows):
        raise ValueError(f"a row of an upsert by {key_field} may not carry an Id")
    return Subrequest(
        "PATCH",
        f"/composite/sobjects/{sobject}/{key_field}",
        reference,
        _collection_body(sobject, rows),
        headers,
    )


def update_subrequest(
    records: Sequence[tuple[str, Mapping[str, Any]]],
    reference: str,
    headers: Mapping[str, str] = WRITE_HEADERS,
) -> Subrequest:
    """A collection of updates by record `Id`: PATCH /composite/sobjects.

    `records` are sObjects with their fields. Several sObjects may come in one collection, each as
    one run of rows: Salesforce takes at most MAX_CHUNKS runs.

    Raises ValueError for rows that Salesforce would refuse as a whole.
    """
    _check_rows([row for _, row in records], "Id")
    runs = 1 + sum(one != other for (one, _), (other, _) in pairwise(records))
    if runs > MAX_CHUNKS:
        raise ValueError(f"a collection has at most {MAX_CHUNKS} runs of one sObject, not {runs}")
    body = {
        "allOrNone": False,
        "records": [{"attributes": {"type": sobject}, **row} for sobject, row in records],
    }
    return Subrequest("PATCH", "/composite/sobjects", reference, body, headers)


def create_subrequest(
    sobject: str,
    key_field: str,
    rows: Sequence[Mapping[str, Any]],
    reference: str,
    headers: Mapping[str, str] = WRITE_HEADERS,
) -> Subrequest:
    """A collection of creations: POST /composite/sobjects.

    A row whose value of the unique `key_field` a record holds already is refused (DUPLICATE_VALUE).
    Raises ValueError for rows that Salesforce would refuse as a whole.
    """
    _check_rows(rows, key_field)
    if any("Id" in row for row in rows):
        raise ValueError("a row that creates a record may not carry an Id")
    body = _collection_body(sobject, rows)
    return Subrequest("POST", "/composite/sobjects", reference, body, headers)


def _check_rows(rows: Sequence[Mapping[str, Any]], id_field: str) -> None:
    if not 1 <= len(rows) <= MAX_ROWS:
        raise ValueError(f"a collection has 1 to {MAX_ROWS} rows, not {len(rows)}")
    values = [row.get(id_field) for row in rows]
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise ValueError(
            f"a row has no {id_field}: Salesforce would refuse it, or create a record without a key"
        )
    if len(set(values)) < len(values):
        raise ValueError(
            f"two rows of a collection have the same {id_field}: Salesforce would refuse them all"
        )


def _collection_body(sobject: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    attributes = {"type": sobject}
    return {"allOrNone": False, "records": [{"attributes": attributes, **row} for row in rows]}


def composite_body(subrequests: Sequence[Subrequest], api_version: str) -> dict[str, Any]:
    """The JSON of `POST /composite`: independent subrequests, in order.

    Raises ValueError for a Composite that Salesforce would refuse.
    """
    if not 1 <= len(subrequests) <= MAX_SUBREQUESTS:
        raise ValueError(
            f"a Composite has 1 to {MAX_SUBREQUESTS} subrequests, not {len(subrequests)}"
        )
    if sum(map(_is_bulky, subrequests)) > MAX_COLLECTIONS:
        raise ValueError(f"a Composite has at most {MAX_COLLECTIONS} queries and collections")
    references = [subrequest.reference_id for subrequest in subrequests]
    if len(set(references)) < len(references) or not all(map(_REFERENCE_ID.fullmatch, references)):
        raise ValueError("reference IDs are unique and hold letters, digits and underscores only")
    return {
        # Rows and subrequests are independent. With true here, the rows of a collection that was
        # rolled back would still carry success.
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
    """The answers in the order of the subrequests, matched by referenceId.

    Raises UnexpectedAnswer unless there is exactly one for each subrequest.
    """
    parts = answer.get("compositeResponse") if isinstance(answer, Mapping) else None
    if not isinstance(parts, list):
        raise UnexpectedAnswer("a Composite's answer has no compositeResponse")
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
                f"a part of a Composite's answer names no subrequest ({codes or 'no code'})"
            )
        if reference in found:
            raise UnexpectedAnswer("a Composite's answer has two parts for one subrequest")
        headers = part.get("httpHeaders")
        found[reference] = SubAnswer(
            reference, status, part.get("body"), headers if isinstance(headers, dict) else {}
        )
    sent = [subrequest.reference_id for subrequest in subrequests]
    if found.keys() != set(sent):
        raise UnexpectedAnswer(
            f"the {len(found)} parts of a Composite's answer do not match "
            f"its {len(sent)} subrequests"
        )
    return [found[reference] for reference in sent]


def row_results(answer: SubAnswer, rows: Sequence[object]) -> list[RowResult]:
    """The result of each row of a collection, by position.

    Only `success` is trusted, because a row that was rolled back may carry an id. A collection that
    was refused whole for a temporary fault of its rows (a lock) becomes rows that each carry that
    error. Raises OrgUnavailable, UnexpectedAnswer, or RequestRejected if the whole collection was
    refused (see its verdict).
    """
    verdict = classify_request(answer.status, answer.body, inside_composite=True)
    if verdict.action is Action.RETRY_ROW:
        errors = parse_errors(answer.body)
        return [RowResult(None, False, None, errors) for _ in rows]
    raise_for(answer.status, answer.body, inside_composite=True)
    if not isinstance(answer.body, list) or len(answer.body) != len(rows):
        count = len(answer.body) if isinstance(answer.body, list) else "no"
        raise UnexpectedAnswer(f"Salesforce answered {count} results to {len(rows)} rows")
    return [_row_result(result) for result in answer.body]


def _row_result(result: object) -> RowResult:
    success = result.get("success") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(success, bool):
        raise UnexpectedAnswer("a row's result has no success")
    if not success:
        errors = parse_errors(result) or (RowError("", "failed without an error"),)
        return RowResult(None, False, None, errors)
    record_id, created = result.get("id"), result.get("created")
    if not isinstance(record_id, str):
        raise UnexpectedAnswer("the result of a row that succeeded has no id")
    return RowResult(record_id, True, created if isinstance(created, bool) else None)


def query_page(answer: SubAnswer) -> QueryPage:
    """The page in the answer to a query's subrequest.

    Raises OrgUnavailable, RequestRejected, UnexpectedAnswer.
    """
    raise_for(answer.status, answer.body, inside_composite=True)
    return parse_query(answer.body)


def parse_query(body: object) -> QueryPage:
    """The page in a query's answer.

    Raises UnexpectedAnswer if the body is no page, or neither the last one nor names the next.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("records"), list):
        raise UnexpectedAnswer("a query's answer has no records")
    done, next_url = body.get("done"), body.get("nextRecordsUrl")
    if not isinstance(done, bool) or (not done and not isinstance(next_url, str)):
        raise UnexpectedAnswer("a query's answer is not the last page and names no next one")
    total = body.get("totalSize")
    return QueryPage(
        tuple(body["records"]), total if isinstance(total, int) else -1, None if done else next_url
    )
