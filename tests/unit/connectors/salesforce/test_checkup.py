"""The findings of doctor over an org's answers: every fault is named, and has a remedy."""

from dataclasses import replace
from typing import Any

import pytest

from connectors.salesforce import checkup
from connectors.salesforce.account_rules import parse_account_rules
from connectors.salesforce.api.budget import Usage
from connectors.salesforce.api.describe import FieldDescribe, ObjectDescribe, parse_describe
from connectors.salesforce.checkup.findings import CheckupFinding, CheckupStatus
from connectors.salesforce.checkup.sharing import Sharing
from connectors.salesforce.mapping_file import parse_mapping
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.simulator.world import World

KEY, VERSION = "Nylas_Contact_Id__c", "Nylas_Version__c"
MARKER = "Nylas_Field_Hashes__c"
RULE = {
    "Active": True,
    "Metadata": {
        "active": True,
        "errorConditionFormula": checkup.VERSION_FORMULA,
        "errorDisplayField": VERSION,
    },
}


def body(sobject: str = "Contact", **world: Any) -> dict[str, Any]:
    return World(world).org.tables[sobject].sobject.describe()


def described(sobject: str = "Contact", **world: Any) -> ObjectDescribe:
    return parse_describe(body(sobject, **world))


def changed(shape: ObjectDescribe, name: str, **changes: Any) -> ObjectDescribe:
    return replace(shape, fields={**shape.fields, name: replace(shape.fields[name], **changes)})


def without(shape: ObjectDescribe, *names: str) -> ObjectDescribe:
    return replace(
        shape, fields={name: field for name, field in shape.fields.items() if name not in names}
    )


def faults(findings: list[CheckupFinding]) -> list[tuple[str, CheckupStatus]]:
    for finding in findings:
        assert (finding.remedy == "") == (finding.status is CheckupStatus.OK), (
            "a finding without a remedy"
        )
    return [
        (finding.check, finding.status)
        for finding in findings
        if finding.status is not CheckupStatus.OK
    ]


def everything(shape: ObjectDescribe, mapping: FieldMapping | None = None) -> list[CheckupFinding]:
    mapping = mapping or FieldMapping()
    return [
        checkup.access(shape),
        checkup.key_field(shape),
        checkup.version_field(shape),
        checkup.marker_field(shape),
        *checkup.address_fields(shape),
        *checkup.mapped_fields(shape, mapping),
        checkup.unserved(shape, mapping),
    ]


@pytest.mark.parametrize("sobject", ["Contact", "Lead"])
def test_nothing_is_wrong_with_an_org_that_has_our_metadata(sobject: str) -> None:
    assert faults(everything(described(sobject))) == []


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"external_id": False}, "no External ID"),
        ({"unique": False, "case_sensitive": False}, "not Unique"),
        ({"case_sensitive": False}, "ignores case"),
        ({"length": 100}, "100 characters instead of 255"),
        ({"type": "double"}, "double instead of text"),
        ({"updateable": False}, "may not edit"),
        ({"createable": False, "updateable": False}, "may not create or edit"),
    ],
)
def test_a_key_field_that_would_double_or_lose_people_is_a_failure(
    changes: dict[str, Any], part: str
) -> None:
    found = checkup.key_field(changed(described(), KEY, **changes))
    assert (found.status, part in found.finding, bool(found.remedy)) == (
        CheckupStatus.FAIL,
        True,
        True,
    )


def test_a_missing_field_of_ours_is_a_failure_and_a_missing_further_address_a_warning() -> None:
    bare = without(described("Lead"), KEY, VERSION, MARKER, "Nylas_Email_3__c")
    assert faults(everything(bare)) == [
        (f"Lead.{KEY}", CheckupStatus.FAIL),
        (f"Lead.{VERSION}", CheckupStatus.FAIL),
        (f"Lead.{MARKER}", CheckupStatus.FAIL),
        ("Lead.Nylas_Email_3__c", CheckupStatus.WARN),
    ]


@pytest.mark.parametrize("changes", [{"type": "string"}, {"scale": 2}, {"precision": 9}])
def test_a_version_field_that_cannot_hold_a_second_is_a_failure(changes: dict[str, Any]) -> None:
    assert (
        checkup.version_field(changed(described(), VERSION, **changes)).status is CheckupStatus.FAIL
    )


@pytest.mark.parametrize(
    "changes", [{"type": "string"}, {"length": 255}, {"updateable": False}, {"createable": False}]
)
def test_a_marker_field_that_cannot_keep_every_hash_is_a_failure(changes: dict[str, Any]) -> None:
    found = checkup.marker_field(changed(described(), MARKER, **changes))
    assert (found.status, bool(found.remedy)) == (CheckupStatus.FAIL, True)


ENCRYPTED = {"filterable": False}


@pytest.mark.parametrize(
    ("field", "status"),
    [(KEY, "fail"), ("Email", "fail"), ("Nylas_Email_2__c", "warn")],
)
@pytest.mark.parametrize("sobject", ["Contact", "Lead"])
def test_a_field_that_encryption_keeps_from_being_searched_is_named(
    sobject: str, field: str, status: str
) -> None:
    shape = described(sobject, fields={sobject: {field: ENCRYPTED}})
    (finding,) = [one for one in everything(shape) if one.status is not CheckupStatus.OK]
    assert (finding.check, finding.status) == (f"{sobject}.{field}", status)
    assert "encrypted" in finding.finding
    assert "deterministic" in finding.remedy


def test_an_encrypted_website_keeps_everybody_from_an_account() -> None:
    shape = described("Account", fields={"Account": {"Website": ENCRYPTED}})
    assert faults(checkup.accounts(shape)) == [("Account.Website", CheckupStatus.FAIL)]


def test_addresses_that_are_no_emails_or_not_indexed_are_named() -> None:
    shape = changed(described(), "Nylas_Email_2__c", type="string")
    shape = changed(shape, "Nylas_Email_3__c", external_id=False, id_lookup=False)
    found = checkup.address_fields(shape)
    assert faults(found) == [
        ("Contact.Nylas_Email_2__c", CheckupStatus.FAIL),
        ("Contact.Nylas_Email_3__c", CheckupStatus.WARN),
    ]


def test_without_accounts_everybody_becomes_a_lead_and_that_is_a_failure() -> None:
    shape = described("Account")
    assert faults(checkup.accounts(shape)) == []
    assert faults(checkup.accounts(without(shape, "Website"))) == [
        ("Account.Website", CheckupStatus.FAIL)
    ]
    assert faults(checkup.accounts(without(shape, "ParentId"))) == [
        ("Account.ParentId", CheckupStatus.WARN)
    ]
    assert faults(checkup.accounts(replace(shape, queryable=False))) == [
        ("Account access", CheckupStatus.FAIL)
    ]


def test_a_contact_without_its_account_and_a_lead_that_leads_nowhere_are_failures() -> None:
    contact, lead = described(), described("Lead")
    assert faults([*checkup.links(contact), *checkup.links(lead)]) == []
    locked = changed(contact, "AccountId", createable=False)
    for shape in (without(contact, "AccountId"), locked):
        assert faults(checkup.links(shape)) == [("Contact.AccountId", CheckupStatus.FAIL)]
    for name in ("IsConverted", "ConvertedContactId"):
        assert faults(checkup.links(without(lead, name))) == [(f"Lead.{name}", CheckupStatus.FAIL)]


def test_a_login_that_names_no_user_is_warned_of() -> None:
    assert checkup.user("0055g0000000001AAA").status is CheckupStatus.OK
    assert faults([checkup.user(None)]) == [("user", CheckupStatus.WARN)]


def test_what_the_user_may_not_do_with_an_object_is_named() -> None:
    found = checkup.access(replace(described(), createable=False, updateable=False))
    assert (found.status, found.finding) == (CheckupStatus.FAIL, "the user may not create, edit")


def test_the_version_rule_is_compared_without_blanks() -> None:
    assert checkup.version_rule("Contact", [RULE], True).status is CheckupStatus.OK
    spaced = checkup.VERSION_FORMULA.replace(", ", ",\n   ")
    loose = {"Active": True, "Metadata": {"errorConditionFormula": spaced}}
    assert checkup.version_rule("Contact", [loose], None).status is CheckupStatus.OK
    other = {"Active": True, "Metadata": {"errorConditionFormula": "false"}}
    assert checkup.version_rule("Contact", [other], True).status is CheckupStatus.FAIL


def test_a_version_rule_that_is_missing_inactive_or_unrecognisable_is_a_failure() -> None:
    elsewhere = {"Active": True, "Metadata": {**RULE["Metadata"], "errorDisplayField": "LastName"}}  # type: ignore[dict-item]
    for rows in ([], [{**RULE, "Active": False}], [elsewhere]):
        assert checkup.version_rule("Lead", rows, True).status is CheckupStatus.FAIL


@pytest.mark.parametrize("sees_setup", [False, None])
def test_without_view_setup_the_version_rule_cannot_be_checked(sees_setup: bool | None) -> None:
    for found in (
        checkup.version_rule("Lead", [], sees_setup),
        checkup.lead_conversion([], sees_setup),
    ):
        assert found.status is CheckupStatus.WARN
        assert "cannot tell" in found.finding
    unseen = checkup.version_rule("Lead", [{"Active": True}], None)
    assert (unseen.status, "lacks View Setup" in unseen.finding) == (CheckupStatus.WARN, True)


NOBODY = {"PermissionsViewAllData": False, "PermissionsModifyAllData": False}


@pytest.mark.parametrize(
    ("user", "objects", "organization", "seen", "edited"),
    [
        ({"PermissionsViewAllData": True, "PermissionsModifyAllData": True}, [], {}, "ok", "ok"),
        (
            NOBODY,
            [{"SobjectType": "Contact", "PermissionsViewAllRecords": True}],
            {"Contact": "Private"},
            "ok",
            "warn",
        ),
        (
            NOBODY,
            [{"SobjectType": "Lead", "PermissionsViewAllRecords": True}],
            {"Contact": "Private"},
            "warn",
            "warn",
        ),
        (NOBODY, [], {"Contact": "Read"}, "ok", "warn"),
        (NOBODY, [], {"Contact": "Edit"}, "ok", "ok"),
        (NOBODY, None, {"Account": "Edit", "Contact": "ControlledByParent"}, "ok", "ok"),
        (NOBODY, None, {"Account": "None", "Contact": "ControlledByParent"}, "warn", "warn"),
    ],
)
def test_records_that_the_user_may_not_see_or_edit_are_warned_of(
    user: dict[str, bool],
    objects: list[dict[str, Any]] | None,
    organization: dict[str, str],
    seen: str,
    edited: str,
) -> None:
    defaults = {f"Default{name}Access": how for name, how in organization.items()}
    found = checkup.visibility("Contact", checkup.parse_sharing([user], objects, [defaults]))
    assert [finding.status.value for finding in found] == [seen, edited]


def test_accounts_have_to_be_seen_and_are_never_edited() -> None:
    (seen,) = checkup.visibility(
        "Account", checkup.parse_sharing([NOBODY], [], [{"DefaultAccountAccess": "Read"}])
    )
    assert seen.status is CheckupStatus.OK
    (hidden,) = checkup.visibility(
        "Account", checkup.parse_sharing([NOBODY], [], [{"DefaultAccountAccess": "None"}])
    )
    assert (hidden.status, "become Leads" in hidden.finding) == (CheckupStatus.WARN, True)


def test_an_org_that_hides_its_sharing_is_reported_as_unknown() -> None:
    assert checkup.parse_sharing(None, None, None) == Sharing()
    found = checkup.visibility("Lead", Sharing())
    assert faults(found) == [
        ("Lead records seen", CheckupStatus.WARN),
        ("Lead records edited", CheckupStatus.WARN),
    ]
    assert all("cannot tell" in finding.finding for finding in found)


def test_a_mapped_field_that_is_hidden_read_only_odd_or_short_is_named() -> None:
    mapping = parse_mapping('[contact]\nAccountId = "company_name"\nDepartment = "office_location"')
    shape = without(described(), "MobilePhone")
    shape = changed(shape, "Title", updateable=False)
    shape = changed(shape, "Phone", length=20)
    assert dict(faults(checkup.mapped_fields(shape, mapping))) == {
        "Contact.MobilePhone": CheckupStatus.FAIL,
        "Contact.Title": CheckupStatus.FAIL,
        "Contact.AccountId": CheckupStatus.WARN,
        "Contact.Phone": CheckupStatus.WARN,
    }


def test_a_field_that_is_written_only_to_new_records_need_not_be_editable() -> None:
    shape = changed(described("Lead"), "LeadSource", updateable=False)
    constant = '[lead]\nLeadSource = {{ constant = "Web"{} }}'
    assert faults(checkup.mapped_fields(shape, parse_mapping(constant.format("")))) == []
    overwritten = parse_mapping(constant.format(', policy = "overwrite"'))
    assert faults(checkup.mapped_fields(shape, overwritten)) == [
        ("Lead.LeadSource", CheckupStatus.FAIL)
    ]
    shape = changed(shape, "LeadSource", createable=False)
    assert faults(checkup.mapped_fields(shape, parse_mapping(constant.format("")))) == [
        ("Lead.LeadSource", CheckupStatus.FAIL)
    ]


def test_countries_that_are_picklists_are_warned_of_where_they_are_mapped() -> None:
    on = {"CountryCode": {"type": "picklist"}, "StateCode": {"type": "picklist"}}
    places = parse_mapping(
        '[lead]\nCountry = "physical_addresses[work].country"\n'
        'State = "physical_addresses[work].state"'
    )
    found = faults(checkup.mapped_fields(described("Lead", fields={"Lead": on}), places))
    assert found == [("Lead.Country", CheckupStatus.WARN), ("Lead.State", CheckupStatus.WARN)]
    assert faults(checkup.mapped_fields(described("Lead"), places)) == []
    assert (
        faults(checkup.mapped_fields(described("Lead", fields={"Lead": on}), FieldMapping())) == []
    )


def test_a_reference_field_takes_a_constant_and_no_value_of_a_contact() -> None:
    owner = parse_mapping('[lead]\nOwnerId = { constant = "0055g0000000001AAA" }')
    assert faults(checkup.mapped_fields(described("Lead"), owner)) == []
    assert faults(
        checkup.mapped_fields(described("Lead"), parse_mapping('[lead]\nOwnerId = "company_name"'))
    ) == [("Lead.OwnerId", CheckupStatus.WARN)]


@pytest.mark.parametrize(
    ("constant", "changes", "status"),
    [
        ('"Web"', {"restricted_picklist": True}, None),
        ('"Address book"', {"restricted_picklist": True}, CheckupStatus.FAIL),
        ('"Address book"', {}, None),
        ('"Address book"', {"length": 5}, CheckupStatus.WARN),
        ("5", {}, CheckupStatus.FAIL),
    ],
)
def test_a_constant_that_the_field_would_refuse_is_named(
    constant: str, changes: dict[str, Any], status: CheckupStatus | None
) -> None:
    mapping = parse_mapping(f"[lead]\nLeadSource = {{ constant = {constant} }}")
    found = faults(
        checkup.mapped_fields(changed(described("Lead"), "LeadSource", **changes), mapping)
    )
    assert found == ([] if status is None else [("Lead.LeadSource", status)])


def test_an_unmapped_required_field_is_a_failure_and_one_that_may_be_empty_a_warning() -> None:
    shape = described()
    region = FieldDescribe(
        "Region__c", "string", length=20, createable=True, updateable=True, nillable=False
    )
    shape = replace(shape, fields={**shape.fields, "Region__c": region})
    found = checkup.unserved(shape, FieldMapping())
    assert (found.status, "Region__c" in found.finding) == (CheckupStatus.FAIL, True)
    assert (
        checkup.unserved(shape, parse_mapping('[contact]\nRegion__c = { constant = "EU" }')).status
        is CheckupStatus.OK
    )
    assert (
        checkup.unserved(shape, parse_mapping('[contact]\nRegion__c = "office_location"')).status
        is CheckupStatus.WARN
    )
    assert (
        checkup.unserved(described("Lead"), parse_mapping("[lead]\nCompany = false")).status
        is CheckupStatus.FAIL
    )


def test_several_usable_record_types_are_warned_of() -> None:
    types = [{"name": "Partner"}, {"name": "Customer", "default": True}]
    several = body("Contact", record_types={"Contact": types})
    found = checkup.record_types(several, FieldMapping())
    assert (found.status, found.finding) == (
        CheckupStatus.WARN,
        "new records become 'Customer', of Partner, Customer",
    )
    there = several["recordTypeInfos"][0]["recordTypeId"]
    for known in (there, there[:15]):
        named = parse_mapping(f'[contact]\nRecordTypeId = {{ constant = "{known}" }}')
        assert checkup.record_types(several, named).status is CheckupStatus.OK
    unknown = parse_mapping('[contact]\nRecordTypeId = { constant = "012000000000999AAA" }')
    assert checkup.record_types(several, unknown).status is CheckupStatus.FAIL
    several["recordTypeInfos"][0]["available"] = False
    assert checkup.record_types(several, named).status is CheckupStatus.FAIL
    assert (
        checkup.record_types(
            body("Contact", record_types={"Contact": types[1:]}), FieldMapping()
        ).status
        is CheckupStatus.OK
    )
    assert checkup.record_types(body(), FieldMapping()).status is CheckupStatus.OK


def test_an_org_without_person_accounts_is_fine() -> None:
    off = checkup.person_accounts(described(), described("Account"), None, FieldMapping())
    assert (off.status, off.finding) == (CheckupStatus.OK, "off")


def test_person_accounts_are_counted_and_what_becomes_of_them_is_said() -> None:
    people, account = (described(name, person_accounts=True) for name in ("Contact", "Account"))
    on = checkup.person_accounts(people, account, 1234, FieldMapping())
    assert on.status is CheckupStatus.WARN
    assert on.finding.startswith("they are on, and there are 1,234: their people are found")
    assert "grant the user Edit on Account" not in on.remedy
    unknown = checkup.person_accounts(people, None, None, None)
    assert unknown.finding.startswith("they are on: ")


def test_a_user_who_may_not_edit_accounts_and_a_mapped_record_type_are_named() -> None:
    people, account = (described(name, person_accounts=True) for name in ("Contact", "Account"))
    rules = parse_mapping('[contact]\nRecordTypeId = { from = "source", policy = "always" }')
    on = checkup.person_accounts(people, replace(account, updateable=False), 5, rules)
    assert "grant the user Edit on Account" in on.remedy
    assert "RecordTypeId of the mapping are not written" in on.remedy


def test_duplicate_rules_that_block_are_warned_of_and_those_that_alert_are_not() -> None:
    alerting = {
        "name": "Soft",
        "active": True,
        "actionOnInsert": "Allow",
        "actionOnUpdate": "Allow",
    }
    blocking = {
        "name": "Hard",
        "active": True,
        "actionOnInsert": "Block",
        "actionOnUpdate": "Allow",
    }
    answer = {"duplicateRules": [alerting, blocking, {**blocking, "name": "Off", "active": False}]}
    soft, hard = checkup.duplicate_rules("Lead", answer, allow_save=True)
    assert (soft.status, hard.status) == (CheckupStatus.OK, CheckupStatus.WARN)
    assert hard.finding.startswith("blocks create:")
    assert [one.status for one in checkup.duplicate_rules("Lead", answer, allow_save=False)] == [
        CheckupStatus.WARN
    ] * 2
    assert faults(checkup.duplicate_rules("Lead", {"duplicateRules": []}, allow_save=True)) == []
    assert faults(checkup.duplicate_rules("Lead", None, allow_save=True)) == [
        ("Lead duplicate rules", CheckupStatus.WARN)
    ]


def test_a_lead_conversion_that_loses_our_fields_is_warned_of() -> None:
    def rows(output: str, *names: str) -> list[dict[str, Any]]:
        pairs = [{"inputField": name, "outputField": name} for name in names]
        mapped = {"inputObject": "Lead", "outputObject": output, "mappingFields": pairs}
        return [{"Metadata": {"objectMapping": [mapped]}}]

    ours = (KEY, VERSION, MARKER, "Nylas_Email_2__c", "Nylas_Email_3__c")
    assert checkup.lead_conversion(rows("Contact", *ours), True).status is CheckupStatus.OK
    partly = checkup.lead_conversion(rows("Contact", *ours[1:]), True)
    assert (partly.status, KEY in partly.finding) == (CheckupStatus.WARN, True)
    assert checkup.lead_conversion(rows("Account", *ours), True).status is CheckupStatus.WARN
    assert checkup.lead_conversion([], True).status is CheckupStatus.WARN


@pytest.mark.parametrize(
    ("used", "status"),
    [
        (100, CheckupStatus.OK),
        (850, CheckupStatus.WARN),
        (900, CheckupStatus.FAIL),
        (1100, CheckupStatus.FAIL),
    ],
)
def test_calls_that_run_out_are_reported_before_the_sink_waits(
    used: int, status: CheckupStatus
) -> None:
    assert checkup.daily_calls(Usage(used, 1000), 0.1).status is status


def test_the_reserve_is_the_configured_one() -> None:
    used = Usage(700, 1000)
    found = [checkup.daily_calls(used, reserve).status for reserve in (0.1, 0.2, 0.3)]
    assert found == [CheckupStatus.OK, CheckupStatus.WARN, CheckupStatus.FAIL]
    assert checkup.daily_calls(Usage(999, 1000), 0.0).status is CheckupStatus.OK
    assert checkup.daily_calls(Usage(1000, 1000), 0.0).status is CheckupStatus.FAIL


def test_an_unknown_number_of_calls_is_no_failure() -> None:
    assert checkup.daily_calls(None, 0.1).status is CheckupStatus.WARN


def test_a_version_that_the_org_does_not_serve_is_a_failure() -> None:
    versions = [{"version": "61.0"}, {"version": "62.0"}]
    assert checkup.api_version(versions, "62.0").status is CheckupStatus.OK
    found = checkup.api_version(versions, "99.0")
    assert (found.status, "62.0" in found.remedy) == (CheckupStatus.FAIL, True)
    assert checkup.api_version("<html>", "62.0").status is CheckupStatus.WARN


def test_the_flag_of_deleted_contacts_has_to_be_a_checkbox() -> None:
    shape = described(fields={"Contact": {"Gone__c": {"type": "boolean"}, "Note__c": {}}})
    assert checkup.flag_field(shape, "Gone__c").status is CheckupStatus.OK
    assert checkup.flag_field(shape, "Note__c").status is CheckupStatus.FAIL
    assert checkup.flag_field(shape, "Nowhere__c").status is CheckupStatus.FAIL


@pytest.mark.parametrize(
    ("field", "indexes", "status", "said"),
    [
        ({"externalId": True}, frozenset(), CheckupStatus.OK, "the describe shows"),
        ({}, frozenset({("Contact", "Home__c")}), CheckupStatus.OK, "IsIndexed says"),
        ({}, frozenset(), CheckupStatus.WARN, "not indexed"),
        ({}, None, CheckupStatus.WARN, "does not say whether it is indexed"),
        ({"externalId": True, "filterable": False}, frozenset(), CheckupStatus.WARN, "encrypted"),
    ],
)
def test_an_address_field_of_the_org_says_whether_and_why_it_is_used(
    field: dict[str, Any],
    indexes: frozenset[tuple[str, str]] | None,
    status: CheckupStatus,
    said: str,
) -> None:
    fields = {"Contact": {"Home__c": {"type": "email", "length": 80} | field}}
    (finding,) = checkup.own_address_fields(described(fields=fields), ["Home__c"], indexes)
    assert (finding.check, finding.status) == ("Contact.Home__c", status)
    assert said in finding.finding
    assert (finding.remedy == "") == (status is CheckupStatus.OK)


def test_a_mistyped_address_field_comes_with_the_name_that_is_meant() -> None:
    fields = {"Contact": {"Personal_Email__c": {"type": "email", "externalId": True}}}
    (finding,) = checkup.own_address_fields(
        described(fields=fields), ["Personal_Emial__c"], frozenset()
    )
    assert "did you mean Personal_Email__c?" in finding.remedy


def test_the_fields_by_which_accounts_are_found_are_checked_each() -> None:
    fields = {
        "Account": {
            "Email_Domains__c": {"type": "string"},
            "Notes__c": {"type": "textarea", "length": 32000},
            "Employees__c": {"type": "double"},
        }
    }
    names = ("Email_Domains__c", "Notes__c", "Employees__c", "Email_Domain__c")
    rules = parse_account_rules(names, [])
    found = checkup.account_evidence(described("Account", fields=fields), rules)
    assert faults(found) == [
        ("Account.Notes__c", CheckupStatus.WARN),
        ("Account.Employees__c", CheckupStatus.WARN),
        ("Account.Email_Domain__c", CheckupStatus.WARN),
    ]
    assert "did you mean Email_Domains__c?" in found[3].finding


def test_a_filter_of_accounts_is_checked_for_its_field_and_its_values() -> None:
    kinds = {"Account": [{"name": "Customer"}]}
    account = described("Account", record_types=kinds)
    rules = parse_account_rules(
        [], ["Type=Prospect", "Type=Prospekt", "RecordType.DeveloperName=Customer", "Typ=x"]
    )
    kind, record_type, mistyped = checkup.account_evidence(account, rules)
    assert (kind.status, "no Account has prospekt" in kind.finding) == (CheckupStatus.WARN, True)
    assert (record_type.status, record_type.finding) == (
        CheckupStatus.OK,
        "only Accounts with customer count",
    )
    assert (mistyped.status, "did you mean Type?" in mistyped.finding) == (
        CheckupStatus.FAIL,
        True,
    )


def test_the_evidence_for_accounts_is_listed_in_its_order() -> None:
    rules = parse_account_rules(["Email_Domains__c"], [])
    found = checkup.evidence_in_use(rules, {"acme.io": "acme.com"}, 0.9)
    assert found.finding == (
        "Website; then the domains in Email_Domains__c; then 1 domains of PEOPLE_ACCOUNT_DOMAINS; "
        "then 90% of a domain's Contacts (SALESFORCE_ACCOUNT_CONTACT_SHARE)"
    )
    assert checkup.evidence_in_use(parse_account_rules([], []), (), 0.0).finding == "Website"
