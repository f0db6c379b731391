"""The REST resources under /services/data, each a function of a parsed request.

A resource is called directly or inside of a Composite.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote, unquote, unquote_plus

from .bulk import Jobs
from .field_definitions import check_filter
from .schema import normal_id
from .soql import Query, SoqlError, compile_query
from .store import (
    CallRefused,
    Draft,
    DuplicateRule,
    Options,
    Org,
    Row,
    Scope,
    Table,
    duplicate_value,
    failed,
    row_error,
)
from .tooling import Tooling

MAX_ROWS: Final = 200
MAX_SUBREQUESTS: Final = 25
MAX_COLLECTIONS_AND_QUERIES: Final = 5
MAX_CHUNKS: Final = 10
OLDEST_VERSION: Final = 31
NEWEST_VERSION: Final = 67
_OPEN_CURSORS: Final = 100
_VERSION: Final = re.compile(r"v(\d{2})\.0")
_REFERENCE_ID: Final = re.compile(r"[A-Za-z0-9_]+")
_REFERENCE: Final = re.compile(
    r"@\{([A-Za-z0-9_]+)((?:\[\d+\])?(?:\.[A-Za-z0-9_]+(?:\[\d+\])?)*)\}"
)
_INHERITED_HEADERS: Final = frozenset(("accept", "authorization", "content-type"))
_TRUE: Final = frozenset(("true", "TRUE", "True"))
_NOT_FOUND: Final = "The requested resource does not exist"
_ROLLED_BACK: Final = (
    "Record rolled back because not all records were valid and the request was "
    "using AllOrNone header"
)
_HALTED: Final = (
    "The transaction was rolled back since another operation in the same transaction failed."
)
_QUERIES: Final = frozenset(("query", "query_more", "tooling_query"))
_CARRIED: Final = (
    "Nylas_Contact_Id__c",
    "Nylas_Version__c",
    "Nylas_Field_Hashes__c",
    "Nylas_Email_2__c",
    "Nylas_Email_3__c",
)
_LEAD_MAPPING: Final[dict[str, Any]] = {
    "attributes": {"type": "LeadConvertSettings"},
    "Metadata": {
        "allowOwnerChange": False,
        "objectMapping": [
            {
                "inputObject": "Lead",
                "mappingFields": [{"inputField": name, "outputField": name} for name in _CARRIED],
                "outputObject": "Contact",
            }
        ],
    },
}
_COLLECTIONS: Final = frozenset(("collections_create", "collections_update", "collections_upsert"))
_WRITES: Final = _COLLECTIONS | {"record_create", "record_update", "record_upsert"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request or subrequest.

    `path` holds the decoded segments after /services/data/vNN.0. `headers` are lower-case.
    """

    method: str
    version: str
    path: tuple[str, ...]
    query: str
    headers: Mapping[str, str]
    body: Any
    refers: bool = (
        True  # whether the body may hold an @{reference}; looked for once, in the raw bytes
    )

    def parameter(self, name: str) -> str | None:
        """A query parameter, decoded as a form: a raw + is a space."""
        for pair in self.query.split("&"):
            key, _, value = pair.partition("=")
            if key == name:
                return unquote_plus(value)
        return None


@dataclass(slots=True)
class Answer:
    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    row_failed: bool = False
    csv: bytes | None = None  # in place of `body`


@dataclass(slots=True)
class Refusal:
    """What the org refused: of which kind of request, with which words; `row` in its collection."""

    kind: str
    code: str
    message: str
    reference_id: str | None = None
    row: int | None = None


@dataclass(slots=True)
class Services:
    """What the resources work on."""

    org: Org
    cursors: OrderedDict[str, tuple[list[Row], Query]] = field(default_factory=OrderedDict)
    opened_cursors: int = 0
    jobs: Jobs = field(default_factory=Jobs)
    refusals: list[Refusal] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    subrequests: Counter[str] = field(default_factory=Counter)
    validation_rules: list[dict[str, Any]] = field(default_factory=list)
    tooling: Tooling = field(default_factory=Tooling)
    limits: Callable[[], dict[str, Any]] = dict

    def refuse(
        self,
        kind: str,
        code: str,
        message: str,
        reference_id: str | None = None,
        row: int | None = None,
    ) -> None:
        """Note a refusal; the first 10,000 in full."""
        self.refused[code] += 1
        if len(self.refusals) < 10_000:
            self.refusals.append(Refusal(kind, code, message, reference_id, row))


def parse_url(method: str, url: str, headers: Mapping[str, str], body: Any) -> Request:
    """Take a URL under /services/data/vNN.0 apart.

    Raises CallRefused where no resource can be there.
    """
    path, _, query = url.partition("#")[0].partition("?")
    segments = [unquote(part) for part in path.strip("/").split("/")]
    version = (
        _VERSION.fullmatch(segments[2])
        if len(segments) > 2 and segments[:2] == ["services", "data"]
        else None
    )
    if version is None or int(version[1]) > NEWEST_VERSION:
        raise CallRefused(404, "NOT_FOUND", _NOT_FOUND)
    if int(version[1]) < OLDEST_VERSION:
        raise CallRefused(410, "GONE", "API Version is no longer supported")
    return Request(method, segments[2][1:], tuple(segments[3:]), query, headers, body)


def kind_of(request: Request) -> str:
    """The kind under which a request is counted; "unknown" is what no resource serves."""
    method = request.method
    match request.path:
        case ("query",) | ("queryAll",) if method == "GET":
            return "query"
        case ("query", _) | ("queryAll", _) if method == "GET":
            return "query_more"
        case ("tooling", "query") if method == "GET":
            return "tooling_query"
        case ("ui-api", "duplicates", _) if method == "GET":
            return "duplicate_rules"
        case ("limits",) if method == "GET":
            return "limits"
        case ("jobs", "query") if method == "POST":
            return "bulk_create"
        case ("jobs", "query", _) if method in ("GET", "PATCH"):
            return "bulk_state" if method == "GET" else "bulk_abort"
        case ("jobs", "query", _, "results") if method == "GET":
            return "bulk_results"
        case ("sobjects",) if method == "GET":
            return "describe"
        case ("sobjects", _, "describe") if method == "GET":
            return "describe"
        case ("sobjects", _) if method == "POST":
            return "record_create"
        case ("sobjects", _, _) | ("sobjects", _, _, _) if method == "GET":
            return "record_get"
        case ("sobjects", _, _) if method == "PATCH":
            return "record_update"
        case ("sobjects", _, _, _) if method == "PATCH":
            return "record_upsert"
        case ("sobjects", "PermissionSetAssignment", _) if method == "DELETE":
            return "assignment_delete"
        case ("composite",) if method == "POST":
            return "composite"
        case ("composite", "sobjects") if method in ("POST", "PATCH"):
            return "collections_create" if method == "POST" else "collections_update"
        case ("composite", "sobjects", _, _) if method == "PATCH":
            return "collections_upsert"
        case () if method == "GET":
            return "resources"
    return "unknown"


def count_as(request: Request) -> str:
    """The kind of call: a Composite is one call, named for what it holds."""
    kind = kind_of(request)
    if kind != "composite":
        return kind
    parts = request.body.get("compositeRequest") if isinstance(request.body, dict) else None
    held = set()
    for part in parts if isinstance(parts, list) else ():
        if (
            isinstance(part, dict)
            and isinstance(part.get("url"), str)
            and isinstance(part.get("method"), str)
        ):
            try:
                held.add(kind_of(parse_url(part["method"], part["url"], {}, None)))
            except CallRefused:
                held.add("unknown")
    writes, queries = bool(held & _WRITES), bool(held & _QUERIES)
    if writes:
        return "composite_mixed" if held - _WRITES else "composite_write"
    if "describe" in held:
        return "composite_describe"
    return "composite_query" if queries else "composite_other"


def answer(
    services: Services, request: Request, scope: Scope, reference_id: str | None = None
) -> Answer:
    """Serve a request; what is refused is noted and becomes the documented error body."""
    kind = kind_of(request)
    try:
        if kind == "unknown":
            raise _no_resource(request)
        return _RESOURCES[kind](services, request, scope)
    except SoqlError as error:
        services.refuse(kind, error.code, error.message, reference_id)
        return Answer(400, [{"message": error.message, "errorCode": error.code}])
    except CallRefused as refused:
        services.refuse(kind, refused.code, refused.message, reference_id)
        return Answer(refused.status, refused.body)


def _no_resource(request: Request) -> CallRefused:
    known = ("query", "queryAll", "limits", "sobjects", "composite", "tooling", "ui-api", "jobs")
    if (
        request.path
        and request.path[0] in known
        and request.method in ("DELETE", "PUT", "POST", "PATCH", "GET")
    ):
        others = ("GET", "POST", "PATCH")
        if any(
            kind_of(replace(request, method=method)) != "unknown"
            for method in others
            if method != request.method
        ):
            return CallRefused(
                405, "METHOD_NOT_ALLOWED", f"HTTP Method '{request.method}' not allowed."
            )
    return CallRefused(404, "NOT_FOUND", _NOT_FOUND)


def _table(services: Services, name: str) -> Table:
    table = services.org.tables.get(name)
    if table is None:
        raise CallRefused(404, "NOT_FOUND", _NOT_FOUND)
    return table


def _resources(_services: Services, request: Request, _scope: Scope) -> Answer:
    base = f"/services/data/v{request.version}"
    return Answer(
        200,
        {
            name: f"{base}/{name}"
            for name in ("composite", "limits", "query", "queryAll", "sobjects")
        },
    )


def _limits(services: Services, _request: Request, _scope: Scope) -> Answer:
    return Answer(200, services.limits())


def _describe(services: Services, request: Request, _scope: Scope) -> Answer:
    if request.path == ("sobjects",):
        globally = [table.sobject.describe() for table in services.org.tables.values()]
        listed = [
            {key: value for key, value in item.items() if not isinstance(value, list)}
            for item in globally
        ]
        return Answer(200, {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": listed})
    return Answer(200, _table(services, request.path[1]).sobject.describe())


# "Up to 200 record IDs can be queried" [Object Reference: UserRecordAccess]. One more is the user.
_MAX_ACCESS_IDS: Final = 201


def _query(services: Services, request: Request, scope: Scope) -> Answer:
    statement = request.parameter("q")
    if not statement:
        raise CallRefused(400, "MALFORMED_QUERY", "A query string has to be specified")
    _check_size(services, statement)
    if " FROM UserRecordAccess " in statement:
        if statement.count("'") > 2 * _MAX_ACCESS_IDS:
            raise CallRefused(400, "MALFORMED_QUERY", "at most 200 record IDs can be queried")
        services.org.refresh_record_access(scope.user)
    query = compile_query(services.org, statement, deleted=request.path[0] == "queryAll")
    check_filter(query.table.sobject.name, statement)
    rows = query.rows()
    if query.count:
        return Answer(200, {"totalSize": len(rows), "done": True, "records": []})
    return _page(services, request, query, rows, 0, None)


_TOO_COMPLICATED: Final = (
    "Query is either selecting too many fields or the filter conditions are too complicated."
)


def _check_size(services: Services, statement: str) -> None:
    """Refuse a statement that is larger than this org, or a proxy before it, is set to take."""
    settings = services.org.settings
    if len(statement) > settings.statement_limit:
        message = f"SOQL statements can not be longer than {settings.statement_limit} characters."
        raise CallRefused(400, "MALFORMED_QUERY", message)
    uri_limit, value_limit = settings.query_uri_limit, settings.query_value_limit
    if uri_limit is not None and len(quote(statement, safe="")) > uri_limit:
        raise CallRefused(settings.query_uri_status, "URI_TOO_LONG", "URI Too Long")
    if value_limit is not None and statement.count("'") > 2 * value_limit:
        raise CallRefused(400, "QUERY_TOO_COMPLICATED", _TOO_COMPLICATED)


def _query_more(services: Services, request: Request, _scope: Scope) -> Answer:
    locator, _, start = request.path[1].rpartition("-")
    if locator not in services.cursors or not start.isdecimal():
        raise CallRefused(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
    rows, query = services.cursors[locator]
    return _page(services, request, query, rows, int(start), locator)


def _page(
    services: Services,
    request: Request,
    query: Query,
    rows: list[Row],
    start: int,
    locator: str | None,
) -> Answer:
    size = services.org.settings.page_size
    asked = re.search(r"batchSize=(\d+)", request.headers.get("sforce-query-options", ""))
    if asked is not None:
        size = min(size, max(MAX_ROWS, int(asked[1])))
    end = start + size
    body: dict[str, Any] = {"totalSize": len(rows), "done": end >= len(rows)}
    if not body["done"]:
        if locator is None:
            services.opened_cursors += 1
            locator = f"01g5g0000{services.opened_cursors:09d}"
            services.cursors[locator] = (rows, query)
            if len(services.cursors) > _OPEN_CURSORS:
                services.cursors.popitem(last=False)
        body["nextRecordsUrl"] = f"/services/data/v{request.version}/query/{locator}-{end}"
    body["records"] = [query.render(row, request.version) for row in rows[start:end]]
    return Answer(200, body)


def _bulk_create(services: Services, request: Request, scope: Scope) -> Answer:
    return Answer(200, services.jobs.create(services.org, request.body, request.version, scope))


def _bulk_state(services: Services, request: Request, _scope: Scope) -> Answer:
    return Answer(200, services.jobs.info(request.path[2]))


def _bulk_abort(services: Services, request: Request, _scope: Scope) -> Answer:
    if not isinstance(request.body, dict) or request.body.get("state") != "Aborted":
        raise CallRefused(400, "INVALIDJOBSTATE", "A query job can only be aborted")
    return Answer(200, services.jobs.abort(request.path[2]))


def _bulk_results(services: Services, request: Request, _scope: Scope) -> Answer:
    content, headers = services.jobs.results(
        request.path[2],
        request.version,
        request.parameter("locator"),
        request.parameter("maxRecords"),
    )
    return Answer(200, None, headers, csv=content)


def _tooling_query(services: Services, request: Request, _scope: Scope) -> Answer:
    """The part of the Tooling API that is simulated.

    These are the validation rules, filtered by the name of the object only, the lead field mapping,
    and the objects of `tooling`.
    """
    statement = request.parameter("q") or ""
    found = re.search(r"\bFROM\s+(\w+)", statement, re.IGNORECASE)
    if found is None:
        raise CallRefused(400, "MALFORMED_QUERY", "unexpected token: '<EOF>'")
    rows: list[dict[str, Any]]
    match found[1]:
        case "ValidationRule":
            rows = [
                rule
                for rule in services.validation_rules
                if "'" not in statement
                or f"'{rule['EntityDefinition']['QualifiedApiName']}'" in statement
            ]
            if not services.org.settings.version_rule:
                rows = []
        case "LeadConvertSettings":
            rows = [_LEAD_MAPPING] if services.org.settings.lead_mapping else []
        case _:
            rows = services.tooling.query(statement)
    return Answer(
        200,
        {
            "size": len(rows),
            "totalSize": len(rows),
            "done": True,
            "queryLocator": None,
            "records": rows,
        },
    )


def _duplicate_rules(services: Services, request: Request, _scope: Scope) -> Answer:
    """What the User Interface API says of an object's active duplicate rules."""
    name = _table(services, request.path[2]).sobject.name
    rules = [rule for rule in services.org.duplicate_rules if rule.sobject == name]
    body = {
        "apiName": name,
        "dedupeEnabled": bool(rules),
        "dedupeFields": sorted({matched for rule in rules for matched in rule.match_on}),
        "duplicateRules": [
            {
                "actionOnInsert": _rule_action(rule, "create"),
                "actionOnUpdate": _rule_action(rule, "update"),
                "active": True,
                "duplicateRuleFilters": [],
                "matchRules": [],
                "name": rule.name,
                "operationsOnInsert": ["Alert"],
                "operationsOnUpdate": ["Alert"],
            }
            for rule in rules
        ],
        "predupeEnabled": bool(rules),
    }
    return Answer(200, body)


def _rule_action(rule: DuplicateRule, operation: str) -> str:
    return "Block" if rule.block and operation in rule.on else "Allow"


def _options(headers: Mapping[str, str], version: str) -> Options:
    flags = {}
    if float(version) >= 52:
        for part in headers.get("sforce-duplicate-rule-header", "").split(";"):
            name, _, value = part.partition("=")
            flags[name.strip()] = value.strip() in _TRUE
    return Options(
        flags.get("allowSave", False),
        flags.get("includeRecordDetails", False),
        headers.get("sforce-auto-assign", "TRUE").strip().upper() != "FALSE",
    )


def _records(request: Request) -> tuple[list[dict[str, Any]], bool]:
    body = request.body
    if not isinstance(body, dict) or not isinstance(body.get("records", []), list):
        raise CallRefused(
            400, "JSON_PARSER_ERROR", "Unexpected parameter encountered during deserialization"
        )
    unknown = body.keys() - {"allOrNone", "records"}
    if unknown:
        name = min(unknown)
        raise CallRefused(
            400, "JSON_PARSER_ERROR", f'Unrecognized field "{name}" at [line:1, column:1]'
        )
    if type(body.get("allOrNone", False)) is not bool:
        raise CallRefused(
            400,
            "JSON_PARSER_ERROR",
            "Cannot deserialize instance of boolean from VALUE_STRING value",
        )
    records = body.get("records") or []
    if not records:
        raise CallRefused(400, "REQUIRED_FIELD_MISSING", "At least 1 record is required")
    if len(records) > MAX_ROWS:
        message = "record limit reached. cannot submit more than 200 records into this call"
        raise CallRefused(400, "EXCEEDED_ID_LIMIT", message)
    for record in records:
        kind = record.get("attributes") if isinstance(record, dict) else None
        if not isinstance(kind, dict) or not isinstance(kind.get("type"), str):
            message = "The record must have an attributes object with the type of the sObject"
            raise CallRefused(400, "INVALID_INPUT", message)
    return records, body.get("allOrNone", False)


Save = Callable[[int], tuple[dict[str, Any], bool]]
"""Saves the row at a position: its result, and whether it failed."""


def _collection(
    services: Services,
    kind: str,
    records: list[dict[str, Any]],
    all_or_none: bool,
    save: Save,
    names: list[str],
    scope: Scope,
) -> Answer:
    """Run the rows of a collection in their order; with allOrNone one failure takes all back."""
    org, count = services.org, len(records)
    limit = org.settings.governor_rows
    fault = scope.collection_fault and scope.collection_fault(names[0], records)
    savepoint = org.savepoint()
    results: list[dict[str, Any]] = []
    bad = 0
    for position in range(count):
        if limit is not None and count > limit:
            result, wrong = failed([_governor(org, names[position])]), True
        elif fault is not None:
            result, wrong = failed([fault]), True
        else:
            result, wrong = save(position)
        results.append(result)
        if wrong:
            bad += 1
            for error in result["errors"]:
                services.refuse(kind, error["statusCode"], error["message"], row=position)
    org.rows["failed"] += bad
    if bad and all_or_none:
        org.rollback(savepoint)
        rolled_back = row_error("ALL_OR_NONE_OPERATION_ROLLED_BACK", _ROLLED_BACK)
        results = [
            {"id": result["id"], "success": False, "errors": [rolled_back]}
            if result["success"]
            else result
            for result in results
        ]
    return Answer(200, results, row_failed=bad > 0)


def _governor(org: Org, name: str) -> dict[str, Any]:
    reason = {"soql": "Too many SOQL queries: 101", "cpu": "Apex CPU time limit exceeded"}[
        org.settings.governor_error
    ]
    return row_error(
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        f"{name}Trigger: execution of AfterUpdate\n\ncaused by: System.LimitException: {reason}\n\n"
        f"Trigger.{name}Trigger: line 1, column 1",
    )


def _keep_spelling(
    services: Services, errors: list[dict[str, Any]], default: str
) -> list[dict[str, Any]]:
    """Spell the key of a duplicate rule's result as asked for."""
    key = services.org.settings.duplicate_result_key or default
    return [
        {key if name == "duplicateResult" else name: value for name, value in error.items()}
        if "duplicateResult" in error
        else error
        for error in errors
    ]


def _collections_upsert(services: Services, request: Request, scope: Scope) -> Answer:
    org = services.org
    if float(request.version) < 46:
        raise CallRefused(404, "NOT_FOUND", _NOT_FOUND)
    table = _table(services, request.path[2])
    name = table.sobject.name
    if request.path[3].lower() == "id":
        raise CallRefused(
            400,
            "INVALID_INPUT",
            "The simulator upserts by external ID only; update records by their Id",
        )
    key = _key_field(table, request.path[3])
    records, all_or_none = _records(request)
    for record in records:
        if record["attributes"]["type"] != name:
            message = (
                f"All records must be of the type of the request URI: {name}, not "
                f"{record['attributes']['type']}"
            )
            raise CallRefused(400, "INVALID_INPUT", message)
        if "Id" in record or "id" in record:
            raise CallRefused(
                400, "INVALID_FIELD", "The Id field should not be specified in the sobject data."
            )
    drafts = [org.draft(table, record, creates=None) for record in records]
    fold = key.fold
    values = [draft.values.get(key.name) for draft in drafts]
    seen = Counter(fold(value) for value in values if value is not None)
    options = _options(request.headers, request.version)

    def save(position: int) -> tuple[dict[str, Any], bool]:
        draft, value = drafts[position], values[position]
        if draft.errors:
            return failed(draft.errors), True
        if value is None:
            return failed([row_error("MISSING_ARGUMENT", f"{key.name} not specified")]), True
        if seen[fold(value)] > 1:
            return failed(
                [row_error("DUPLICATE_VALUE", f"Duplicate external id specified: {value}")]
            ), True
        row, created, errors = _upsert(org, table, key.name, value, draft, options, scope)
        if row is None:
            return failed(_keep_spelling(services, errors, "duplicateResult")), True
        return {"id": row["Id"], "success": True, "errors": [], "created": created}, False

    names = [name] * len(records)
    return _collection(services, "collections_upsert", records, all_or_none, save, names, scope)


def _key_field(table: Table, name: str) -> Any:
    item = table.sobject.find(name)
    if item is None:
        message = f"Provided external ID field does not exist or is not accessible: {name}"
        raise CallRefused(404, "NOT_FOUND", message)
    if not (item.external_id or item.id_lookup):
        message = (
            f"Field name provided, {name} is not an External ID or indexed field for "
            f"{table.sobject.name}"
        )
        raise CallRefused(400, "INVALID_EXTERNAL_ID_FIELD_NAME", message)
    return item


def _upsert(
    org: Org, table: Table, key: str, value: str, draft: Draft, options: Options, scope: Scope
) -> tuple[Row | None, bool, list[dict[str, Any]]]:
    """Update the one visible record that holds the key, or create one.

    Returns the row, whether it was created, and the errors.
    """
    item = table.sobject.fields[key]
    holders = [holder for holder in table.holders(item, value) if holder not in org.hidden]
    if len(holders) > 1:
        ids = ", ".join(holder[:15] for holder in holders)
        message = f"{item.label}: more than one record found for external id field: [{ids}]"
        return None, False, [row_error("DUPLICATE_EXTERNAL_ID", message)]
    existing = table.rows[holders[0]] if holders else None
    if existing is not None:
        if (table.sobject.name, key, item.fold(value)) in scope.new_keys and existing[
            "Id"
        ] not in scope.created:
            return None, False, [duplicate_value(key, existing["Id"])]
        draft = _without_create_only(table, draft)
        if draft.errors:
            return None, False, draft.errors
    row, errors = org.save(table, draft, existing, options, scope)
    return row, existing is None, errors


def _without_create_only(table: Table, draft: Draft) -> Draft:
    """Refuse fields that can only be set at creation, in a row that is an update."""
    fields = table.sobject.fields
    wrong = [name for name in draft.values if not fields[name].updateable]
    if not wrong:
        return draft
    message = (
        f"Unable to create/update fields: {', '.join(wrong)}. Please check the security settings "
        "of this field and "
        "verify that it is read/write for your profile or permission set."
    )
    return Draft(draft.values, [row_error("INVALID_FIELD_FOR_INSERT_UPDATE", message, wrong)])


def _mixed(
    services: Services, request: Request, *, creates: bool
) -> tuple[list[Table], list[Draft], bool]:
    records, all_or_none = _records(request)
    tables = []
    for record in records:
        kind = record["attributes"]["type"]
        table = services.org.tables.get(kind)
        if table is None:
            raise CallRefused(400, "INVALID_TYPE", f"sObject type '{kind}' is not supported.")
        tables.append(table)
    chunks = 1 + sum(1 for left, right in pairwise(tables) if left is not right)
    if chunks > MAX_CHUNKS:
        message = (
            "Cannot have more than 10 chunks in a single operation. Please rearrange the "
            "data to reduce chunking."
        )
        raise CallRefused(400, "INVALID_INPUT", message)
    drafts = [
        services.org.draft(table, record, creates=creates)
        for table, record in zip(tables, records, strict=True)
    ]
    return tables, drafts, all_or_none


def _collections_update(services: Services, request: Request, scope: Scope) -> Answer:
    org = services.org
    tables, drafts, all_or_none = _mixed(services, request, creates=False)
    records = request.body["records"]
    given = [record.get("Id", record.get("id")) for record in records]
    ids = [
        normal_id(value, table.sobject.prefix) if isinstance(value, str) else None
        for value, table in zip(given, tables, strict=True)
    ]
    seen = Counter(value for value in ids if value is not None)
    options = _options(request.headers, request.version)

    def save(position: int) -> tuple[dict[str, Any], bool]:
        table, value, key = tables[position], given[position], ids[position]
        if value is None or value == "":
            return failed(
                [row_error("MISSING_ARGUMENT", "Id not specified in an update call")]
            ), True
        if key is None:
            message = f"{table.sobject.name} ID: id value of incorrect type: {value}"
            return failed([row_error("MALFORMED_ID", message, ["Id"])]), True
        if seen[key] > 1:
            return failed(
                [row_error("DUPLICATE_VALUE", f"duplicate id specified: {key[:15]}")]
            ), True
        row, errors = _update(org, table, key, drafts[position], options, scope)
        if row is None:
            return failed(_keep_spelling(services, errors, "duplicateResult")), True
        return {"id": row["Id"], "success": True, "errors": []}, False

    names = [table.sobject.name for table in tables]
    return _collection(services, "collections_update", records, all_or_none, save, names, scope)


def _update(
    org: Org, table: Table, key: str, draft: Draft, options: Options, scope: Scope
) -> tuple[Row | None, list[dict[str, Any]]]:
    existing = table.rows.get(key)
    if existing is None:
        if key in table.bin:
            return None, [row_error("ENTITY_IS_DELETED", "entity is deleted")]
        return None, [row_error("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")]
    if key in org.hidden:
        message = f"insufficient access rights on cross-reference id: {key[:15]}"
        return None, [row_error("INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", message)]
    return org.save(table, draft, existing, options, scope)


def _collections_create(services: Services, request: Request, scope: Scope) -> Answer:
    org = services.org
    tables, drafts, all_or_none = _mixed(services, request, creates=True)
    if any("Id" in record or "id" in record for record in request.body["records"]):
        raise CallRefused(
            400, "INVALID_FIELD", "The Id field should not be specified in the sobject data."
        )
    options = _options(request.headers, request.version)

    def save(position: int) -> tuple[dict[str, Any], bool]:
        row, errors = org.save(tables[position], drafts[position], None, options, scope)
        if row is None:
            return failed(_keep_spelling(services, errors, "duplicateResult")), True
        return {"id": row["Id"], "success": True, "errors": []}, False

    names = [table.sobject.name for table in tables]
    records = request.body["records"]
    return _collection(services, "collections_create", records, all_or_none, save, names, scope)


def _single(services: Services, kind: str, errors: list[dict[str, Any]]) -> Answer:
    """A row's errors in the form of a single record's answer."""
    services.org.rows["failed"] += 1
    body = []
    for error in _keep_spelling(services, errors, "duplicateResut"):
        services.refuse(kind, error["statusCode"], error["message"])
        single = {
            ("errorCode" if name == "statusCode" else name): value for name, value in error.items()
        }
        if single["errorCode"] == "DUPLICATES_DETECTED":
            del single["fields"]
        body.append(single)
    status = (
        404 if body[0]["errorCode"] in ("ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY") else 400
    )
    return Answer(status, body, row_failed=True)


def _record_body(request: Request) -> dict[str, Any]:
    if not isinstance(request.body, dict):
        raise CallRefused(
            400, "JSON_PARSER_ERROR", "Unexpected parameter encountered during deserialization"
        )
    return request.body


def _record_create(services: Services, request: Request, scope: Scope) -> Answer:
    org = services.org
    table = _table(services, request.path[1])
    draft = org.draft(table, _record_body(request), creates=True)
    row, errors = org.save(table, draft, None, _options(request.headers, request.version), scope)
    if row is None:
        return _single(services, "record_create", errors)
    return _created(request, table, row, {"id": row["Id"], "success": True, "errors": []})


def _created(request: Request, table: Table, row: Row, body: dict[str, Any]) -> Answer:
    location = f"/services/data/v{request.version}/sobjects/{table.sobject.name}/{row['Id']}"
    return Answer(201, body, {"Location": location})


def _assignment_delete(services: Services, request: Request, _scope: Scope) -> Answer:
    """The only record that the product may delete: what it assigned to its own user."""
    table = services.org.tables["PermissionSetAssignment"]
    if not services.org.settings.assigns_permission_sets:
        message = "insufficient access rights on object id"
        raise CallRefused(400, "INSUFFICIENT_ACCESS_OR_READONLY", message)
    if normal_id(request.path[2], table.sobject.prefix) not in table.rows:
        raise CallRefused(404, "NOT_FOUND", _NOT_FOUND)
    table.remove(normal_id(request.path[2]) or "")
    return Answer(204, None)


def _record_update(services: Services, request: Request, scope: Scope) -> Answer:
    org = services.org
    table = _table(services, request.path[1])
    key = normal_id(request.path[2], table.sobject.prefix)
    if key is None:
        raise CallRefused(404, "NOT_FOUND", _NOT_FOUND)
    body = _record_body(request)
    if "Id" in body:
        raise CallRefused(
            400, "INVALID_FIELD", "The Id field should not be specified in the sobject data."
        )
    draft = org.draft(table, body, creates=False)
    row, errors = _update(org, table, key, draft, _options(request.headers, request.version), scope)
    return Answer(204, None) if row is not None else _single(services, "record_update", errors)


def _record_upsert(services: Services, request: Request, scope: Scope) -> Answer:
    org = services.org
    table = _table(services, request.path[1])
    key = _key_field(table, request.path[2])
    value = request.path[3]
    body = _record_body(request)
    for name in ("Id", key.name):
        if name in body:
            message = f"The {name} field should not be specified in the sobject data."
            raise CallRefused(400, "INVALID_FIELD", message)
    holders = [holder for holder in table.holders(key, value) if holder not in org.hidden]
    if len(holders) > 1:
        base = f"/services/data/v{request.version}/sobjects/{table.sobject.name}/"
        services.refuse("record_upsert", "MULTIPLE_CHOICES", "more than one record holds the key")
        return Answer(300, [base + holder for holder in holders])
    draft = org.draft(table, {**body, key.name: value}, creates=None)
    if draft.errors:
        return _single(services, "record_upsert", draft.errors)
    options = _options(request.headers, request.version)
    row, created, errors = _upsert(org, table, key.name, value, draft, options, scope)
    if row is None:
        return _single(services, "record_upsert", errors)
    result = {"id": row["Id"], "success": True, "errors": [], "created": created}
    return _created(request, table, row, result) if created else Answer(200, result)


def _record_get(services: Services, request: Request, _scope: Scope) -> Answer:
    org = services.org
    table = _table(services, request.path[1])
    if len(request.path) == 4:
        key = _key_field(table, request.path[2])
        ids = list(table.holders(key, request.path[3]))
    else:
        normal = normal_id(request.path[2], table.sobject.prefix)
        ids = [normal] if normal in table.rows else []
    ids = [found for found in ids if found not in org.hidden]
    if not ids:
        raise CallRefused(404, "NOT_FOUND", _NOT_FOUND)
    row = table.rows[ids[0]]
    url = f"/services/data/v{request.version}/sobjects/{table.sobject.name}/{row['Id']}"
    visible = {
        name: row.get(name) for name, item in table.sobject.fields.items() if not item.hidden
    }
    return Answer(200, {"attributes": {"type": table.sobject.name, "url": url}, **visible})


def _composite(services: Services, request: Request, scope: Scope) -> Answer:
    parts, all_or_none = _parts(request)
    if len(parts) > MAX_SUBREQUESTS:
        return _too_many(
            services, f"The request can’t contain more than {MAX_SUBREQUESTS} operations."
        )
    subrequests = [_subrequest(part) for part in parts]
    kinds = [
        kind_of(subrequest) if isinstance(subrequest, Request) else "unknown"
        for subrequest, _, _ in subrequests
    ]
    if (
        sum(kind in _COLLECTIONS or kind in _QUERIES for kind in kinds)
        > MAX_COLLECTIONS_AND_QUERIES
    ):
        message = (
            f"The request can’t contain more than {MAX_COLLECTIONS_AND_QUERIES} sObject "
            "Collections or query operations."
        )
        return _too_many(services, message)
    services.subrequests.update(kinds)
    savepoint = services.org.savepoint()
    answers: list[Answer] = []
    results: dict[str, Answer] = {}
    for (subrequest, reference_id, part), kind in zip(subrequests, kinds, strict=True):
        if isinstance(subrequest, CallRefused):
            services.refuse(kind, subrequest.code, subrequest.message, reference_id)
            given = Answer(subrequest.status, subrequest.body)
        elif kind == "composite":
            services.refuse(kind, "NOT_FOUND", "a Composite inside of a Composite", reference_id)
            given = Answer(404, [{"errorCode": "NOT_FOUND", "message": _NOT_FOUND}])
        else:
            try:
                given = answer(
                    services,
                    _resolved(subrequest, part, results, request.refers),
                    scope,
                    reference_id,
                )
            except CallRefused as refused:
                services.refuse(kind, refused.code, refused.message, reference_id)
                given = Answer(refused.status, refused.body)
        answers.append(given)
        results[reference_id] = given
    if all_or_none and any(given.status >= 300 or given.row_failed for given in answers):
        services.org.rollback(savepoint)
        answers = [
            _taken_back(given, kind, part)
            for given, kind, (_, _, part) in zip(answers, kinds, subrequests, strict=True)
        ]
    return Answer(
        200,
        {
            "compositeResponse": [
                {
                    "body": given.body,
                    "httpHeaders": given.headers,
                    "httpStatusCode": given.status,
                    "referenceId": reference_id,
                }
                for given, (_, reference_id, _) in zip(answers, subrequests, strict=True)
            ]
        },
    )


def _taken_back(given: Answer, kind: str, part: Mapping[str, Any]) -> Answer:
    """What a subrequest says after the outer allOrNone took everything back.

    A collection with an inner allOrNone of false still shows `success: true` for rows that are not
    there any more.
    """
    if given.status >= 300:
        return given
    if kind in _COLLECTIONS:
        if not part["body"].get("allOrNone", False):
            return given
        rolled_back = row_error("ALL_OR_NONE_OPERATION_ROLLED_BACK", _ROLLED_BACK)
        rows = [
            {"id": row["id"], "success": False, "errors": [rolled_back]} if row["success"] else row
            for row in given.body
        ]
        return Answer(200, rows)
    return Answer(400, [{"errorCode": "PROCESSING_HALTED", "message": _HALTED}])


def _too_many(services: Services, message: str) -> Answer:
    services.refuse("composite", "LIMIT_EXCEEDED", message)
    error = [{"errorCode": "LIMIT_EXCEEDED", "message": message}]
    return Answer(
        200,
        {
            "compositeResponse": [
                {"body": error, "httpHeaders": {}, "httpStatusCode": 400, "referenceId": None}
            ]
        },
    )


def _parts(request: Request) -> tuple[list[dict[str, Any]], bool]:
    body = request.body
    parts = body.get("compositeRequest") if isinstance(body, dict) else None
    if (
        not isinstance(body, dict)
        or not isinstance(parts, list)
        or not all(isinstance(part, dict) for part in parts)
    ):
        raise CallRefused(
            400, "JSON_PARSER_ERROR", "compositeRequest: a list of subrequests is expected"
        )
    if not parts:
        raise CallRefused(400, "REQUIRED_FIELD_MISSING", "At least 1 subrequest is required")
    unknown = body.keys() - {"allOrNone", "collateSubrequests", "compositeRequest"}
    unknown |= {name for part in parts for name in part} - {
        "method",
        "url",
        "referenceId",
        "body",
        "httpHeaders",
    }
    if unknown:
        raise CallRefused(
            400, "JSON_PARSER_ERROR", f'Unrecognized field "{min(unknown)}" at [line:1, column:1]'
        )
    for name in ("allOrNone", "collateSubrequests"):
        if type(body.get(name, False)) is not bool:
            raise CallRefused(400, "JSON_PARSER_ERROR", f"{name}: a boolean is expected")
    seen = set()
    for part in parts:
        reference_id = part.get("referenceId")
        if not isinstance(reference_id, str) or _REFERENCE_ID.fullmatch(reference_id) is None:
            message = (
                f"Invalid reference ID: {reference_id!r}. Use letters, numbers and underscores."
            )
            raise CallRefused(400, "INVALID_INPUT", message)
        if reference_id in seen:
            raise CallRefused(
                400,
                "INVALID_INPUT",
                f"Provided referenceId ('{reference_id}') must be unique in a request.",
            )
        seen.add(reference_id)
        for name in ("method", "url"):
            if not isinstance(part.get(name), str):
                raise CallRefused(
                    400, "JSON_PARSER_ERROR", f"{name} is missing in subrequest {reference_id}"
                )
        headers = part.get("httpHeaders") or {}
        if not isinstance(headers, dict) or not all(
            isinstance(value, str) for value in headers.values()
        ):
            message = (
                f"Cannot deserialize instance of string: httpHeaders of subrequest {reference_id}"
            )
            raise CallRefused(400, "JSON_PARSER_ERROR", message)
    return parts, bool(body.get("allOrNone", False))


def _subrequest(part: Mapping[str, Any]) -> tuple[Request | CallRefused, str, Mapping[str, Any]]:
    reference_id = part["referenceId"]
    headers = {name.lower(): value for name, value in (part.get("httpHeaders") or {}).items()}
    forbidden = headers.keys() & _INHERITED_HEADERS
    if forbidden:
        message = f"The header {min(forbidden)} can't be set on a subrequest; it is inherited."
        return CallRefused(400, "INVALID_INPUT", message), reference_id, part
    try:
        return parse_url(part["method"], part["url"], headers, part.get("body")), reference_id, part
    except CallRefused as refused:
        return refused, reference_id, part


def _resolved(
    request: Request, part: Mapping[str, Any], results: Mapping[str, Answer], refers: bool
) -> Request:
    """Put in the values of earlier answers for `@{id.path}`.

    Raises CallRefused for what cannot be resolved.
    """
    if not refers:
        return request
    url = part["url"]
    if "@{" in url:
        replaced = _REFERENCE.sub(lambda match: str(_referenced(match, results)), url)
        request = parse_url(request.method, replaced, request.headers, request.body)
    return (
        replace(request, body=_filled(request.body, results)) if _refers(request.body) else request
    )


def _refers(value: Any) -> bool:
    """Whether a single record's body refers to an earlier answer.

    Collections are looked through as well.
    """
    if isinstance(value, str):
        return value.startswith("@{")
    if isinstance(value, dict):
        return any(_refers(item) for item in value.values())
    return isinstance(value, list) and any(_refers(item) for item in value)


def _filled(value: Any, results: Mapping[str, Answer]) -> Any:
    if isinstance(value, str):
        match = _REFERENCE.fullmatch(value)
        return value if match is None else _referenced(match, results)
    if isinstance(value, dict):
        return {name: _filled(item, results) for name, item in value.items()}
    return [_filled(item, results) for item in value] if isinstance(value, list) else value


def _referenced(match: re.Match[str], results: Mapping[str, Answer]) -> Any:
    given = results.get(match[1])
    value = given.body if given is not None and given.status < 300 else None
    for name, position in re.findall(r"\.([A-Za-z0-9_]+)|\[(\d+)\]", match[2]):
        try:
            value = value[int(position)] if position else value[name]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            value = None
        if value is None:
            break
    if value is None or isinstance(value, dict | list):
        message = f"Invalid reference specified. No value for {match[0]} found."
        raise CallRefused(400, "PROCESSING_HALTED", message)
    return value


@dataclass(slots=True)
class Held:
    """What a request will write, known on its arrival.

    Rows, their Accounts and people, and keys without a record.
    """

    rows: int = 0
    accounts: set[str] = field(default_factory=set)
    people: set[str] = field(default_factory=set)  # addresses, keys and record Ids
    new_keys: set[tuple[str, str, str]] = field(default_factory=set)


def held_by(services: Services, request: Request) -> Held:
    """Look through a request, or all the subrequests of a Composite, before it is served."""
    held = Held()
    if kind_of(request) != "composite":
        _hold(services, request, held)
        return held
    parts = request.body.get("compositeRequest") if isinstance(request.body, dict) else None
    for part in parts if isinstance(parts, list) else ():
        if (
            isinstance(part, dict)
            and isinstance(part.get("body"), dict)
            and isinstance(part.get("url"), str)
        ):
            try:
                _hold(
                    services,
                    parse_url(str(part.get("method")), part["url"], {}, part["body"]),
                    held,
                )
            except CallRefused:
                continue
    return held


def _hold(services: Services, request: Request, held: Held) -> None:
    kind = kind_of(request)
    if kind not in _WRITES or not isinstance(request.body, dict):
        return
    records, name, upsert_by = [request.body], request.path[1], None
    if kind in _COLLECTIONS:
        found = request.body.get("records")
        records = (
            [record for record in found if isinstance(record, dict)]
            if isinstance(found, list)
            else []
        )
        name, upsert_by = request.path[2:] if kind == "collections_upsert" else ("", None)
    elif kind == "record_upsert":
        upsert_by = request.path[2]
        records = [{**request.body, upsert_by: request.path[3]}]
    elif kind == "record_update":
        records = [{**request.body, "Id": request.path[2]}]
    held.rows += len(records)
    for record in records:
        attributes = record.get("attributes")
        row_type = name or (attributes.get("type") if isinstance(attributes, dict) else None)
        table = services.org.tables.get(row_type) if isinstance(row_type, str) else None
        if table is None:
            continue
        for address in (
            record.get("Email"),
            record.get("Nylas_Email_2__c"),
            record.get("Nylas_Email_3__c"),
        ):
            if isinstance(address, str):
                held.people.add(address.lower())
        account = record.get("AccountId")
        if isinstance(account, str) and (normal := normal_id(account)) is not None:
            held.accounts.add(normal)
        existing = _existing(table, record, upsert_by, held)
        if existing is not None:
            held.people.add(existing["Id"])
            if "AccountId" in existing:
                held.accounts.add(existing["AccountId"])


def _existing(
    table: Table, record: Mapping[str, Any], upsert_by: str | None, held: Held
) -> Row | None:
    if upsert_by is None:
        given = record.get("Id")
        return table.rows.get(normal_id(given) or "") if isinstance(given, str) else None
    item, value = table.sobject.fields.get(upsert_by), record.get(upsert_by)
    if item is None or not item.indexed or not isinstance(value, str):
        return None
    held.people.add(value)
    holder = next(iter(table.holders(item, value)), None)
    if holder is None:
        held.new_keys.add((table.sobject.name, item.name, item.fold(value)))
        return None
    return table.rows[holder]


_RESOURCES: Final[dict[str, Callable[[Services, Request, Scope], Answer]]] = {
    "resources": _resources,
    "limits": _limits,
    "describe": _describe,
    "query": _query,
    "query_more": _query_more,
    "bulk_create": _bulk_create,
    "bulk_state": _bulk_state,
    "bulk_abort": _bulk_abort,
    "bulk_results": _bulk_results,
    "tooling_query": _tooling_query,
    "duplicate_rules": _duplicate_rules,
    "record_get": _record_get,
    "record_create": _record_create,
    "record_update": _record_update,
    "record_upsert": _record_upsert,
    "assignment_delete": _assignment_delete,
    "collections_create": _collections_create,
    "collections_update": _collections_update,
    "collections_upsert": _collections_upsert,
    "composite": _composite,
}
