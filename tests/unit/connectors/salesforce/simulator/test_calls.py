"""Whole calls of the simulated org: refused collections and Composites, and answers."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest

from tests.support.raw_org import BASE, KEY, Json, query_part, raw_org, row, upsert_part

ALL = "SELECT Id FROM Contact"


def refused_with(answer: Any) -> tuple[int, str]:
    return answer["httpStatusCode"], answer["body"][0]["errorCode"]


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([], "REQUIRED_FIELD_MISSING"),
        ([row(f"g/{number}") for number in range(201)], "EXCEEDED_ID_LIMIT"),
        ([{"LastName": "Doe", KEY: "g/1"}], "INVALID_INPUT"),
        ([row("g/1"), row("g/2", "Lead")], "INVALID_INPUT"),
        ([{**row("g/1"), "Id": "0035g0000000001AAA"}], "INVALID_FIELD"),
    ],
)
async def test_a_collection_is_refused_as_a_whole_and_nothing_of_it_is_stored(
    rows: list[Json], code: str
) -> None:
    async with raw_org() as org:
        response = await org.collection("PATCH", f"/Contact/{KEY}", rows)
        assert (response.status_code, response.json()[0]["errorCode"]) == (400, code)
        (answer,) = await org.subresponses(upsert_part("w", rows))
        assert refused_with(answer) == (400, code)
        assert org.refused == {code: 2}
        assert await org.query(ALL) == []


async def test_two_hundred_rows_are_taken() -> None:
    async with raw_org() as org:
        assert all(
            result["success"]
            for result in await org.upsert(*(row(f"g/{number}") for number in range(200)))
        )


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/composite/sobjects/Contact/Nothing__c", 404, "NOT_FOUND"),
        ("/composite/sobjects/Contact/Title", 400, "INVALID_EXTERNAL_ID_FIELD_NAME"),
        ("/composite/sobjects/Nothing/Nylas_Contact_Id__c", 404, "NOT_FOUND"),
        ("/composite/sobjects/Contact/Id", 400, "INVALID_INPUT"),
        ("/nothing", 404, "NOT_FOUND"),
        ("/query", 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_a_wrong_resource_is_refused(path: str, status: int, code: str) -> None:
    async with raw_org() as org:
        body = {"allOrNone": False, "records": [row("g/1")]}
        response = await org.http.patch(BASE + path, json=body)
        assert (response.status_code, response.json()[0]["errorCode"]) == (status, code)
        part = {"method": "PATCH", "url": BASE + path, "referenceId": "w", "body": body}
        (answer,) = await org.subresponses(part)
        assert refused_with(answer) == (status, code)


@pytest.mark.parametrize(
    ("version", "status"), [("v99.0", 404), ("v20.0", 410), ("v62", 404), ("v45.0", 404)]
)
async def test_a_version_that_does_not_serve_collections_is_refused(
    version: str, status: int
) -> None:
    async with raw_org() as org:
        url = f"/services/data/{version}/composite/sobjects/Contact/{KEY}"
        response = await org.http.patch(url, json={"records": [row("g/1")]})
        assert response.status_code == status


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b'{"a":"\\ud800"}',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"records":[],"allornone":true}',
        b'"text"',
    ],
)
async def test_a_body_that_cannot_be_read_is_a_parser_error(raw: bytes) -> None:
    async with raw_org() as org:
        url = f"{BASE}/composite/sobjects/Contact/{KEY}"
        response = await org.http.patch(
            url, content=raw, headers={"Content-Type": "application/json"}
        )
        assert (response.status_code, response.json()[0]["errorCode"]) == (400, "JSON_PARSER_ERROR")


async def test_a_body_that_does_not_say_that_it_is_json_is_refused() -> None:
    async with raw_org() as org:
        response = await org.http.post(
            f"{BASE}/composite", content=b"{}", headers={"Content-Type": "text/plain"}
        )
        assert (response.status_code, response.json()[0]["errorCode"]) == (
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        )


async def test_a_composite_holds_five_collections_and_queries_and_is_one_call() -> None:
    async with raw_org() as org:
        parts = [upsert_part(f"w{number}", [row(f"g/{number}")]) for number in range(5)]
        answers = await org.subresponses(*parts)
        assert [answer["referenceId"] for answer in answers] == [
            part["referenceId"] for part in parts
        ]
        assert [answer["httpStatusCode"] for answer in answers] == [200] * 5
        assert all(answer["body"][0]["success"] for answer in answers)
        assert set(answers[0]) == {"body", "httpHeaders", "httpStatusCode", "referenceId"}
        state = await org.control("GET", "state")
        assert state["calls"] == {"token": 1, "composite_write": 1}
        assert state["subrequests"] == {"collections_upsert": 5}
        assert state["api_calls"] == state["daily_used"] == 1


async def test_what_a_composite_holds_names_its_kind() -> None:
    describe = {"method": "GET", "url": f"{BASE}/sobjects/Contact/describe", "referenceId": "d"}
    async with raw_org() as org:
        await org.subresponses(query_part("q", ALL))
        await org.subresponses(describe, query_part("q", ALL))
        await org.subresponses(query_part("q", ALL), upsert_part("w", [row("g/1")]))
        await org.subresponses({"method": "GET", "url": f"{BASE}/limits", "referenceId": "l"})
        calls = (await org.control("GET", "state"))["calls"]
        del calls["token"]
        assert calls == {
            "composite_query": 1,
            "composite_describe": 1,
            "composite_mixed": 1,
            "composite_other": 1,
        }


@pytest.mark.parametrize(
    "parts",
    [
        [query_part(f"q{number}", ALL) for number in range(6)],
        [query_part(f"q{number}", ALL) for number in range(3)]
        + [upsert_part(f"w{n}", [row("g/1")]) for n in range(3)],
        [
            {"method": "GET", "url": f"{BASE}/limits", "referenceId": f"l{number}"}
            for number in range(26)
        ],
    ],
)
async def test_too_many_parts_are_one_answer_without_a_reference(parts: list[Json]) -> None:
    async with raw_org() as org:
        (answer,) = await org.subresponses(*parts)
        assert refused_with(answer) == (400, "LIMIT_EXCEEDED")
        assert answer["referenceId"] is None
        assert await org.query(ALL) == []


async def test_twenty_five_parts_are_taken() -> None:
    async with raw_org() as org:
        parts = [
            {"method": "GET", "url": f"{BASE}/limits", "referenceId": f"l{number}"}
            for number in range(25)
        ]
        assert len(await org.subresponses(*parts)) == 25


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([query_part("bad-id", ALL)], "INVALID_INPUT"),
        ([query_part("", ALL)], "INVALID_INPUT"),
        ([query_part("same", ALL), query_part("same", ALL)], "INVALID_INPUT"),
        ([{"method": "GET", "url": f"{BASE}/limits"}], "INVALID_INPUT"),
        ([{"method": "GET", "referenceId": "a"}], "JSON_PARSER_ERROR"),
        ([query_part("a", ALL, httpHeaders={"Sforce-Auto-Assign": False})], "JSON_PARSER_ERROR"),
        ([query_part("a", ALL, headers={})], "JSON_PARSER_ERROR"),
        ([], "REQUIRED_FIELD_MISSING"),
    ],
)
async def test_a_composite_that_is_not_well_formed_is_a_400(parts: list[Json], code: str) -> None:
    async with raw_org() as org:
        response = await org.composite(*parts)
        assert (response.status_code, response.json()[0]["errorCode"]) == (400, code)
        assert org.refused == {code: 1}


@pytest.mark.parametrize("name", ["Accept", "authorization", "Content-Type"])
async def test_an_inherited_header_on_a_subrequest_refuses_that_subrequest(name: str) -> None:
    async with raw_org() as org:
        good, bad = await org.subresponses(
            query_part("a", ALL), query_part("b", ALL, httpHeaders={name: "x"})
        )
        assert good["httpStatusCode"] == 200
        assert refused_with(bad)[0] == 400


async def test_headers_for_rows_do_nothing_on_the_composite_itself() -> None:
    rule = {"name": "R", "sobject": "Lead", "match_on": ["Email"], "action": "Alert"}
    world = {
        "duplicate_rules": [rule],
        "leads": [{"LastName": "A", "Company": "C", "Email": "a@x.com"}],
    }
    headers = {"Sforce-Auto-Assign": "FALSE", "Sforce-Duplicate-Rule-Header": "allowSave=true"}
    async with raw_org(world) as org:
        rows = [row("g/1", "Lead", Email="a@x.com"), row("g/2", "Lead", Email="b@x.com")]
        (outer,) = await org.subresponses(upsert_part("w", rows, "Lead"), headers=headers)
        assert outer["body"][0]["errors"][0]["statusCode"] == "DUPLICATES_DETECTED"
        assert (await org.control("GET", "state"))["auto_assign"] == {"Lead": 1}
        (inner,) = await org.subresponses(upsert_part("w", rows, "Lead", httpHeaders=headers))
        assert [result["success"] for result in inner["body"]] == [True, True]
        assert (await org.control("GET", "state"))["auto_assign"] == {"Lead": 1}


async def test_a_failing_part_leaves_the_others_alone() -> None:
    async with raw_org() as org:
        bad, good = await org.subresponses(
            query_part("a", "SELECT Nothing FROM Contact"), upsert_part("b", [row("g/1")])
        )
        assert refused_with(bad) == (400, "INVALID_FIELD")
        assert good["body"][0]["success"]


async def test_an_outer_all_or_none_still_shows_success_for_rows_that_were_taken_back() -> None:
    async with raw_org() as org:
        parts = [
            upsert_part("mixed", [row("g/1"), row("g/2", Email="bad")]),
            upsert_part("good", [row("g/3")]),
            query_part("query", ALL),
        ]
        mixed, good, query = await org.subresponses(*parts, allOrNone=True)
        assert [result["success"] for result in mixed["body"]] == [True, False]
        assert good["body"][0]["success"] is True
        assert refused_with(query) == (400, "PROCESSING_HALTED")
        assert await org.query(ALL) == []
        assert await org.control("GET", "writes") == []


async def test_an_outer_and_inner_all_or_none_says_of_each_row_that_it_was_taken_back() -> None:
    async with raw_org() as org:
        parts = [
            upsert_part("a", [row("g/1")], all_or_none=True),
            upsert_part("b", [row("g/2", Email="bad")]),
        ]
        first, _ = await org.subresponses(*parts, allOrNone=True)
        assert first["body"][0]["errors"][0]["statusCode"] == "ALL_OR_NONE_OPERATION_ROLLED_BACK"
        assert await org.query(ALL) == []


async def test_an_outer_all_or_none_without_a_failure_keeps_everything() -> None:
    async with raw_org() as org:
        await org.subresponses(
            upsert_part("a", [row("g/1")]), upsert_part("b", [row("g/2")]), allOrNone=True
        )
        assert len(await org.query(ALL)) == 2


async def test_a_later_part_may_refer_to_an_earlier_answer() -> None:
    async with raw_org() as org:
        account = {
            "method": "POST",
            "url": f"{BASE}/sobjects/Account",
            "referenceId": "account",
            "body": {"Name": "A"},
        }
        made, contact, read = await org.subresponses(
            account,
            upsert_part("contact", [row("g/1", AccountId="@{account.id}")]),
            {
                "method": "GET",
                "url": f"{BASE}/sobjects/Contact/@{{contact[0].id}}",
                "referenceId": "read",
            },
        )
        assert contact["body"][0]["success"]
        assert read["body"]["AccountId"] == made["body"]["id"]


async def test_a_reference_that_cannot_be_resolved_is_halted() -> None:
    async with raw_org() as org:
        failed, unknown = await org.subresponses(
            upsert_part("a", [row("g/1", AccountId="@{nothing.id}")]),
            {"method": "GET", "url": f"{BASE}/sobjects/Contact/@{{a[0].id}}", "referenceId": "b"},
        )
        assert refused_with(failed) == refused_with(unknown) == (400, "PROCESSING_HALTED")


async def test_a_composite_inside_of_a_composite_is_not_served() -> None:
    async with raw_org() as org:
        inner = {
            "method": "POST",
            "url": f"{BASE}/composite",
            "referenceId": "a",
            "body": {"compositeRequest": []},
        }
        (answer,) = await org.subresponses(inner)
        assert refused_with(answer) == (404, "NOT_FOUND")


async def test_a_raw_plus_in_a_query_url_is_a_space_and_an_encoded_one_is_a_plus() -> None:
    async with raw_org({"contacts": [{"LastName": "A", "Email": "a+b@x.com"}]}) as org:
        raw = {
            "method": "GET",
            "referenceId": "raw",
            "url": f"{BASE}/query?q={ALL} WHERE Email = 'a+b@x.com'",
        }
        without, encoded = await org.subresponses(
            raw, query_part("encoded", f"{ALL} WHERE Email = 'a+b@x.com'")
        )
        assert without["body"]["totalSize"] == 0
        assert encoded["body"]["totalSize"] == 1


async def test_a_long_statement_fits_into_a_composite_and_not_into_a_url() -> None:
    async with raw_org() as org:
        statement = (
            f"{ALL} WHERE Email IN ({','.join(repr(f'person{n}@example.com') for n in range(900))})"
        )
        assert len(statement) > 16_384
        response = await org.ask(statement)
        assert response.status_code == 414
        assert "json" not in response.headers["Content-Type"]
        (answer,) = await org.subresponses(query_part("q", statement))
        assert answer["httpStatusCode"] == 200


@pytest.mark.parametrize(
    ("settings", "status", "code"),
    [
        ({"statement_limit": 200}, 400, "MALFORMED_QUERY"),
        ({"query_uri_limit": 200}, 414, "URI_TOO_LONG"),
        ({"query_uri_limit": 200, "query_uri_status": 431}, 431, "URI_TOO_LONG"),
        ({"query_value_limit": 9}, 400, "QUERY_TOO_COMPLICATED"),
    ],
)
async def test_a_query_can_be_refused_for_its_size_inside_a_composite(
    settings: dict[str, Any], status: int, code: str
) -> None:
    async with raw_org({"settings": settings}) as org:
        statements = [
            f"{ALL} WHERE Email IN ({','.join(repr(f'p{n}@x.com') for n in range(count))})"
            for count in (1, 20)
        ]
        small, large = await org.subresponses(
            *(query_part(f"q{place}", statement) for place, statement in enumerate(statements))
        )
        assert small["httpStatusCode"] == 200
        assert (large["httpStatusCode"], large["body"][0]["errorCode"]) == (status, code)


async def test_bodies_travel_gzipped_both_ways() -> None:
    async with raw_org() as org:
        body = gzip.compress(
            orjson.dumps({"records": [row(f"g/{number}") for number in range(50)]})
        )
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        url = f"{BASE}/composite/sobjects/Contact/{KEY}"
        response = await org.http.patch(url, content=body, headers=headers)
        assert response.headers["Content-Encoding"] == "gzip"
        assert len(response.json()) == 50
        plain = await org.http.get(
            f"{BASE}/sobjects/Contact/describe", headers={"Accept-Encoding": "identity"}
        )
        assert "Content-Encoding" not in plain.headers
        assert plain.json()["name"] == "Contact"
        assert (await org.control("GET", "state"))["gzipped_requests"] == 1


async def test_describe_tells_what_a_client_checks() -> None:
    async with raw_org({"record_types": {"Lead": [{"name": "Partner", "default": True}]}}) as org:
        contact = (await org.http.get(f"{BASE}/sobjects/Contact/describe")).json()
        fields = {field["name"]: field for field in contact["fields"]}
        key = fields[KEY]
        assert (key["length"], key["externalId"], key["unique"], key["caseSensitive"]) == (
            255,
            True,
            True,
            True,
        )
        assert (fields["Nylas_Version__c"]["type"], fields["Nylas_Version__c"]["precision"]) == (
            "double",
            18,
        )
        assert fields["Nylas_Email_2__c"]["type"] == "email"
        lengths = {
            name: fields[name]["length"]
            for name in ("FirstName", "LastName", "Title", "Email", "MailingCity")
        }
        assert lengths == {
            "FirstName": 40,
            "LastName": 80,
            "Title": 128,
            "Email": 80,
            "MailingCity": 40,
        }
        lead = (await org.http.get(f"{BASE}/sobjects/Lead/describe")).json()
        required = [
            field["name"]
            for field in lead["fields"]
            if field["createable"] and not field["nillable"] and not field["defaultedOnCreate"]
        ]
        assert required == ["LastName", "Company"]
        assert [
            (kind["name"], kind["defaultRecordTypeMapping"]) for kind in lead["recordTypeInfos"]
        ] == [
            ("Partner", True),
            ("Master", False),
        ]
        assert (await org.http.get(f"{BASE}/sobjects/Nothing/describe")).status_code == 404


async def test_an_org_may_lack_a_field() -> None:
    async with raw_org({"fields": {"Lead": {"Nylas_Email_3__c": None}}}) as org:
        lead = (await org.http.get(f"{BASE}/sobjects/Lead/describe")).json()
        assert "Nylas_Email_3__c" not in {field["name"] for field in lead["fields"]}
        (result,) = await org.upsert(row("g/1", "Lead", Nylas_Email_3__c="a@x.com"), sobject="Lead")
        assert result["errors"][0]["statusCode"] == "INVALID_FIELD"


async def test_the_version_rule_is_to_be_seen_unless_it_is_not_there() -> None:
    statement = (
        "SELECT Id, Active FROM ValidationRule WHERE EntityDefinition.QualifiedApiName = 'Lead'"
    )
    async with raw_org() as org:
        (rule,) = await org.query(statement, "tooling/query")
        assert rule["Active"] is True
        assert "PRIORVALUE(Nylas_Version__c)" in rule["Metadata"]["errorConditionFormula"]
        await org.control("POST", "settings", {"version_rule": False})
        assert await org.query(statement, "tooling/query") == []
        assert (await org.ask("SELECT Id FROM Flow", "tooling/query")).json()[0][
            "errorCode"
        ] == "INVALID_TYPE"


async def test_the_lead_field_mapping_is_to_be_seen_where_there_is_one() -> None:
    statement = "SELECT Metadata FROM LeadConvertSettings"
    async with raw_org() as org:
        (settings,) = await org.query(statement, "tooling/query")
        (mapping,) = settings["Metadata"]["objectMapping"]
        assert mapping["outputObject"] == "Contact"
        assert {"inputField": KEY, "outputField": KEY} in mapping["mappingFields"]
        await org.control("POST", "settings", {"lead_mapping": False})
        assert await org.query(statement, "tooling/query") == []


async def test_the_limits_and_the_header_count_down_together() -> None:
    async with raw_org({"settings": {"daily_limit": 100, "daily_used": 40}}) as org:
        response = await org.http.get(f"{BASE}/limits")
        assert response.json()["DailyApiRequests"] == {"Max": 100, "Remaining": 59}
        assert response.headers["Sforce-Limit-Info"] == "api-usage=41/100"
        assert "Sforce-Limit-Info" not in (await org.http.get("/services/data")).headers
        assert (
            "Sforce-Limit-Info" not in (await org.http.get("/services/data/v99.0/limits")).headers
        )


async def test_the_header_takes_every_documented_form() -> None:
    form = "api-usage={used}/{max}; per-app-api-usage=17/250(appName=sample-connected-app)"
    async with raw_org({"settings": {"limit_info": form}}) as org:
        header = (await org.http.get(f"{BASE}/limits")).headers["Sforce-Limit-Info"]
        assert (
            header == "api-usage=1/100000; per-app-api-usage=17/250(appName=sample-connected-app)"
        )
        await org.control("POST", "settings", {"limit_info": ""})
        assert "Sforce-Limit-Info" not in (await org.http.get(f"{BASE}/limits")).headers
        await org.control(
            "POST", "settings", {"limit_info": "{used}", "limit_info_noise": 50, "daily_used": 1000}
        )
        seen = [
            int((await org.http.get(f"{BASE}/limits")).headers["Sforce-Limit-Info"])
            for _ in range(10)
        ]
        assert seen != sorted(seen)


async def test_when_the_days_calls_are_used_up_every_call_is_a_403_until_there_are_more() -> None:
    async with raw_org({"settings": {"daily_limit": 2}}) as org:
        await org.query(ALL)
        await org.query(ALL)
        response = await org.ask(ALL)
        assert response.status_code == 403
        assert response.json() == [
            {"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}
        ]
        assert response.headers["Sforce-Limit-Info"] == "api-usage=2/2"
        await org.control("POST", "settings", {"daily_limit": 3})
        assert await org.query(ALL) == []
