"""Composite requests: what is sent, and how answers are matched and read."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.api.classification import classify_row
from connectors.salesforce.api.composite import (
    MAX_STATEMENT,
    WRITE_HEADERS,
    SubAnswer,
    Subrequest,
    composite_body,
    match_answers,
    query_page,
    query_subrequest,
    row_results,
    update_subrequest,
    upsert_subrequest,
    write_headers,
)
from connectors.salesforce.api.errors import (
    Action,
    OrgUnavailable,
    RequestRejected,
    UnexpectedAnswer,
)
from connectors.salesforce.org_fields import KEY_FIELD, VERSION_FIELD


def upserts(count: int) -> list[dict[str, Any]]:
    return [{KEY_FIELD: f"grant/{number}", "LastName": "Doe"} for number in range(count)]


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=60))
def test_a_statement_arrives_as_it_was_written(text: str) -> None:
    url = query_subrequest(f"SELECT Id FROM Lead WHERE Email = '{text}'", "q").url
    assert parse_qs(urlsplit(url).query)["q"] == [f"SELECT Id FROM Lead WHERE Email = '{text}'"]


def test_a_plus_in_an_address_survives_the_url() -> None:
    assert (
        "a%2Bb%40example.com"
        in query_subrequest("SELECT Id FROM Lead WHERE Email = 'a+b@example.com'", "q").url
    )


def test_a_statement_with_a_lone_surrogate_is_still_sent() -> None:
    assert query_subrequest("SELECT Id FROM Lead WHERE Email = '\ud800'", "q").url.isascii()


def test_a_statement_that_salesforce_would_refuse_is_not_sent() -> None:
    query_subrequest("x" * MAX_STATEMENT, "q")
    with pytest.raises(ValueError, match="characters"):
        query_subrequest("x" * (MAX_STATEMENT + 1), "q")


def test_a_composite_of_collections_has_the_documented_form() -> None:
    body = composite_body(
        [
            upsert_subrequest("Lead", KEY_FIELD, [{KEY_FIELD: "g/1", "LastName": "Doe"}], "leads"),
            update_subrequest(
                [("Contact", {"Id": "0031x00000AbCdEAAV", "Phone": None})], "contacts"
            ),
            query_subrequest("SELECT Id FROM Lead", "query"),
        ],
        "62.0",
    )
    assert body == {
        "allOrNone": False,
        "collateSubrequests": False,
        "compositeRequest": [
            {
                "method": "PATCH",
                "url": "/services/data/v62.0/composite/sobjects/Lead/Nylas_Contact_Id__c",
                "referenceId": "leads",
                "httpHeaders": dict(WRITE_HEADERS),
                "body": {
                    "allOrNone": False,
                    "records": [
                        {"attributes": {"type": "Lead"}, KEY_FIELD: "g/1", "LastName": "Doe"}
                    ],
                },
            },
            {
                "method": "PATCH",
                "url": "/services/data/v62.0/composite/sobjects",
                "referenceId": "contacts",
                "httpHeaders": dict(WRITE_HEADERS),
                "body": {
                    "allOrNone": False,
                    "records": [
                        {
                            "attributes": {"type": "Contact"},
                            "Id": "0031x00000AbCdEAAV",
                            "Phone": None,
                        }
                    ],
                },
            },
            {
                "method": "GET",
                "url": "/services/data/v62.0/query?q=SELECT%20Id%20FROM%20Lead",
                "referenceId": "query",
            },
        ],
    }


def test_every_write_saves_past_duplicate_alerts_and_leaves_the_owner() -> None:
    headers = upsert_subrequest("Lead", KEY_FIELD, upserts(1), "a").headers
    assert "allowSave=true" in headers["Sforce-Duplicate-Rule-Header"]
    assert headers["Sforce-Auto-Assign"] == "FALSE"


def test_saving_past_alerts_can_be_refused() -> None:
    assert "allowSave=false" in write_headers(allow_save=False)["Sforce-Duplicate-Rule-Header"]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        upserts(201),
        [{"LastName": "Doe"}],
        [{KEY_FIELD: None}],
        [{KEY_FIELD: " "}],
        [{KEY_FIELD: "g/1"}, {KEY_FIELD: "g/1"}],
        [{KEY_FIELD: "g/1", "Id": "003"}],
    ],
    ids=["none", "too many", "no key", "null key", "blank key", "a key twice", "an Id"],
)
def test_an_upsert_that_salesforce_would_refuse_is_not_sent(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"1 to 200 rows|has no|the same|carry an Id"):
        upsert_subrequest("Lead", KEY_FIELD, rows, "a")


def test_keys_that_differ_by_case_only_are_two_keys() -> None:
    assert upsert_subrequest("Lead", KEY_FIELD, [{KEY_FIELD: "g/a"}, {KEY_FIELD: "g/A"}], "a")


def test_an_update_needs_an_id_in_every_row() -> None:
    with pytest.raises(ValueError, match="has no Id"):
        update_subrequest([("Lead", {"Phone": "1"})], "a")


def test_updates_of_several_sobjects_are_sent_in_few_runs() -> None:
    turns = [("Lead" if number % 2 else "Contact", {"Id": f"{number}"}) for number in range(11)]
    assert update_subrequest(turns[:10], "a")
    with pytest.raises(ValueError, match="at most 10 runs"):
        update_subrequest(turns, "a")
    assert update_subrequest(sorted(turns, key=lambda one: one[0]), "a")


@pytest.mark.parametrize(
    "subrequests",
    [
        [],
        [Subrequest("GET", "/sobjects/Lead/describe", f"r{number}") for number in range(26)],
        [query_subrequest("SELECT Id FROM Lead", f"r{number}") for number in range(6)],
        [query_subrequest("SELECT Id FROM Lead", "r")] * 2,
        [query_subrequest("SELECT Id FROM Lead", "a-b")],
        [query_subrequest("SELECT Id FROM Lead", "ä")],
    ],
    ids=["none", "26", "six queries", "a reference twice", "a hyphen", "an umlaut"],
)
def test_a_composite_that_salesforce_would_refuse_is_not_sent(
    subrequests: list[Subrequest],
) -> None:
    with pytest.raises(ValueError, match=r"Composite|reference"):
        composite_body(subrequests, "62.0")


ASKED = [
    query_subrequest("SELECT Id FROM Lead", "a"),
    query_subrequest("SELECT Id FROM Contact", "b"),
]


def part(reference: str | None, status: int = 200, body: Any = None) -> dict[str, Any]:
    return {"body": body, "httpHeaders": {}, "httpStatusCode": status, "referenceId": reference}


def test_answers_are_matched_by_reference_whatever_their_order() -> None:
    answers = match_answers(ASKED, {"compositeResponse": [part("b", 404, 2), part("a", 200, 1)]})
    assert [(answer.reference_id, answer.status, answer.body) for answer in answers] == [
        ("a", 200, 1),
        ("b", 404, 2),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"compositeResponse": None},
        {"compositeResponse": []},
        {"compositeResponse": [part("a")]},
        {"compositeResponse": [part("a"), part("a")]},
        {"compositeResponse": [part("a"), part("a"), part("b")]},
        {"compositeResponse": [part("a"), part("c")]},
        {"compositeResponse": [part("a"), part("b"), part("c")]},
        {"compositeResponse": [part("a"), {"referenceId": "b"}]},
        {"compositeResponse": [part("a"), "b"]},
        {
            "compositeResponse": [
                part(
                    None,
                    400,
                    [
                        {
                            "errorCode": "LIMIT_EXCEEDED",
                            "message": "The request can’t contain more than 25 operations.",
                        }
                    ],
                )
            ]
        },
    ],
)
def test_a_short_or_odd_answer_is_an_error(answer: object) -> None:
    with pytest.raises(UnexpectedAnswer):
        match_answers(ASKED, answer)


def test_an_answer_that_belongs_to_no_subrequest_is_reported_with_its_code() -> None:
    body = [{"errorCode": "LIMIT_EXCEEDED", "message": "…"}]
    with pytest.raises(UnexpectedAnswer, match="LIMIT_EXCEEDED"):
        match_answers(ASKED, {"compositeResponse": [part(None, 400, body)]})


def collection(*results: Any, status: int = 200) -> SubAnswer:
    return SubAnswer("a", status, list(results))


def test_every_row_has_its_own_result_by_position() -> None:
    created, updated, failed, unknown = row_results(
        collection(
            {"id": "001xx0000004GxDAAU", "success": True, "errors": [], "created": True},
            {"id": "001xx0000004GxEAAU", "success": True, "errors": [], "created": False},
            {
                "success": False,
                "errors": [
                    {
                        "statusCode": "MALFORMED_ID",
                        "message": "Contact ID: id value of incorrect type: 001xx0000004GxEAAU",
                        "fields": ["Id"],
                    }
                ],
            },
            {"id": "001xx0000004GxFAAU", "success": True, "errors": []},
        ),
        range(4),
    )
    assert (created.id, created.success, created.created) == ("001xx0000004GxDAAU", True, True)
    assert (updated.success, updated.created) == (True, False)
    assert (failed.success, failed.id, failed.errors[0].code) == (False, None, "MALFORMED_ID")
    assert failed.errors[0].fields == ("Id",)
    assert (unknown.success, unknown.created) == (True, None)


def test_a_rolled_back_row_with_an_id_did_not_succeed() -> None:
    (result,) = row_results(
        collection(
            {
                "id": "001xx0000004GxDAAU",
                "success": False,
                "errors": [
                    {
                        "statusCode": "ALL_OR_NONE_OPERATION_ROLLED_BACK",
                        "message": "…",
                        "fields": [],
                    }
                ],
            }
        ),
        range(1),
    )
    assert not result.success
    assert result.id is None


def test_a_row_that_failed_without_an_error_is_tried_again() -> None:
    (result,) = row_results(collection({"success": False, "errors": []}), range(1))
    assert classify_row(result.errors, VERSION_FIELD).action is Action.RETRY_ROW


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        [],
        [{"id": "001", "success": True}],
        [{"id": "001", "success": True}] * 3,
        [{"id": "001", "success": True}, {"id": "002"}],
        [{"id": "001", "success": True}, {"id": "002", "success": "true"}],
        [{"id": "001", "success": True}, {"success": True}],
        [{"id": "001", "success": True}, None],
    ],
)
def test_short_or_odd_results_are_an_error(body: Any) -> None:
    with pytest.raises(UnexpectedAnswer):
        row_results(SubAnswer("a", 200, body), range(2))


def test_a_collection_refused_for_a_lock_is_rows_to_try_again() -> None:
    results = row_results(
        collection({"errorCode": "UNABLE_TO_LOCK_ROW", "message": "…"}, status=400), range(3)
    )
    assert [classify_row(result.errors, VERSION_FIELD).action for result in results] == [
        Action.RETRY_ROW
    ] * 3


def test_a_collection_refused_for_its_data_says_so() -> None:
    with pytest.raises(RequestRejected) as raised:
        row_results(
            collection({"errorCode": "JSON_PARSER_ERROR", "message": "…"}, status=400), range(3)
        )
    assert raised.value.verdict.action is Action.BISECT


def test_a_collection_that_meets_a_limit_of_the_org_pauses() -> None:
    limit = {"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}
    with pytest.raises(OrgUnavailable):
        row_results(collection(limit, status=403), range(3))


def test_a_page_of_records_says_whether_another_follows() -> None:
    last = query_page(SubAnswer("q", 200, {"totalSize": 1, "done": True, "records": [{"Id": "1"}]}))
    assert (last.records, last.total, last.next_url) == (({"Id": "1"},), 1, None)
    url = "/services/data/v62.0/query/01g-2000"
    more = query_page(
        SubAnswer("q", 200, {"totalSize": 9, "done": False, "nextRecordsUrl": url, "records": []})
    )
    assert more.next_url == url


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"records": []},
        {"records": [], "done": False},
        {"records": None, "done": True},
    ],
)
def test_an_odd_page_is_an_error(body: Any) -> None:
    with pytest.raises(UnexpectedAnswer):
        query_page(SubAnswer("q", 200, body))
