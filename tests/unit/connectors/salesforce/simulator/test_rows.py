"""The simulated org's rules for a row: what is stored, and what is refused with which words."""

import asyncio
from typing import Any

import pytest

from tests.support.raw_org import KEY, VERSION, Json, RawOrg, raw_org, row

ACCOUNT = "0015g0000000001"  # the first Account of a world, by its 15 characters


def error_of(results: list[Json], position: int = 0) -> tuple[str, str, list[str]]:
    result = results[position]
    assert set(result) == {"success", "errors"}
    assert result["success"] is False
    (error,) = result["errors"]
    return error["statusCode"], error["message"], error["fields"]


async def arrival(org: RawOrg) -> None:
    """Wait until a request is under way, at most for two seconds."""
    for _ in range(400):
        if org.world.traffic.in_flight:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("no request arrived")


async def test_an_upsert_creates_and_then_updates_and_says_which_in_the_documented_shape() -> None:
    async with raw_org() as org:
        (first,) = await org.upsert(row("g/1", FirstName="Ann"))
        (second,) = await org.upsert(row("g/1", FirstName="Anna"))
        assert first == {"id": first["id"], "success": True, "errors": [], "created": True}
        assert second == {"id": first["id"], "success": True, "errors": [], "created": False}
        assert len(first["id"]) == 18
        assert org.stored("g/1")["Name"] == "Anna Doe"


async def test_a_field_that_is_absent_stays_and_one_that_is_null_is_cleared() -> None:
    async with raw_org() as org:
        await org.upsert(row("g/1", Title="Boss", Phone="1"))
        await org.upsert(row("g/1", Title=None))
        stored = org.stored("g/1")
        assert "Title" not in stored
        assert stored["Phone"] == "1"


async def test_text_is_trimmed_blank_text_is_null_and_addresses_are_lower_case() -> None:
    async with raw_org() as org:
        await org.upsert(
            row(
                "g/1",
                Title="  Boss\n",
                Department="   ",
                Email=" Ann@Example.COM ",
                FirstName="\u00a0Ann",
            )
        )
        stored = org.stored("g/1")
        assert stored["Title"] == "Boss"
        assert "Department" not in stored
        assert stored["Email"] == "ann@example.com"
        assert stored["FirstName"] == "\u00a0Ann"


async def test_field_names_are_taken_in_any_case() -> None:
    async with raw_org() as org:
        await org.upsert({"attributes": {"type": "Contact"}, "lastname": "Doe", KEY.lower(): "g/1"})
        assert org.stored("g/1")["LastName"] == "Doe"


@pytest.mark.parametrize(
    ("fields", "code", "message", "named"),
    [
        (
            {"LastName": "x" * 81},
            "STRING_TOO_LONG",
            f"Last Name: data value too large: {'x' * 81} (max length=80)",
            ["LastName"],
        ),
        ({"LastName": "é" * 79 + "😀"}, "STRING_TOO_LONG", None, ["LastName"]),
        (
            {"Phone": "1" * 41},
            "STRING_TOO_LONG",
            f"Business Phone: data value too large: {'1' * 41} (max length=40)",
            ["Phone"],
        ),
        (
            {"LastName": "   "},
            "REQUIRED_FIELD_MISSING",
            "Required fields are missing: [LastName]",
            ["LastName"],
        ),
        (
            {"Email": "badone"},
            "INVALID_EMAIL_ADDRESS",
            "Email: invalid email address: badone",
            ["Email"],
        ),
        (
            {"Nylas_Email_2__c": "a@b"},
            "INVALID_EMAIL_ADDRESS",
            "Nylas Email 2: invalid email address: a@b",
            ["Nylas_Email_2__c"],
        ),
        (
            {"Foo__c": "x"},
            "INVALID_FIELD",
            "No such column 'Foo__c' on sobject of type Contact",
            [],
        ),
        (
            {"CreatedDate": "2020-01-01T00:00:00Z"},
            "INVALID_FIELD_FOR_INSERT_UPDATE",
            None,
            ["CreatedDate"],
        ),
        ({"Name": "Ann"}, "INVALID_FIELD_FOR_INSERT_UPDATE", None, ["Name"]),
        (
            {"AccountId": "nonsense"},
            "MALFORMED_ID",
            "Account ID: id value of incorrect type: nonsense",
            ["AccountId"],
        ),
        ({"AccountId": "0035g0000000001AAA"}, "MALFORMED_ID", None, ["AccountId"]),
        (
            {"AccountId": "0015g0000000009AAA"},
            "INVALID_CROSS_REFERENCE_KEY",
            "invalid cross reference id",
            [],
        ),
        ({VERSION: 10**18}, "NUMBER_OUTSIDE_VALID_RANGE", None, [VERSION]),
    ],
)
async def test_a_row_is_refused(
    fields: Json, code: str, message: str | None, named: list[str]
) -> None:
    async with raw_org() as org:
        results = await org.upsert(row("g/1", **fields), row("g/2"))
        found = error_of(results)
        assert (found[0], found[2]) == (code, named)
        assert message is None or found[1] == message
        assert results[1]["success"] is True
        assert org.refused == {code: 1}


async def test_several_wrong_fields_are_several_errors() -> None:
    async with raw_org() as org:
        (result,) = await org.upsert(row("g/1", Email="bad", Title="x" * 129))
        assert [error["statusCode"] for error in result["errors"]] == [
            "INVALID_EMAIL_ADDRESS",
            "STRING_TOO_LONG",
        ]


async def test_a_lead_names_everything_that_is_missing() -> None:
    async with raw_org() as org:
        (result,) = await org.upsert({"attributes": {"type": "Lead"}, KEY: "g/1"}, sobject="Lead")
        assert error_of([result]) == (
            "REQUIRED_FIELD_MISSING",
            "Required fields are missing: [LastName, Company]",
            ["LastName", "Company"],
        )


async def test_a_required_field_cannot_be_blanked_by_an_update() -> None:
    async with raw_org() as org:
        await org.upsert(row("g/1"))
        assert error_of(await org.upsert(row("g/1", LastName=None)))[0] == "REQUIRED_FIELD_MISSING"
        assert org.stored("g/1")["LastName"] == "Doe"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LastName", 5),
        ("Birthdate", "soon"),
        ("Birthdate", "2020-02-30"),
        (VERSION, "5"),
        (VERSION, True),
        ("Title", ["x"]),
    ],
)
async def test_a_value_of_a_wrong_type_refuses_the_whole_call_or_as_set_its_row(
    name: str, value: Any
) -> None:
    async with raw_org() as org:
        response = await org.collection(
            "PATCH", f"/Contact/{KEY}", [row("g/1"), row("g/2", **{name: value})]
        )
        assert response.status_code == 400
        assert response.json()[0]["errorCode"] == "JSON_PARSER_ERROR"
        assert await org.ids("Id != null") == []
        await org.control("POST", "settings", {"type_errors": "row"})
        results = await org.upsert(row("g/1"), row("g/2", **{name: value}))
        assert results[0]["success"] is True
        assert error_of(results, 1)[0] == "INVALID_TYPE_ON_FIELD_IN_RECORD"


@pytest.mark.parametrize("key", [None, "", "   "])
async def test_a_row_without_a_key_is_not_created(key: str | None) -> None:
    async with raw_org() as org:
        assert error_of(await org.upsert({**row(), KEY: key})) == (
            "MISSING_ARGUMENT",
            f"{KEY} not specified",
            [],
        )
        assert error_of(await org.upsert(row())) == ("MISSING_ARGUMENT", f"{KEY} not specified", [])
        assert await org.ids("Id != null") == []


async def test_rows_with_the_same_key_in_one_request_all_fail_and_keys_are_case_sensitive() -> None:
    async with raw_org() as org:
        results = await org.upsert(row("g/A"), row("g/a"), row("g/A"), row("g/B"))
        expected: tuple[str, str, list[str]] = (
            "DUPLICATE_VALUE",
            "Duplicate external id specified: g/A",
            [],
        )
        assert error_of(results, 0) == error_of(results, 2) == expected
        assert results[1]["success"]
        assert results[3]["success"]


async def test_with_a_key_field_that_ignores_case_other_cases_are_the_same_key() -> None:
    async with raw_org({"fields": {"Contact": {KEY: {"caseSensitive": False}}}}) as org:
        results = await org.upsert(row("g/A"), row("g/a"))
        assert [result["success"] for result in results] == [False, False]
        (created,) = await org.upsert(row("g/A"))
        (updated,) = await org.upsert(row("g/a"))
        assert created["id"] == updated["id"]


async def test_a_unique_value_names_its_holder_by_15_characters_and_no_field() -> None:
    async with raw_org() as org:
        first, second = await org.upsert(row("g/1"), row("g/2"))
        results = await org.update(
            {"attributes": {"type": "Contact"}, "Id": second["id"], KEY: "g/1"}
        )
        code, message, fields = error_of(results)
        assert (code, fields) == ("DUPLICATE_VALUE", [])
        assert (
            message == f"duplicate value found: {KEY} duplicates value on record with id: "
            f"{first['id'][:15]}"
        )


async def test_a_key_that_sharing_hides_is_invisible_to_queries_and_fails_as_a_duplicate() -> None:
    async with raw_org({"contacts": [{"LastName": "Hidden", KEY: "g/1", "_hidden": True}]}) as org:
        assert await org.ids(f"{KEY} = 'g/1'") == []
        code, message, _ = error_of(await org.upsert(row("g/1")))
        assert code == "DUPLICATE_VALUE"
        assert message.endswith("record with id: 0035g0000000001")
        (access,) = await org.query("SELECT PermissionsViewAllData FROM UserPermissionAccess")
        assert access["PermissionsViewAllData"] is False


async def test_a_hidden_account_cannot_be_referred_to() -> None:
    async with raw_org({"accounts": [{"Name": "Secret", "_hidden": True}]}) as org:
        results = await org.upsert(row("g/1", AccountId=ACCOUNT))
        assert error_of(results)[0] == "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY"


async def test_a_key_that_is_not_unique_and_held_twice_is_refused() -> None:
    world = {
        "contacts": [{"LastName": "A", "Email": "x@y.com"}, {"LastName": "B", "Email": "x@y.com"}]
    }
    async with raw_org(world) as org:
        code, message, _ = error_of(await org.upsert(row(Email="X@y.com"), key="Email"))
        assert code == "DUPLICATE_EXTERNAL_ID"
        assert message == (
            "Email: more than one record found for external id field: [0035g0000000001, "
            "0035g0000000002]"
        )


async def test_an_older_version_of_the_same_contact_is_refused_by_the_orgs_own_rule() -> None:
    async with raw_org() as org:
        await org.upsert(row("g/1", Title="new", **{VERSION: 10}))
        results = await org.upsert(row("g/1", Title="old", **{VERSION: 9}))
        code, message, fields = error_of(results)
        assert (code, fields) == ("FIELD_CUSTOM_VALIDATION_EXCEPTION", [VERSION])
        assert message
        assert (await org.upsert(row("g/1", Title="same", **{VERSION: 10})))[0]["success"]
        assert org.stored("g/1")["Title"] == "same"
        assert (await org.control("GET", "state"))["version_regressions"] == 0


async def test_another_key_or_none_may_bring_any_version() -> None:
    async with raw_org() as org:
        (made,) = await org.upsert(row("g/1", **{VERSION: 10}))
        record = {"attributes": {"type": "Contact"}, "Id": made["id"]}
        assert (await org.update({**record, KEY: "g/2", VERSION: 3}))[0]["success"]
        assert (await org.update({**record, KEY: None, VERSION: None}))[0]["success"]
        assert (await org.update({**record, KEY: "g/1", VERSION: 1}))[0]["success"]


async def test_a_user_with_the_restore_permission_may_bring_an_older_version() -> None:
    granted = {"custom_permissions": ["Nylas_Restore_Older_Version"]}
    async with raw_org({"settings": granted}) as org:
        await org.upsert(row("g/1", **{VERSION: 10}))
        assert (await org.upsert(row("g/1", **{VERSION: 9})))[0]["success"]


async def test_without_the_rule_an_older_version_is_stored_and_counted() -> None:
    async with raw_org({"settings": {"version_rule": False}}) as org:
        await org.upsert(row("g/1", **{VERSION: 10}))
        assert (await org.upsert(row("g/1", **{VERSION: 9})))[0]["success"]
        assert (await org.control("GET", "state"))["version_regressions"] == 1
        writes = await org.control("GET", "writes")
        assert [
            (write["seq"], write["key"], write["version"], write["created"]) for write in writes
        ] == [
            (1, "g/1", 10.0, True),
            (2, "g/1", 9.0, False),
        ]
        assert (await org.control("GET", "writes?after=1&limit=5"))[0]["fields"] == {
            "LastName": "Doe",
            KEY: "g/1",
            VERSION: 9.0,
        }


async def test_numbers_come_back_as_floating_point() -> None:
    async with raw_org() as org:
        await org.upsert(row("g/1", **{VERSION: 1_750_000_000}))
        response = await org.ask(f"SELECT {VERSION} FROM Contact")
        assert f'"{VERSION}":1750000000.0' in response.text


async def test_updates_by_id_take_15_or_18_characters() -> None:
    async with raw_org() as org:
        (made,) = await org.upsert(row("g/1"))
        for given in (made["id"], made["id"][:15]):
            (result,) = await org.update(
                {"attributes": {"type": "Contact"}, "Id": given, "Title": given}
            )
            assert result == {"id": made["id"], "success": True, "errors": []}


@pytest.mark.parametrize(
    ("given", "code", "message", "named"),
    [
        (None, "MISSING_ARGUMENT", "Id not specified in an update call", []),
        ("", "MISSING_ARGUMENT", "Id not specified in an update call", []),
        ("nonsense", "MALFORMED_ID", "Contact ID: id value of incorrect type: nonsense", ["Id"]),
        ("0015g0000000001AAA", "MALFORMED_ID", None, ["Id"]),
        ("0035g0000000001AAB", "MALFORMED_ID", None, ["Id"]),
        ("0035g0000000009AAA", "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", []),
        ("0035g0000000001AAA", "ENTITY_IS_DELETED", "entity is deleted", []),
        ("0035g0000000002AAA", "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", None, []),
    ],
)
async def test_an_update_by_id_is_refused(
    given: str | None, code: str, message: str | None, named: list[str]
) -> None:
    world = {
        "contacts": [
            {"LastName": "Gone", "IsDeleted": True},
            {"LastName": "Hidden", "_hidden": True},
        ]
    }
    async with raw_org(world) as org:
        results = await org.update({"attributes": {"type": "Contact"}, "Id": given, "Title": "x"})
        found = error_of(results)
        assert (found[0], found[2]) == (code, named)
        assert message is None or found[1] == message


async def test_the_same_id_twice_in_an_update_fails_every_row_that_shares_it() -> None:
    async with raw_org({"contacts": [{"LastName": "A"}]}) as org:
        same = {"attributes": {"type": "Contact"}, "Title": "x"}
        results = await org.update(
            {**same, "Id": "0035g0000000001"}, {**same, "Id": "0035g0000000001AAA"}
        )
        assert error_of(results, 0)[0] == error_of(results, 1)[0] == "DUPLICATE_VALUE"


async def test_a_deleted_record_frees_its_key() -> None:
    async with raw_org() as org:
        (made,) = await org.upsert(row("g/1"))
        await org.control("DELETE", f"records/Contact/{made['id']}")
        (again,) = await org.upsert(row("g/1"))
        assert again["created"] is True
        assert again["id"] != made["id"]


async def test_a_deleted_account_cannot_be_referred_to() -> None:
    async with raw_org({"accounts": [{"Name": "Gone", "IsDeleted": True}]}) as org:
        assert error_of(await org.upsert(row("g/1", AccountId=ACCOUNT)))[0] == "ENTITY_IS_DELETED"


async def test_a_converted_lead_accepts_no_write() -> None:
    async with raw_org() as org:
        (made,) = await org.upsert(row("g/1", "Lead"), sobject="Lead")
        contact = await org.control("POST", "convert", {"lead": made["id"]})
        expected: tuple[str, str, list[str]] = (
            "CANNOT_UPDATE_CONVERTED_LEAD",
            "cannot reference converted lead",
            [],
        )
        assert error_of(await org.upsert(row("g/1", "Lead", Title="x"), sobject="Lead")) == expected
        assert (
            error_of(
                await org.update({"attributes": {"type": "Lead"}, "Id": made["id"], "Title": "x"})
            )
            == expected
        )
        (found,) = await org.query(
            f"SELECT IsConverted, ConvertedContactId FROM Lead WHERE {KEY} = 'g/1'"
        )
        assert (found["IsConverted"], found["ConvertedContactId"]) == (True, contact["Id"])
        assert contact[KEY] == "g/1"


async def test_a_conversion_fills_blanks_and_moves_the_key_only_with_the_mapping() -> None:
    world = {
        "settings": {"lead_mapping": False},
        "contacts": [{"LastName": "Doe", "Title": "Boss"}],
    }
    async with raw_org(world) as org:
        (made,) = await org.upsert(row("g/1", "Lead", Title="Clerk", Phone="5"), sobject="Lead")
        contact = await org.control(
            "POST", "convert", {"lead": made["id"], "contact": "0035g0000000001"}
        )
        assert (contact["Title"], contact["Phone"]) == ("Boss", "5")
        assert KEY not in contact


async def test_a_restricted_picklist_takes_only_its_values() -> None:
    world = {
        "fields": {
            "Contact": {
                "Tier__c": {"type": "picklist", "values": ["Gold"], "restrictedPicklist": True}
            }
        }
    }
    async with raw_org(world) as org:
        results = await org.upsert(
            row("g/1", Tier__c="Gold"), row("g/2", Tier__c="Tin"), row("g/3", LeadSource="Nylas")
        )
        assert [result["success"] for result in results] == [True, False, True]
        assert error_of(results, 1) == (
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
            "Tier: bad value for restricted picklist field: Tin",
            ["Tier__c"],
        )


async def test_a_field_that_only_a_creation_may_set_is_refused_in_an_update() -> None:
    async with raw_org() as org:
        created = await org.upsert(row("g/1", "Lead", IsConverted=False), sobject="Lead")
        assert created[0]["success"]
        again = await org.upsert(row("g/1", "Lead", IsConverted=False), sobject="Lead")
        assert error_of(again)[0::2] == ("INVALID_FIELD_FOR_INSERT_UPDATE", ["IsConverted"])


async def test_a_hidden_field_is_unknown_everywhere_and_a_read_only_one_refuses_writes() -> None:
    settings = {"hidden_fields": ["Contact.Title"], "read_only_fields": ["Contact.Phone"]}
    async with raw_org({"settings": settings}) as org:
        results = await org.upsert(row("g/1", Title="x"), row("g/2", Phone="1"))
        assert error_of(results, 0) == (
            "INVALID_FIELD",
            "No such column 'Title' on sobject of type Contact",
            [],
        )
        assert error_of(results, 1)[0::2] == ("INVALID_FIELD_FOR_INSERT_UPDATE", ["Phone"])
        fields = {
            item["name"]: item
            for item in (
                await org.http.get("/services/data/v62.0/sobjects/Contact/describe")
            ).json()["fields"]
        }
        assert "Title" not in fields
        assert (fields["Phone"]["createable"], fields["Phone"]["updateable"]) == (False, False)
        assert (await org.ask("SELECT Title FROM Contact")).json()[0][
            "errorCode"
        ] == "INVALID_FIELD"
        assert (await org.query("SELECT Phone FROM Contact")) == []
        await org.control("POST", "settings", {"hidden_fields": []})
        assert (await org.upsert(row("g/1", Title="x")))[0]["success"]


async def test_system_fields_say_who_wrote_and_when() -> None:
    async with raw_org() as org:
        await org.control("POST", "clock", {"now": "2026-01-02T03:04:05Z", "frozen": True})
        (made,) = await org.upsert(row("g/1"))
        await org.control("POST", "clock", {"advance_seconds": 60})
        await org.control("PATCH", f"records/Contact/{made['id']}", {"Title": "by hand"})
        state = await org.control("GET", "state")
        (found,) = await org.query(
            "SELECT CreatedById, OwnerId, LastModifiedById, CreatedDate, SystemModstamp FROM "
            "Contact"
        )
        assert (
            found["CreatedById"]
            == found["OwnerId"]
            == state["user_id"]
            != found["LastModifiedById"]
        )
        assert found["CreatedDate"] == "2026-01-02T03:04:05.000+0000"
        assert found["SystemModstamp"] == "2026-01-02T03:05:05.000+0000"


async def test_an_account_that_an_earlier_request_holds_locks_the_rows_of_the_later() -> None:
    async with raw_org(
        {"accounts": [{"Name": "A"}, {"Name": "B"}], "settings": {"latency_ms_call": 200}}
    ) as org:
        other = "0015g0000000002"
        first = asyncio.create_task(org.upsert(row("g/1", AccountId=ACCOUNT)))
        await arrival(org)
        later = await org.upsert(
            row("g/2", AccountId=ACCOUNT), row("g/3", AccountId=other), row("g/4")
        )
        assert (await first)[0]["success"]
        code, message, fields = error_of(later)
        assert (code, fields) == ("UNABLE_TO_LOCK_ROW", [])
        assert (
            message == f"unable to obtain exclusive access to this record or 1 records: {ACCOUNT}"
        )
        assert [result["success"] for result in later[1:]] == [True, True]
        assert (await org.control("GET", "state"))["overlaps"] == {"accounts": 1, "people": 0}
        await org.control("POST", "settings", {"latency_ms_call": 0})
        assert (await org.upsert(row("g/2", AccountId=ACCOUNT)))[0]["success"]


async def test_moving_a_contact_locks_the_account_that_it_leaves_as_well() -> None:
    world = {
        "accounts": [{"Name": "A"}, {"Name": "B"}],
        "contacts": [{"LastName": "X", "AccountId": ACCOUNT, KEY: "g/1"}],
    }
    async with raw_org({**world, "settings": {"latency_ms_call": 200}}) as org:
        first = asyncio.create_task(org.upsert(row("g/2", AccountId=ACCOUNT)))
        await arrival(org)
        assert (
            error_of(await org.upsert(row("g/1", AccountId="0015g0000000002")))[0]
            == "UNABLE_TO_LOCK_ROW"
        )
        assert (await first)[0]["success"]


async def test_the_later_of_two_requests_that_create_the_same_key_fails_as_a_duplicate() -> None:
    async with raw_org({"settings": {"latency_ms_call": 100}}) as org:
        results = await asyncio.gather(org.upsert(row("g/1")), org.upsert(row("g/1")))
        outcomes = sorted(result[0]["success"] for result in results)
        assert outcomes == [False, True]
        loser = next(result for result in results if not result[0]["success"])
        assert error_of(loser)[0] == "DUPLICATE_VALUE"
        assert (await org.control("GET", "state"))["overlaps"]["people"] == 1


async def test_a_collection_beyond_the_governor_limit_fails_and_a_smaller_one_passes() -> None:
    async with raw_org({"settings": {"governor_rows": 2}}) as org:
        rows = [row(f"g/{number}") for number in range(3)]
        results = await org.upsert(*rows)
        assert all(
            error_of([result])[0] == "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY" for result in results
        )
        assert "Too many SOQL queries: 101" in error_of(results)[1]
        assert all(result["success"] for result in await org.upsert(*rows[:2]))
        await org.control("POST", "settings", {"governor_error": "cpu"})
        assert "Apex CPU time limit exceeded" in error_of(await org.upsert(*rows))[1]


@pytest.mark.parametrize(
    ("header", "assigned"), [(None, 1), ("TRUE", 1), ("FALSE", 0), ("false", 0)]
)
async def test_rows_that_ran_assignment_rules_are_counted(
    header: str | None, assigned: int
) -> None:
    async with raw_org({"settings": {"assignment_owner": "0055g0000000002AAA"}}) as org:
        headers = {} if header is None else {"Sforce-Auto-Assign": header}
        await org.upsert(row("g/1", "Lead"), sobject="Lead", headers=headers)
        assert (await org.control("GET", "state"))["auto_assign"].get("Lead", 0) == assigned
        assert (org.stored("g/1", "Lead")["OwnerId"] == "0055g0000000002AAA") == bool(assigned)


RULE = {
    "name": "Contacts_DR",
    "sobject": "Contact",
    "match_on": ["Email"],
    "match_objects": ["Contact", "Lead"],
}
TYPED_IN = {"contacts": [{"LastName": "Typed", "Email": "ann@example.com"}]}
ALLOW = {"Sforce-Duplicate-Rule-Header": "allowSave=true; includeRecordDetails=true"}


@pytest.mark.parametrize(
    ("action", "headers", "saved"),
    [("Alert", {}, False), ("Alert", ALLOW, True), ("Block", {}, False), ("Block", ALLOW, False)],
)
async def test_allow_save_passes_an_alert_and_never_a_block(
    action: str, headers: dict[str, str], saved: bool
) -> None:
    async with raw_org({**TYPED_IN, "duplicate_rules": [{**RULE, "action": action}]}) as org:
        (result,) = await org.upsert(row("g/1", Email="Ann@Example.com"), headers=headers)
        assert result["success"] is saved
        if not saved:
            (error,) = result["errors"]
            assert (error["statusCode"], error["message"]) == (
                "DUPLICATES_DETECTED",
                "Use one of these records?",
            )
            found = error["duplicateResult"]
            assert found["allowSave"] is (action == "Alert")
            (match,) = found["matchResults"]
            assert match["entityType"] == "Contact"
            record = match["matchRecords"][0]["record"]
            assert record["Id"] == "0035g0000000001AAA"
            assert ("Email" in record) == bool(headers)


async def test_a_duplicate_rule_can_match_leads_and_leaves_the_record_itself_alone() -> None:
    world = {"leads": [{"LastName": "L", "Company": "C", "Email": "ann@example.com"}]}
    rule = {**RULE, "action": "Block", "message": "Known already"}
    async with raw_org({**world, "duplicate_rules": [rule]}) as org:
        (result,) = await org.upsert(row("g/1", Email="ann@example.com"))
        assert result["errors"][0]["message"] == "Known already"
        assert result["errors"][0]["duplicateResult"]["matchResults"][0]["entityType"] == "Lead"
        assert (await org.upsert(row("g/2", Email="bob@example.com")))[0]["success"]
        assert (await org.upsert(row("g/2", Email="bob@example.com", Title="x")))[0]["success"]
        rules = await org.query("SELECT DeveloperName, SobjectType, IsActive FROM DuplicateRule")
        assert [(found["DeveloperName"], found["IsActive"]) for found in rules] == [
            ("Contacts_DR", True)
        ]
        told = (await org.http.get("/services/data/v62.0/ui-api/duplicates/Contact")).json()
        (found,) = told["duplicateRules"]
        assert (told["dedupeEnabled"], found["name"], found["actionOnInsert"]) == (
            True,
            "Contacts_DR",
            "Block",
        )
        told = (await org.http.get("/services/data/v62.0/ui-api/duplicates/Lead")).json()
        assert (told["dedupeEnabled"], told["duplicateRules"]) == (False, [])


async def test_a_single_record_spells_the_result_as_recorded_or_as_configured() -> None:
    async with raw_org({**TYPED_IN, "duplicate_rules": [{**RULE, "action": "Block"}]}) as org:
        url = f"/services/data/v62.0/sobjects/Contact/{KEY}/g%2F1"
        response = await org.http.patch(url, json={"LastName": "Ann", "Email": "ann@example.com"})
        assert response.status_code == 400
        (error,) = response.json()
        assert error["errorCode"] == "DUPLICATES_DETECTED"
        assert "fields" not in error
        assert error["duplicateResut"]["matchResults"][0]["size"] == 1
        await org.control("POST", "settings", {"duplicate_result_key": "duplicateResut"})
        (result,) = await org.upsert(row("g/1", Email="ann@example.com"))
        assert "duplicateResut" in result["errors"][0]


async def test_all_or_none_takes_back_the_rows_that_were_right_and_they_still_carry_an_id() -> None:
    async with raw_org() as org:
        good, bad = await org.upsert(row("g/1"), row("g/2", Email="bad"), allOrNone=True)
        assert good["success"] is False
        assert good["id"].startswith("003")
        assert good["errors"][0]["statusCode"] == "ALL_OR_NONE_OPERATION_ROLLED_BACK"
        assert error_of([bad])[0] == "INVALID_EMAIL_ADDRESS"
        assert await org.ids("Id != null") == []
        assert await org.control("GET", "writes") == []


async def test_what_an_all_or_none_update_had_changed_stands_again_in_every_index() -> None:
    async with raw_org({"contacts": [{"LastName": "A", "Email": "a@x.com"}]}) as org:
        change = {"attributes": {"type": "Contact"}, "Id": "0035g0000000001", "Email": "b@x.com"}
        await org.update(change, {**change, "Id": "nonsense"}, allOrNone=True)
        assert await org.ids("Email = 'a@x.com'") == ["0035g0000000001AAA"]
        assert await org.ids("Email = 'b@x.com'") == []


async def test_single_records_answer_201_200_204_300_and_404() -> None:
    base = "/services/data/v62.0/sobjects/Contact"
    world = {
        "contacts": [{"LastName": "A", "Email": "x@y.com"}, {"LastName": "B", "Email": "x@y.com"}]
    }
    async with raw_org(world) as org:
        created = await org.http.patch(f"{base}/{KEY}/g%2F1", json={"LastName": "Ann"})
        assert created.status_code == 201
        assert created.json()["created"] is True
        updated = await org.http.patch(f"{base}/{KEY}/g%2F1", json={"LastName": "Anna"})
        assert (updated.status_code, updated.json()["created"]) == (200, False)
        identity = created.json()["id"]
        assert (await org.http.patch(f"{base}/{identity}", json={"Title": "x"})).status_code == 204
        assert (await org.http.get(f"{base}/{identity}")).json()["Title"] == "x"
        assert (await org.http.get(f"{base}/{KEY}/g%2F1")).json()["Id"] == identity
        many = await org.http.patch(f"{base}/Email/x@y.com", json={"LastName": "x"})
        assert many.status_code == 300
        assert len(many.json()) == 2
        repeated = await org.http.patch(f"{base}/{KEY}/g%2F1", json={KEY: "g/1"})
        assert repeated.json()[0]["errorCode"] == "INVALID_FIELD"
        assert (
            await org.http.patch(f"{base}/{identity}", json={"Id": identity})
        ).status_code == 400
        made = await org.http.post(f"{base}", json={"LastName": "New"})
        assert made.status_code == 201
        await org.control("DELETE", f"records/Contact/{identity}")
        assert (await org.http.get(f"{base}/{identity}")).json()[0]["errorCode"] == "NOT_FOUND"
        gone = await org.http.patch(f"{base}/{identity}", json={"Title": "x"})
        assert (gone.status_code, gone.json()[0]["errorCode"]) == (404, "ENTITY_IS_DELETED")
        wrong = await org.http.patch(f"{base}/{made.json()['id']}", json={"Email": "bad"})
        assert wrong.json() == [
            {
                "errorCode": "INVALID_EMAIL_ADDRESS",
                "message": "Email: invalid email address: bad",
                "fields": ["Email"],
            }
        ]


async def test_nobody_deletes_through_the_api() -> None:
    async with raw_org({"contacts": [{"LastName": "A"}]}) as org:
        response = await org.http.delete("/services/data/v62.0/sobjects/Contact/0035g0000000001")
        assert response.status_code == 405
        response = await org.http.delete(
            "/services/data/v62.0/composite/sobjects?ids=0035g0000000001"
        )
        assert response.status_code == 405
        assert org.refused == {"METHOD_NOT_ALLOWED": 2}


async def test_records_of_several_types_may_be_created_in_one_collection_of_few_changes() -> None:
    async with raw_org() as org:
        mixed = [row(sobject=("Contact", "Lead")[number % 2]) for number in range(10)]
        response = await org.collection("POST", "", mixed)
        assert [set(result) for result in response.json()] == [{"id", "success", "errors"}] * 10
        chunks = [row(sobject=("Contact", "Lead")[number % 2]) for number in range(11)]
        refused = await org.collection("POST", "", chunks)
        assert refused.status_code == 400
        assert "10 chunks" in refused.json()[0]["message"]
