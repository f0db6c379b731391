"""The metadata for the org: well-formed, with the names that the code uses and its version rule."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest

from connectors.salesforce.api.client import API_VERSION, Fence
from connectors.salesforce.api.composite import SubAnswer, Subrequest
from connectors.salesforce.checkup.rules import VERSION_FORMULA, VERSION_RULE
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.org_fields import EMAIL_FIELDS, KEY_FIELD, MAX_KEY_LENGTH, VERSION_FIELD
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.simulator.world import World
from tests.support.paths import ROOT
from tests.support.salesforce_org import Composite, simulated_org

FOLDER = ROOT / "deploy" / "salesforce"
SOURCE = FOLDER / "force-app" / "main" / "default"
NAMESPACE = "{http://soap.sforce.com/2006/04/metadata}"
OBJECTS = ("Contact", "Lead")
FILES = sorted(FOLDER.rglob("*-meta.xml"))
# Required in every org, so Salesforce refuses a permission set that names them; FirstName is a part
# of the name.
NEVER_PERMITTED = {"FirstName", "LastName", "Company"}


def read(path: Path) -> ElementTree.Element:
    return ElementTree.fromstring(path.read_bytes())


def child_text(element: ElementTree.Element, name: str) -> str | None:
    return element.findtext(NAMESPACE + name)


def shipped_field(sobject: str, name: str) -> ElementTree.Element:
    return read(SOURCE / "objects" / sobject / "fields" / f"{name}.field-meta.xml")


def permission_set(name: str) -> ElementTree.Element:
    return read(SOURCE / "permissionsets" / f"{name}.permissionset-meta.xml")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_file_is_well_formed_and_holds_what_its_name_says(path: Path) -> None:
    root = read(path)
    kinds = {
        "field": "CustomField",
        "validationRule": "ValidationRule",
        "permissionset": "PermissionSet",
        "LeadConvertSetting": "LeadConvertSettings",
    }
    name, kind, _ = path.name.split(".")
    assert root.tag == NAMESPACE + kinds[kind.removesuffix("-meta")]
    assert child_text(root, "fullName") in (name, None)


def test_the_project_names_its_folders_and_the_version_that_the_client_speaks() -> None:
    project = json.loads((FOLDER / "sfdx-project.json").read_text())
    assert project["sourceApiVersion"] == API_VERSION
    folders = [FOLDER / entry["path"] for entry in project["packageDirectories"]]
    assert all(any(folder in path.parents for folder in folders) for path in FILES)


@pytest.mark.parametrize("sobject", OBJECTS)
def test_both_objects_have_exactly_the_fields_that_the_code_uses(sobject: str) -> None:
    shipped = {
        path.name.split(".")[0] for path in (SOURCE / "objects" / sobject / "fields").iterdir()
    }
    assert shipped == {KEY_FIELD, VERSION_FIELD, *EMAIL_FIELDS[1:]}
    key = shipped_field(sobject, KEY_FIELD)
    wanted = {
        "type": "Text",
        "length": str(MAX_KEY_LENGTH),
        "externalId": "true",
        "unique": "true",
        "caseSensitive": "true",
    }
    assert {name: child_text(key, name) for name in wanted} == wanted
    version = shipped_field(sobject, VERSION_FIELD)
    assert [child_text(version, name) for name in ("type", "precision", "scale")] == [
        "Number",
        "18",
        "0",
    ]
    for name in EMAIL_FIELDS[1:]:
        address = shipped_field(sobject, name)
        assert [child_text(address, of) for of in ("type", "externalId", "unique")] == [
            "Email",
            "true",
            "false",
        ]
    assert all(child_text(shipped_field(sobject, name), "required") == "false" for name in shipped)


@pytest.mark.parametrize("sobject", OBJECTS)
def test_the_version_rule_is_the_one_of_the_code_and_names_the_version_field(sobject: str) -> None:
    rule = read(
        SOURCE / "objects" / sobject / "validationRules" / f"{VERSION_RULE}.validationRule-meta.xml"
    )
    formula = (
        "AND(NOT(ISNEW()), Nylas_Contact_Id__c = PRIORVALUE(Nylas_Contact_Id__c), "
        "Nylas_Version__c < PRIORVALUE(Nylas_Version__c))"
    )
    assert child_text(rule, "errorConditionFormula") == formula == VERSION_FORMULA
    assert (
        child_text(rule, "errorDisplayField") == VERSION_FIELD
    )  # by this a refusal is known to be stale
    assert child_text(rule, "active") == "true"


def granted() -> dict[str, bool]:
    """The fields of the sink's permission set, and whether it may edit them."""
    return {
        str(child_text(entry, "field")): child_text(entry, "editable") == "true"
        for entry in permission_set("Contactstream").iter(f"{NAMESPACE}fieldPermissions")
    }


def test_the_permission_set_grants_what_is_written_and_read_and_no_more() -> None:
    permissions = permission_set("Contactstream")
    wanted = {"Account.Website": False, "Account.ParentId": False, "Contact.AccountId": True}
    for sobject in OBJECTS:
        mapped = {rule.field for rule in FieldMapping().rules(sobject)} - NEVER_PERMITTED
        ours = {KEY_FIELD, VERSION_FIELD, *EMAIL_FIELDS}
        wanted |= {f"{sobject}.{name}": True for name in mapped | ours}
    assert granted() == wanted
    objects = {
        str(child_text(entry, "object")): [
            child_text(entry, right)
            for right in (
                "allowRead",
                "viewAllRecords",
                "allowCreate",
                "allowEdit",
                "allowDelete",
                "modifyAllRecords",
            )
        ]
        for entry in permissions.iter(f"{NAMESPACE}objectPermissions")
    }
    written = ["true", "true", "true", "true", "false", "false"]
    read_only = ["true", "true", "false", "false", "false", "false"]
    assert objects == {"Account": read_only, "Contact": written, "Lead": written}
    assert [
        child_text(entry, "name") for entry in permissions.iter(f"{NAMESPACE}userPermissions")
    ] == ["ApiEnabled"]


# Every user who may read the object sees them: Salesforce has no field permission for them.
SYSTEM = {
    *("Id", "IsDeleted", "CreatedById", "CreatedDate", "LastModifiedDate", "SystemModstamp"),
    *("IsConverted", "ConvertedContactId"),
}


@dataclass
class Used:
    """The fields that requests name, as `Object.Field`."""

    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)

    def note(self, requests: Sequence[Subrequest]) -> None:
        for request in requests:
            query = parse_qs(urlsplit(request.url).query).get("q", [""])[0]
            if found := re.fullmatch(r"SELECT (.+) FROM (\w+) WHERE (.+)", query):
                filtered = re.findall(r"(\w+) (?:IN|!=|>=|=) ?", found[3])
                for name in (*found[1].split(", "), *filtered):
                    of, _, nested = name.rpartition(".")
                    assert of in ("", "ConvertedContact")
                    self.read.add(f"Contact.{nested}" if of else f"{found[2]}.{name}")
            for record in (request.body or {}).get("records", ()):
                sobject = record["attributes"]["type"]
                self.written |= {
                    f"{sobject}.{name}" for name in record if name not in ("attributes", "Id")
                }


def contact(
    number: int, *addresses: str, version: int = 10, title: str = "Analyst"
) -> ContactVersion:
    phones = [{"number": f"+1 {number}", "type": kind} for kind in ("work", "mobile")]
    contact = {
        "id": f"c{number}",
        "emails": [{"email": address} for address in addresses],
        "given_name": "Ada",
        "surname": f"L{number}",
        "phone_numbers": phones,
        "job_title": title,
        "company_name": "Engines",
    }
    return ContactVersion(f"g/c{number}", version, contact)


async def test_the_permission_set_is_all_that_a_sync_needs_and_all_of_it_is_used() -> None:
    used = Used()

    async def noted(
        composite: Composite, requests: Sequence[Subrequest], kind: str, fence: Fence
    ) -> list[SubAnswer]:
        used.note(requests)
        return await composite(requests, kind, fence)

    permitted = granted()
    always = SYSTEM | NEVER_PERMITTED
    hidden, read_only = [], [name for name, editable in permitted.items() if not editable]
    for name in ("Account", *OBJECTS):
        fields = World({}).org.tables[name].sobject.fields.values()
        hidden += [
            f"{name}.{each.name}" for each in fields if each.nillable and each.name not in always
        ]
    document = {
        "settings": {
            "hidden_fields": sorted(set(hidden) - set(permitted)),
            "read_only_fields": read_only,
        },
        "accounts": [{"Name": "Acme", "Website": "acme.example"}],
        "leads": [
            {"LastName": "L3", "FirstName": "Ada", "Company": "E", "Email": "three@lead.example"}
        ],
    }
    people = [
        contact(1, "one@acme.example", "one@b.example", "one@c.example"),
        contact(2, "two@lead.example", "two@b.example", "two@c.example"),
        contact(3, "three@lead.example"),  # found, and adopted
    ]
    async with simulated_org(document) as org:
        org.client.intercept = noted
        statuses = {key: one.status for key, one in (await org.all(*people)).items()}
        assert statuses == {
            "g/c1": OutcomeStatus.CREATED,
            "g/c2": OutcomeStatus.CREATED,
            "g/c3": OutcomeStatus.UPDATED,
        }
        changed = [
            contact(1, "one@acme.example", version=20, title="Countess"),
            ContactVersion("g/c2", 20, None),
        ]
        statuses = {key: one.status for key, one in (await org.all(*changed)).items()}
        assert statuses == {"g/c1": OutcomeStatus.UPDATED, "g/c2": OutcomeStatus.RELEASED}
        assert org.counts == {}, "fields are missing"
    touched = used.read | used.written
    wanted = {
        name: name in used.written for name in touched if name.partition(".")[2] not in always
    }
    assert wanted == permitted


def test_the_further_rights_of_doctor_are_a_permission_set_of_their_own() -> None:
    permissions = permission_set("Contactstream_Doctor")
    names = {child_text(entry, "name") for entry in permissions.iter(f"{NAMESPACE}userPermissions")}
    assert names == {"ViewSetup", "ViewRoles"}
    assert permissions.find(f"{NAMESPACE}objectPermissions") is None


def test_a_converted_lead_passes_all_of_our_fields_to_its_contact() -> None:
    (path,) = (FOLDER / "lead-conversion").rglob("*-meta.xml")
    (mapping,) = read(path).iter(f"{NAMESPACE}objectMapping")
    assert (child_text(mapping, "inputObject"), child_text(mapping, "outputObject")) == (
        "Lead",
        "Contact",
    )
    pairs = {
        (child_text(pair, "inputField"), child_text(pair, "outputField"))
        for pair in mapping.iter(f"{NAMESPACE}mappingFields")
    }
    assert pairs == {(name, name) for name in (KEY_FIELD, VERSION_FIELD, *EMAIL_FIELDS[1:])}
