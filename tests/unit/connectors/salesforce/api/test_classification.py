"""What each error of Salesforce means, with bodies that were documented or recorded."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.api.classification import (
    classify_request,
    classify_row,
    fault_of,
    possible_row_fault,
    raise_for,
)
from connectors.salesforce.api.error_parsing import parse_errors
from connectors.salesforce.api.errors import (
    PAUSE_SECONDS,
    Action,
    OrgUnavailable,
    RequestRejected,
    RowError,
)
from connectors.salesforce.org_fields import VERSION_FIELD


def row_error(
    code: str, message: str, fields: list[str] | None = None, **more: Any
) -> dict[str, Any]:
    return {"statusCode": code, "message": message, "fields": fields or [], **more}


ROWS: list[tuple[dict[str, Any], Action, str]] = [
    # the row alone, later
    (
        row_error(
            "UNABLE_TO_LOCK_ROW",
            "unable to obtain exclusive access to this record or 1 records: 001B000000aBcDe",
        ),
        Action.RETRY_ROW,
        "unable_to_lock_row",
    ),
    (
        row_error(
            "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
            "Rollup: execution of AfterUpdate caused by: System.DmlException: Update failed. "
            "First exception on row 0; "
            "first error: UNABLE_TO_LOCK_ROW, unable to obtain exclusive access to this record: []",
        ),
        Action.RETRY_ROW,
        "unable_to_lock_row",
    ),
    (
        row_error("TOO_MANY_APEX_REQUESTS", "Too many Apex requests"),
        Action.RETRY_ROW,
        "too_many_apex_requests",
    ),
    (
        row_error(
            "UNKNOWN_EXCEPTION",
            "An unexpected error occurred. Please include this ErrorId: 123-456",
        ),
        Action.RETRY_ROW,
        "unknown_exception",
    ),
    (
        row_error(
            "ALL_OR_NONE_OPERATION_ROLLED_BACK",
            "Record rolled back because not all records were valid and the request was using "
            "AllOrNone header",
        ),
        Action.RETRY_ROW,
        "all_or_none_operation_rolled_back",
    ),
    (
        row_error(
            "PROCESSING_HALTED",
            "The transaction was rolled back since another operation in the same transaction "
            "failed.",
        ),
        Action.RETRY_ROW,
        "processing_halted",
    ),
    (row_error("ENTITY_IS_LOCKED", "This record is locked."), Action.RETRY_ROW, "entity_is_locked"),
    (row_error("ENTITY_IS_DELETED", "entity is deleted"), Action.RETRY_ROW, "entity_is_deleted"),
    (row_error("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id"), Action.RETRY_ROW, ""),
    (
        row_error("NOT_FOUND", "The requested resource does not exist"),
        Action.RETRY_ROW,
        "not_found",
    ),
    (
        row_error(
            "DUPLICATE_VALUE",
            "duplicate value found: Key__c duplicates value on record with id: 0031x00000AbCdE",
        ),
        Action.RETRY_ROW,
        "duplicate_value",
    ),
    (
        row_error("DUPLICATE_VALUE", "Duplicate external id specified: 5f3a/abc"),
        Action.RETRY_ROW,
        "duplicate_value",
    ),
    # smaller requests
    (
        row_error(
            "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
            "ContactTrigger: System.LimitException: Too many SOQL queries: 101",
        ),
        Action.HALVE,
        "apex_limit",
    ),
    (
        row_error("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "Trigger: Apex CPU time limit exceeded"),
        Action.HALVE,
        "apex_limit",
    ),
    (
        row_error("QUERY_TIMEOUT", "Your query request was running for too long."),
        Action.HALVE,
        "query_timeout",
    ),
    (
        row_error(
            "REQUEST_RUNNING_TOO_LONG",
            "Your request was running for too long, and has been stopped.",
        ),
        Action.HALVE,
        "request_running_too_long",
    ),
    (
        row_error("OPERATION_TOO_LARGE", "Exceeded max size for the operation"),
        Action.HALVE,
        "operation_too_large",
    ),
    (
        row_error("QUERY_TOO_COMPLICATED", "Query is either selecting too many fields"),
        Action.HALVE,
        "query_too_complicated",
    ),
    (
        row_error("APEX_ERROR", "System.LimitException: Too many DML statements: 151"),
        Action.HALVE,
        "apex_limit",
    ),
    (
        row_error("APEX_ERROR", "first error: UNABLE_TO_LOCK_ROW"),
        Action.RETRY_ROW,
        "unable_to_lock_row",
    ),
    # the whole org
    (row_error("STORAGE_LIMIT_EXCEEDED", "storage limit exceeded"), Action.PAUSE, "storage_limit"),
    (
        row_error(
            "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE", "instance under maintenance"
        ),
        Action.PAUSE,
        "maintenance",
    ),
    (
        row_error("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."),
        Action.PAUSE,
        "daily_limit",
    ),
    (row_error("ORG_LOCKED", "org locked"), Action.PAUSE, "maintenance"),
    (row_error("LICENSE_LIMIT_EXCEEDED", "license limit exceeded"), Action.PAUSE, "api_disabled"),
    # elsewhere
    (
        row_error("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead"),
        Action.FOLLOW_CONVERTED,
        "",
    ),
    (
        row_error("FIELD_CUSTOM_VALIDATION_EXCEPTION", "older than what stands", [VERSION_FIELD]),
        Action.STALE,
        "stale",
    ),
    # without the field
    (
        row_error("INVALID_FIELD", "No such column 'FavoritePet__c' on sobject of type Account"),
        Action.STRIP_FIELD,
        "invalid_field",
    ),
    (
        row_error(
            "INVALID_FIELD_FOR_INSERT_UPDATE",
            "Unable to create/update fields: MobilePhone. Please check the security settings of "
            "this field and verify "
            "that it is read/write for your profile or permission set.",
            ["MobilePhone"],
        ),
        Action.STRIP_FIELD,
        "invalid_field_for_insert_update",
    ),
    # never
    (
        row_error(
            "REQUIRED_FIELD_MISSING", "Required fields are missing: [LastName]", ["LastName"]
        ),
        Action.DEAD_LETTER,
        "",
    ),
    (
        row_error("INVALID_EMAIL_ADDRESS", "Email: invalid email address: badone", ["Email"]),
        Action.DEAD_LETTER,
        "",
    ),
    (
        row_error(
            "STRING_TOO_LONG", "Last Name: data value too large: Abc (max length=80)", ["LastName"]
        ),
        Action.DEAD_LETTER,
        "",
    ),
    (
        row_error("FIELD_CUSTOM_VALIDATION_EXCEPTION", "A phone number, please"),
        Action.DEAD_LETTER,
        "",
    ),
    (
        row_error("FIELD_CUSTOM_VALIDATION_EXCEPTION", "A phone number, please", ["Phone"]),
        Action.DEAD_LETTER,
        "",
    ),
    (
        row_error(
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
            "Rating: bad value for restricted picklist field: Terrible",
            ["Rating__c"],
        ),
        Action.DEAD_LETTER,
        "",
    ),
    (
        row_error(
            "INVALID_FIELD",
            "Foreign key external ID: 0116 not found for field Invoice_External_Id__c in entity "
            "Line__c",
        ),
        Action.DEAD_LETTER,
        "",
    ),
    (
        row_error(
            "DUPLICATE_EXTERNAL_ID",
            "Key: more than one record found for external id field: [a1, a2]",
        ),
        Action.DEAD_LETTER,
        "",
    ),
    (
        row_error("MALFORMED_ID", "Record ID: id value of incorrect type: a00B0000001", ["Id"]),
        Action.DEAD_LETTER,
        "",
    ),
    (row_error("MISSING_ARGUMENT", "Id not specified in an update call"), Action.DEAD_LETTER, ""),
    (
        row_error(
            "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
            "insufficient access rights on cross-reference id",
        ),
        Action.DEAD_LETTER,
        "",
    ),
    *[
        (row_error(code, "no"), Action.DEAD_LETTER, "")
        for code in (
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
            "FIELD_INTEGRITY_EXCEPTION",
            "FIELD_FILTER_VALIDATION_EXCEPTION",
        )
    ],
    # perhaps for the sake of another row of the collection
    (
        row_error(
            "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "ContactTrigger: System.NullPointerException"
        ),
        Action.ISOLATE,
        "",
    ),
    (row_error("APEX_ERROR", "System.NullPointerException"), Action.ISOLATE, ""),
    (
        row_error(
            "CANNOT_EXECUTE_FLOW_TRIGGER",
            "We can't save this record because the “Sync” process failed. Give your Salesforce "
            "admin these details. An error occurred when executing a flow interview. Error ID: "
            "1545064308-45750 (1670083917)",
        ),
        Action.ISOLATE,
        "",
    ),
    (row_error("A_CODE_OF_NEXT_YEAR", "?"), Action.DEAD_LETTER, "unknown_code"),
]


# Messages of flows and triggers, as public issue trackers and the documentation quote them.
QUOTED = [
    ("Too many SOQL queries: 101", "apex_limit"),
    ("LIMIT_EXCEEDED: System.LimitException: Too many queueable jobs: 51.", "apex_limit"),
    ("dlrs_ContactTrigger: System.LimitException: dlrs:Too many query rows: 50001", "apex_limit"),
    ("System.LimitException: Too many DML rows: 10001", "apex_limit"),
    ("Apex CPU time limit exceeded", "apex_limit"),
    ("System.LimitException: Apex heap size too large: 6000001", "apex_limit"),
    ("Number of executed elements has exceeded the maximum number of 2000", "apex_limit"),
    ("Se produjo este error: LIMIT_EXCEEDED: límite superado", "apex_limit"),
    (
        "DUPLICATE_VALUE: Maximum number of duplicate updates in one batch (12 allowed). Attempt "
        "to update Id more than once in this Api call: 001bf00000BSQq4",
        "apex_limit",
    ),
    ("first error: UNABLE_TO_LOCK_ROW, unable to obtain exclusive access", "unable_to_lock_row"),
    ("The flow tried to update these records: 001xx. UNABLE_TO_LOCK_ROW", "unable_to_lock_row"),
    ("This error occurred: ENTITY_IS_LOCKED: This record is locked.", "entity_is_locked"),
]
QUOTING = [
    "CANNOT_EXECUTE_FLOW_TRIGGER",
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
    "APEX_ERROR",
    "LIMIT_EXCEEDED",
    "UNKNOWN_EXCEPTION",
    "FIELD_CUSTOM_VALIDATION_EXCEPTION",  # of a trigger that adds the exception to its rows
    "A_CODE_OF_NEXT_YEAR",
]


@pytest.mark.parametrize(("message", "reason"), QUOTED, ids=lambda value: "")
@pytest.mark.parametrize("code", QUOTING)
def test_a_lock_or_a_limit_that_a_message_quotes_decides_whatever_the_code(
    code: str, message: str, reason: str
) -> None:
    action = Action.HALVE if reason == "apex_limit" else Action.RETRY_ROW
    verdict = classify_row([RowError(code, message)], VERSION_FIELD)
    assert (verdict.action, verdict.reason) == (action, reason)
    if code not in {"LIMIT_EXCEEDED", "UNKNOWN_EXCEPTION"}:  # these have a verdict as requests
        body = [{"errorCode": code, "message": message}]
        whole = classify_request(400, body, inside_composite=True)
        assert (whole.action, whole.reason) == (action, reason)


@pytest.mark.parametrize(
    ("code", "message", "action"),
    [
        # of other records, and no fewer rows would help
        ("CANNOT_EXECUTE_FLOW_TRIGGER", "REQUIRED_FIELD_MISSING: [Name]", Action.ISOLATE),
        ("CANNOT_EXECUTE_FLOW_TRIGGER", "STORAGE_LIMIT_EXCEEDED: storage limit", Action.ISOLATE),
        ("INVALID_EMAIL_ADDRESS", "Email: LIMIT_EXCEEDED@x: invalid", Action.DEAD_LETTER),
        ("STRING_TOO_LONG", "Title: UNABLE_TO_LOCK_ROW: data value too large", Action.DEAD_LETTER),
    ],
)
def test_other_messages_and_codes_about_a_value_quote_nothing(
    code: str, message: str, action: Action
) -> None:
    assert classify_row([RowError(code, message)], VERSION_FIELD).action is action


def test_faults_are_the_same_but_for_the_ids_in_their_messages() -> None:
    def fault(message: str) -> str:
        return fault_of([RowError("CANNOT_EXECUTE_FLOW_TRIGGER", message)])

    one = "The flow tried to update 0015g00000AAAAAAA1. Error ID: 1545064308-45750 (1670083917)"
    other = "The flow tried to update 0015g00000BBBBBBB2. Error ID: 1545064309-1 (-5)"
    assert fault(one) == fault(other)
    assert fault(one) != fault("Another flow tried to update 0015g00000AAAAAAA1")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (414, b"<h1>Bad Message 414</h1><pre>reason: URI Too Long</pre>"),
        (431, b"<h1>Bad Message 431</h1>"),
        (413, b"<html>Request Entity Too Large</html>"),
        (400, "SOQL statements can not be longer than 100000 characters."),
        (400, "SOQL statements cannot be longer than 20000 characters."),
    ],
)
def test_a_statement_that_is_too_long_is_halved(status: int, body: bytes | str) -> None:
    if isinstance(body, str):
        parsed: object = [{"errorCode": "MALFORMED_QUERY", "message": body}]
    else:
        parsed = body
    for inside in (False, True):
        assert classify_request(status, parsed, inside_composite=inside).action is Action.HALVE


@pytest.mark.parametrize(("error", "action", "reason"), ROWS, ids=lambda value: "")
def test_a_row_error_leads_to_its_action(
    error: dict[str, Any], action: Action, reason: str
) -> None:
    verdict = classify_row(parse_errors([error]), VERSION_FIELD)
    assert verdict.action is action
    assert verdict.reason == (reason or error["statusCode"].lower())


@pytest.mark.parametrize(
    ("codes", "action"),
    [
        (["UNABLE_TO_LOCK_ROW", "INVALID_EMAIL_ADDRESS"], Action.DEAD_LETTER),
        (["REQUIRED_FIELD_MISSING", "UNABLE_TO_LOCK_ROW"], Action.DEAD_LETTER),
        (["UNABLE_TO_LOCK_ROW", "UNABLE_TO_LOCK_ROW"], Action.RETRY_ROW),
        (["UNABLE_TO_LOCK_ROW", "QUERY_TIMEOUT"], Action.HALVE),
        (["REQUIRED_FIELD_MISSING", "STORAGE_LIMIT_EXCEEDED"], Action.PAUSE),
        (["CANNOT_UPDATE_CONVERTED_LEAD", "INVALID_EMAIL_ADDRESS"], Action.FOLLOW_CONVERTED),
    ],
)
def test_of_several_errors_in_a_row_the_gravest_decides(codes: list[str], action: Action) -> None:
    assert classify_row([RowError(code, "") for code in codes], VERSION_FIELD).action is action


@given(st.lists(st.sampled_from(ROWS), min_size=1, max_size=4), st.randoms())
def test_the_order_of_a_rows_errors_changes_nothing(
    chosen: list[tuple[dict[str, Any], Action, str]], random: Any
) -> None:
    errors = parse_errors([error for error, _, _ in chosen])
    shuffled = list(errors)
    random.shuffle(shuffled)
    assert (
        classify_row(errors, VERSION_FIELD).action is classify_row(shuffled, VERSION_FIELD).action
    )


def test_a_newer_record_is_stale_whatever_else_the_row_says() -> None:
    newer = RowError("FIELD_CUSTOM_VALIDATION_EXCEPTION", "older", (VERSION_FIELD,))
    assert (
        classify_row([RowError("STRING_TOO_LONG", ""), newer], VERSION_FIELD).action is Action.STALE
    )


def test_every_refused_field_of_a_row_is_stripped_at_once() -> None:
    errors = parse_errors(
        [
            row_error("INVALID_FIELD", "No such column 'Pet__c' on sobject of type Contact"),
            row_error(
                "INVALID_FIELD_FOR_INSERT_UPDATE",
                "Unable to create/update fields: A__c, B__c. Please check",
            ),
        ]
    )
    assert classify_row(errors, VERSION_FIELD).fields == ("Pet__c", "A__c", "B__c")


def duplicates(key: str, *ids: str) -> dict[str, Any]:
    return {
        key: {
            "allowSave": True,
            "duplicateRule": "Contacts_DR",
            "duplicateRuleEntityType": "Contact",
            "errorMessage": "…",
            "matchResults": [
                {
                    "entityType": "Contact",
                    "errors": [],
                    "matchEngine": "ExactMatchEngine",
                    "matchRecords": [
                        {
                            "additionalInformation": [],
                            "fieldDiffs": [],
                            "matchConfidence": 100.0,
                            "record": {
                                "attributes": {
                                    "type": "Contact",
                                    "url": f"/services/data/v50.0/sobjects/Contact/{id_}",
                                },
                                "Id": id_,
                            },
                        }
                        for id_ in ids
                    ],
                    "rule": "Contact_MR",
                    "size": len(ids),
                    "success": True,
                }
            ],
        }
    }


@pytest.mark.parametrize("key", ["duplicateResut", "duplicateResult"])
def test_a_single_duplicate_may_be_adopted(key: str) -> None:
    body = [
        {
            **duplicates(key, "0031i00000AbCdEAAV"),
            "errorCode": "DUPLICATES_DETECTED",
            "message": "Use one of these records?",
        }
    ]
    verdict = classify_row(parse_errors(body), VERSION_FIELD)
    assert verdict.action is Action.ADOPT_DUPLICATE
    assert [(match.sobject, match.record_id, match.rule) for match in verdict.duplicates] == [
        ("Contact", "0031i00000AbCdEAAV", "Contacts_DR")
    ]


def test_several_duplicates_are_dead_lettered_with_their_ids() -> None:
    error = row_error(
        "DUPLICATES_DETECTED",
        "Use one?",
        **duplicates("duplicateResut", "003000000000001", "003000000000002"),
    )
    verdict = classify_row(parse_errors([error]), VERSION_FIELD)
    assert verdict.action is Action.DEAD_LETTER
    assert [match.record_id for match in verdict.duplicates] == [
        "003000000000001",
        "003000000000002",
    ]


def test_one_record_matched_by_two_rules_is_one_duplicate() -> None:
    error = row_error(
        "DUPLICATES_DETECTED",
        "?",
        **duplicates("duplicateResut", "003000000000001", "003000000000001AAA"),
    )
    assert classify_row(parse_errors([error]), VERSION_FIELD).action is Action.ADOPT_DUPLICATE


def test_a_duplicate_without_a_record_is_dead_lettered() -> None:
    assert (
        classify_row(
            [RowError("DUPLICATES_DETECTED", "a rule's own message")], VERSION_FIELD
        ).action
        is Action.DEAD_LETTER
    )


def test_a_taken_unique_value_names_the_record_that_holds_it() -> None:
    (error,) = parse_errors(
        [
            row_error(
                "DUPLICATE_VALUE",
                "duplicate value found: K__c duplicates value on record with id: 00Q1x00000AbCdE",
            )
        ]
    )
    assert [(match.sobject, match.record_id) for match in error.duplicates] == [
        ("Lead", "00Q1x00000AbCdE")
    ]


HTML = "<html><head><title>Down for maintenance</title></head></html>"


REQUESTS: list[tuple[int, Any, Action, str]] = [
    (200, {"compositeResponse": []}, Action.DONE, "done"),
    (200, HTML, Action.PAUSE, "not_json"),
    (302, b"", Action.PAUSE, "moved"),
    (
        401,
        [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}],
        Action.REFRESH_TOKEN,
        "",
    ),
    (401, HTML, Action.REFRESH_TOKEN, "session"),
    (
        401,
        [{"message": "INVALID_AUTH_HEADER", "errorCode": "INVALID_AUTH_HEADER"}],
        Action.PAUSE,
        "login",
    ),
    (
        401,
        [{"message": "INVALID_HEADER_TYPE", "errorCode": "INVALID_HEADER_TYPE"}],
        Action.PAUSE,
        "login",
    ),
    (403, [{"message": "org locked", "errorCode": "ORG_LOCKED"}], Action.PAUSE, "maintenance"),
    (
        403,
        [{"message": "no licence", "errorCode": "LICENSE_LIMIT_EXCEEDED"}],
        Action.PAUSE,
        "api_disabled",
    ),
    (400, [{"message": "too large", "errorCode": "OPERATION_TOO_LARGE"}], Action.HALVE, ""),
    (400, [{"message": "too complicated", "errorCode": "QUERY_TOO_COMPLICATED"}], Action.HALVE, ""),
    (
        403,
        [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}],
        Action.PAUSE,
        "daily_limit",
    ),
    (
        403,
        [
            {
                "message": "ConcurrentRequests (Concurrent API Requests) Limit exceeded.",
                "errorCode": "REQUEST_LIMIT_EXCEEDED",
            }
        ],
        Action.PAUSE,
        "concurrent_limit",
    ),
    (
        403,
        [
            {
                "message": "ConcurrentPerOrgLongTxn Limit exceeded.",
                "errorCode": "REQUEST_LIMIT_EXCEEDED",
            }
        ],
        Action.PAUSE,
        "concurrent_limit",
    ),
    (
        403,
        [{"message": "Limit", "errorCode": "REQUEST_LIMIT_EXCEEDED"}],
        Action.PAUSE,
        "request_limit",
    ),
    (403, [{"message": "no", "errorCode": "API_DISABLED_FOR_ORG"}], Action.PAUSE, "api_disabled"),
    (403, [{"message": "no", "errorCode": "API_CURRENTLY_DISABLED"}], Action.PAUSE, "api_disabled"),
    (403, [{"message": "no", "errorCode": "SOMETHING_ELSE"}], Action.STOP, "rejected"),
    (403, HTML, Action.PAUSE, "not_json"),
    (
        400,
        [{"message": "full", "errorCode": "STORAGE_LIMIT_EXCEEDED"}],
        Action.PAUSE,
        "storage_limit",
    ),
    (420, "", Action.PAUSE, "throttled"),
    (429, [{"message": "slow down", "errorCode": "WHATEVER"}], Action.PAUSE, "throttled"),
    (
        500,
        [{"message": "An unexpected error occurred.", "errorCode": "UNKNOWN_EXCEPTION"}],
        Action.PAUSE,
        "server_error",
    ),
    (500, b"", Action.PAUSE, "server_error"),
    (502, "no healthy upstream", Action.PAUSE, "maintenance"),
    (
        503,
        [{"message": "unavailable", "errorCode": "SERVER_UNAVAILABLE"}],
        Action.PAUSE,
        "maintenance",
    ),
    (503, HTML, Action.PAUSE, "maintenance"),
    (503, "upstream connect error or disconnect/reset before headers", Action.PAUSE, "maintenance"),
    (504, HTML, Action.PAUSE, "maintenance"),
    (
        400,
        [{"message": "Please retry your request", "errorCode": "WHATEVER"}],
        Action.PAUSE,
        "server_error",
    ),
    (
        400,
        [
            {
                "message": "security policies took too long to evaluate",
                "errorCode": "TXN_SECURITY_METERING_ERROR",
            }
        ],
        Action.RETRY_ROW,
        "",
    ),
    (400, [{"message": "locked", "errorCode": "UNABLE_TO_LOCK_ROW"}], Action.RETRY_ROW, ""),
    (400, [{"message": "too long", "errorCode": "QUERY_TIMEOUT"}], Action.HALVE, ""),
    (413, HTML, Action.HALVE, "too_large"),
    (
        400,
        [
            {
                "message": "Cannot deserialize instance of datetime from VALUE_STRING value x "
                "or request may be missing a "
                "required field at [line:1, column:179]",
                "errorCode": "JSON_PARSER_ERROR",
            }
        ],
        Action.BISECT,
        "",
    ),
    (400, [{"message": "?", "errorCode": "A_CODE_OF_NEXT_YEAR"}], Action.BISECT, "unknown_code"),
    (
        400,
        [
            {
                "message": "No such column 'Pet__c' on sobject of type Contact",
                "errorCode": "INVALID_FIELD",
            }
        ],
        Action.STRIP_FIELD,
        "",
    ),
    (
        400,
        [{"message": "At least 1 record is required", "errorCode": "REQUIRED_FIELD_MISSING"}],
        Action.STOP,
        "",
    ),
    (400, [{"message": "limit reached", "errorCode": "EXCEEDED_ID_LIMIT"}], Action.STOP, ""),
    (400, [{"message": "unexpected token", "errorCode": "MALFORMED_QUERY"}], Action.STOP, ""),
    (400, [{"message": "no", "errorCode": "INVALID_TYPE"}], Action.STOP, ""),
    (400, [{"message": "no", "errorCode": "INVALID_EXTERNAL_ID_FIELD_NAME"}], Action.STOP, ""),
    (400, [{"message": "no", "errorCode": "INVALID_ENTITY_FOR_UPSERT"}], Action.STOP, ""),
    (
        404,
        [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}],
        Action.STOP,
        "",
    ),
    (
        405,
        [{"errorCode": "METHOD_NOT_ALLOWED", "message": "HTTP Method 'PUT' not allowed"}],
        Action.STOP,
        "",
    ),
    (410, [{"errorCode": "UNSUPPORTED_API_VERSION", "message": "retired"}], Action.STOP, ""),
    (412, [], Action.STOP, "http_412"),
    (414, HTML, Action.HALVE, "too_long"),
    (415, [{"errorCode": "WHATEVER", "message": "no"}], Action.STOP, "rejected"),
    (428, [], Action.STOP, "http_428"),
    (431, HTML, Action.HALVE, "too_long"),
    (404, HTML, Action.PAUSE, "not_json"),
]


@pytest.mark.parametrize(("status", "body", "action", "reason"), REQUESTS, ids=lambda value: "")
def test_an_answer_leads_to_its_action(status: int, body: Any, action: Action, reason: str) -> None:
    verdict = classify_request(status, body)
    assert verdict.action is action
    assert verdict.reason == (reason or body[0]["errorCode"].lower())
    if action is Action.PAUSE:
        assert verdict.retry_after == PAUSE_SECONDS[verdict.reason]


def test_a_pause_is_raised_with_the_wait_that_salesforce_asked_for() -> None:
    with pytest.raises(OrgUnavailable) as raised:
        raise_for(503, HTML, retry_after=7.0)
    assert (raised.value.reason, raised.value.retry_after) == ("maintenance", 7.0)


def test_a_temporary_fault_of_a_whole_request_pauses_and_dead_letters_no_row() -> None:
    body = [
        {
            "message": "security policies took too long to evaluate",
            "errorCode": "TXN_SECURITY_METERING_ERROR",
        }
    ]
    with pytest.raises(OrgUnavailable, match="server_error"):
        raise_for(400, body)


def test_a_refusal_is_raised_with_its_verdict() -> None:
    with pytest.raises(RequestRejected) as raised:
        raise_for(400, [{"message": "bad date 1970-13-01", "errorCode": "JSON_PARSER_ERROR"}])
    assert raised.value.verdict.action is Action.BISECT
    assert "1970" not in str(raised.value)  # messages quote what people typed


def test_one_subrequest_that_breaks_the_orgs_code_is_halved_and_does_not_pause_the_org() -> None:
    body = [{"message": "An unexpected error occurred.", "errorCode": "UNKNOWN_EXCEPTION"}]
    assert classify_request(500, body, inside_composite=True).action is Action.HALVE


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "errors",
                    "error",
                    "errorCode",
                    "statusCode",
                    "message",
                    "fields",
                    "duplicateResut",
                    "matchResults",
                    "record",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.integers(200, 599), json_values)
def test_no_answer_however_odd_breaks_the_classification(status: int, body: Any) -> None:
    assert classify_row(parse_errors(body), VERSION_FIELD).reason
    assert classify_request(status, body).reason


@pytest.mark.parametrize("reason", PAUSE_SECONDS)
def test_limits_and_logins_are_never_a_rows_fault(reason: str) -> None:
    maybe = possible_row_fault(OrgUnavailable(reason))
    assert maybe == (
        reason if reason in {"server_error", "not_json", "network", "maintenance"} else ""
    )


@pytest.mark.parametrize(
    ("status", "code", "maybe"),
    [
        (400, "MALFORMED_QUERY", "rejected"),
        (400, "QUERY_TOO_COMPLICATED", "rejected"),
        (400, "JSON_PARSER_ERROR", "rejected"),
        (400, "A_CODE_OF_NEXT_YEAR", "rejected"),
        (400, "INVALID_TYPE", ""),
        (400, "INVALID_EXTERNAL_ID_FIELD_NAME", ""),
        (404, "NOT_FOUND", ""),
        (403, "A_CODE_OF_NEXT_YEAR", ""),
        (405, "METHOD_NOT_ALLOWED", ""),
    ],
)
def test_a_refusal_for_the_configuration_is_never_a_rows_fault(
    status: int, code: str, maybe: str
) -> None:
    with pytest.raises(RequestRejected) as raised:
        raise_for(status, [{"errorCode": code, "message": "?"}])
    assert possible_row_fault(raised.value) == maybe


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "NOT_FOUND"), (410, "UNSUPPORTED_API_VERSION"), (410, "GONE"), (404, "GONE")],
)
def test_a_version_that_the_org_does_not_have_names_its_setting(status: int, code: str) -> None:
    """Salesforce answers NOT_FOUND to a version that it has not yet, and 410 to a retired one."""
    body = [{"errorCode": code, "message": "The requested resource does not exist"}]
    with pytest.raises(RequestRejected) as raised:
        raise_for(status, body)
    assert ("set SALESFORCE_API_VERSION to one" in str(raised.value)) == (
        status == 410 or code == "NOT_FOUND"
    )


def test_a_record_that_a_composite_does_not_find_says_nothing_of_the_version() -> None:
    body = [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}]
    with pytest.raises(RequestRejected) as raised:
        raise_for(404, body, inside_composite=True)
    assert "SALESFORCE_API_VERSION" not in str(raised.value)
