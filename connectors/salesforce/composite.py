"""Composite requests as plain data: subrequests, packing of rows into calls, and matching of answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from connectors.salesforce.errors import RowError, UnexpectedAnswer  # noqa: F401

Op = Literal["upsert", "update"]

KEY_FIELD = "Nylas_Contact_Id__c"

# not inherited from the outer request, so every subrequest that writes carries them
WRITE_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Sforce-Duplicate-Rule-Header": "allowSave=true; includeRecordDetails=true; runAsCurrentUser=false",
        "Sforce-Auto-Assign": "FALSE",
    }
)


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
    """The answer to one Subrequest; `body` is parsed JSON. Its status is not checked yet (row_results, query_page do)."""

    reference_id: str
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowResult:
    """A row's own fate. `created` is None where Salesforce does not say (updates, and some upserts)."""

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
class Row:
    """A record to write. `fields` without `attributes`; an upsert has the key field, an update has `Id`.

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
    rows: tuple[Row, ...]


Call = tuple[Collection, ...]


@dataclass(frozen=True, slots=True)
class PackLimits:
    collections: int = 5  # of a Composite: queries and collections share them
    rows: int = 200
    calls: int | None = None  # at most so many calls; what does not fit is left over


@dataclass(frozen=True, slots=True)
class Packed:
    """Calls of one group share an Account or a person and go one after the other; groups may be in flight side by side."""

    groups: tuple[tuple[Call, ...], ...]
    leftovers: tuple[Row, ...] = ()


def query_subrequest(soql: str, ref: str) -> Subrequest:
    """A query; the statement is URL-encoded whole, because a raw `+` would become a space."""
    raise NotImplementedError


def upsert_subrequest(
    sobject: str,
    key_field: str,
    rows: Sequence[Mapping[str, Any]],
    ref: str,
    headers: Mapping[str, str] = WRITE_HEADERS,
) -> Subrequest:
    """PATCH /composite/sobjects/{sobject}/{key_field}. ValueError for what Salesforce would refuse whole or twice."""
    raise NotImplementedError


def update_subrequest(
    sobject: str, rows: Sequence[Mapping[str, Any]], ref: str, headers: Mapping[str, str] = WRITE_HEADERS
) -> Subrequest:
    """PATCH /composite/sobjects by record `Id`."""
    raise NotImplementedError


def collection_subrequest(
    collection: Collection, ref: str, key_field: str = KEY_FIELD, headers: Mapping[str, str] = WRITE_HEADERS
) -> Subrequest:
    """The subrequest of a packed Collection."""
    raise NotImplementedError


def composite_body(subrequests: Sequence[Subrequest], api_version: str) -> dict[str, Any]:
    """The JSON of `POST /composite`: independent subrequests, in order. ValueError if Salesforce would refuse it."""
    raise NotImplementedError


def match_answers(subrequests: Sequence[Subrequest], answer: object) -> list[SubAnswer]:
    """The subanswers in the order of the subrequests, by referenceId. UnexpectedAnswer if any is missing or too many."""
    raise NotImplementedError


def row_results(answer: SubAnswer, rows: Sequence[object]) -> list[RowResult]:
    """Each row's fate, by position; only `success` is trusted (a rolled-back row may carry an id).

    Raises OrgUnavailable, RequestRejected (the whole collection was refused; see its verdict), UnexpectedAnswer.
    A collection refused whole for a row lock comes back as rows that each carry that error.
    """
    raise NotImplementedError


def query_page(answer: SubAnswer) -> QueryPage:
    """The records of a query subanswer. Raises OrgUnavailable, RequestRejected, UnexpectedAnswer."""
    raise NotImplementedError


def pack(rows: Sequence[Row], limits: PackLimits = PackLimits()) -> Packed:
    """Rows into Composite calls. Rows given first go first (put earlier leftovers in front)."""
    raise NotImplementedError
