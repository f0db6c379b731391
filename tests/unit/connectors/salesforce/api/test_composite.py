"""Composite requests: what is sent, how answers are matched, and how rows are packed."""

from collections import Counter
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.salesforce.api.composite import (
    KEY_FIELD,
    MAX_STATEMENT,
    WRITE_HEADERS,
    Collection,
    Op,
    SubAnswer,
    Subrequest,
    WriteRow,
    collection_subrequest,
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
    classify_row,
)
from connectors.salesforce.packing import PackLimits, halve, pack


def upserts(count: int) -> list[dict[str, Any]]:
    return [{KEY_FIELD: f"grant/{number}", "LastName": "Doe"} for number in range(count)]


# what is sent


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
            update_subrequest("Contact", [{"Id": "0031x00000AbCdEAAV", "Phone": None}], "contacts"),
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
    with pytest.raises(ValueError, match=r"rows|needs|twice|takes no Id"):
        upsert_subrequest("Lead", KEY_FIELD, rows, "a")


def test_keys_that_differ_by_case_only_are_two_keys() -> None:
    assert upsert_subrequest("Lead", KEY_FIELD, [{KEY_FIELD: "g/a"}, {KEY_FIELD: "g/A"}], "a")


def test_an_update_needs_an_id_in_every_row() -> None:
    with pytest.raises(ValueError, match="needs its Id"):
        update_subrequest("Lead", [{"Phone": "1"}], "a")


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


# how answers are matched

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


def test_every_row_has_its_own_fate_by_position() -> None:
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
    assert classify_row(result.errors).action is Action.RETRY_ROW


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
    assert [classify_row(result.errors).action for result in results] == [Action.RETRY_ROW] * 3


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


# how rows are packed


def row(
    number: int,
    sobject: str = "Contact",
    op: Op = "upsert",
    account: str | None = None,
    *people: str,
) -> WriteRow:
    identity = {"Id": f"record{number}"} if op == "update" else {KEY_FIELD: f"g/{number}"}
    return WriteRow(sobject, op, identity, account, frozenset(people), number)


def test_a_thousand_rows_are_one_call() -> None:
    rows = [row(number, "Contact" if number % 5 else "Lead") for number in range(1000)]
    packed = pack(rows)
    ((call,),) = packed.groups
    assert sorted((part.sobject, len(part.rows)) for part in call) == [("Contact", 200)] * 4 + [
        ("Lead", 200)
    ]
    assert not packed.leftovers


def test_rows_of_one_account_lie_side_by_side() -> None:
    rows = [row(number, account=f"00{number % 7}") for number in range(70)]
    ((call,),) = pack(rows).groups
    accounts = [packed_row.account_id for part in call for packed_row in part.rows]
    assert accounts == sorted(accounts, key=str)


def test_what_does_not_fit_in_the_only_call_is_left_over_and_as_little_as_possible() -> None:
    odd = [row(1, "Lead", "update"), row(2, "Contact", "update"), row(3, "Lead")]
    many = [row(number) for number in range(10, 1010)]
    packed = pack([many[0], *odd, *many[1:]], PackLimits(calls=1))
    assert [len(call) for group in packed.groups for call in group] == [5]
    assert [left.tag for left in packed.leftovers] == [1, 2, 3]


def test_a_leftover_that_comes_first_is_never_left_again() -> None:
    odd = row(1, "Lead", "update")
    packed = pack([odd, *(row(number) for number in range(10, 1010))], PackLimits(calls=1))
    assert odd not in packed.leftovers
    assert len(packed.leftovers) == 200


def test_a_record_that_two_contacts_update_is_in_a_call_once() -> None:
    first = WriteRow("Contact", "update", {"Id": "record"}, tag=1)
    second = WriteRow("Contact", "update", {"Id": "record"}, tag=2)
    packed = pack([first, second])
    assert [
        [[r.tag for part in call for r in part.rows] for call in group] for group in packed.groups
    ] == [[[1], [2]]]


def test_one_account_with_more_rows_than_a_call_goes_call_after_call() -> None:
    packed = pack([row(number, account="001") for number in range(2500)])
    assert [
        [sum(len(part.rows) for part in call) for call in group] for group in packed.groups
    ] == [[1000, 1000, 500]]


def test_calls_without_a_common_account_or_person_may_go_side_by_side() -> None:
    packed = pack(
        [row(number, "Contact", "upsert", f"account{number % 286}") for number in range(2002)]
    )
    assert [len(group) for group in packed.groups] == [1, 1, 1]  # accounts of seven rows stay whole


tokens = st.integers(0, 12)
rows_of_any_kind = st.lists(
    st.builds(
        lambda identity, sobject, op, account, people: (identity, sobject, op, account, people),
        st.integers(0, 40),
        st.sampled_from(["Contact", "Lead"]),
        st.sampled_from(get_args(Op)),
        st.none() | tokens.map("001{}".format),
        st.frozensets(tokens.map("person{}".format), max_size=2),
    ),
    max_size=60,
)


@pytest.mark.slow
@settings(max_examples=200)
@given(rows_of_any_kind, st.integers(1, 5), st.integers(1, 6), st.none() | st.integers(1, 3))
def test_packing_keeps_every_promise(
    made: list[Any], collections: int, size: int, calls: int | None
) -> None:
    rows = [
        WriteRow(
            sobject,
            op,
            {"Id" if op == "update" else KEY_FIELD: f"{op}{identity}"},
            account,
            people,
            place,
        )
        for place, (identity, sobject, op, account, people) in enumerate(made)
    ]
    packed = pack(rows, PackLimits(collections, size, calls))
    sent = [call for group in packed.groups for call in group]

    # every row is in exactly one place
    places = Counter(r.tag for call in sent for part in call for r in part.rows)
    places.update(left.tag for left in packed.leftovers)
    assert places == Counter(range(len(rows)))
    assert [left.tag for left in packed.leftovers] == sorted(left.tag for left in packed.leftovers)

    # nothing is left over but by the limit of calls, and the first row goes first
    assert len(sent) <= calls if calls is not None else not packed.leftovers
    assert not rows or any(r.tag == 0 for part in sent[0] for r in part.rows)

    for call in sent:
        assert 1 <= len(call) <= collections
        identities = [next(iter(r.fields.values())) for part in call for r in part.rows]
        assert len(set(identities)) == len(identities)
        for part in call:
            assert 1 <= len(part.rows) <= size
            assert {(r.sobject, r.op) for r in part.rows} == {(part.sobject, part.op)}
            accounts = [r.account_id or "" for r in part.rows]
            assert accounts == sorted(accounts)

    # groups that may be in flight side by side share no Account, no person, no record
    claims = [
        {
            claim
            for call in group
            for part in call
            for r in part.rows
            for claim in (r.account_id, next(iter(r.fields.values())), *r.people)
            if claim
        }
        for group in packed.groups
    ]
    for place, claim in enumerate(claims):
        assert all(claim.isdisjoint(other) for other in claims[place + 1 :])


@settings(max_examples=50)
@given(rows_of_any_kind)
def test_whatever_is_packed_can_be_sent(made: list[Any]) -> None:
    rows = [
        WriteRow(
            sobject, op, {"Id" if op == "update" else KEY_FIELD: f"{op}{identity}"}, account, people
        )
        for identity, sobject, op, account, people in made
    ]
    for group in pack(rows, PackLimits(rows=5)).groups:
        for call in group:
            composite_body(
                [collection_subrequest(part, f"r{n}") for n, part in enumerate(call)], "62.0"
            )


def test_a_collection_of_updates_goes_by_id_and_one_of_upserts_by_key() -> None:
    assert (
        collection_subrequest(Collection("Lead", "update", (row(1, "Lead", "update"),)), "a").url
        == "/composite/sobjects"
    )
    assert collection_subrequest(Collection("Lead", "upsert", (row(1, "Lead"),)), "a").url.endswith(
        f"/Lead/{KEY_FIELD}"
    )


@given(st.lists(st.integers(1, 200), min_size=1, max_size=5), st.data())
def test_halving_leads_to_the_guilty_row_and_loses_none(
    sizes: list[int], data: st.DataObject
) -> None:
    call = tuple(
        Collection(
            "Lead", "upsert", tuple(row(1000 * place + number, "Lead") for number in range(size))
        )
        for place, size in enumerate(sizes)
    )
    everything = [r for part in call for r in part.rows]
    guilty = data.draw(st.sampled_from(everything))
    innocent: list[WriteRow] = []
    steps = 0
    while sum(len(part.rows) for part in call) > 1:
        halves = halve(call)
        assert [r for half in halves for part in half for r in part.rows] == [
            r for part in call for r in part.rows
        ]
        (call,) = [half for half in halves if any(guilty in part.rows for part in half)]
        innocent += [r for half in halves if half is not call for part in half for r in part.rows]
        steps += 1
    assert halve(call) == (call,)
    assert Counter(r.tag for r in [*innocent, guilty]) == Counter(r.tag for r in everything)
    assert steps <= 11
