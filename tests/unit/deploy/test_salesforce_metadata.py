"""The metadata for the org: well-formed, with the names that the code uses and its version rule."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest

from connectors.salesforce.api.client import API_VERSION, Fence
from connectors.salesforce.api.composite import SubAnswer, Subrequest
from connectors.salesforce.api.describe import parse_describe
from connectors.salesforce.bulk_load import PERMISSION_SET
from connectors.salesforce.checkup.automation import BULK_LOAD_PERMISSION
from connectors.salesforce.checkup.rules import (
    RESTORE_PERMISSION,
    VERSION_FORMULA,
    VERSION_RULE,
)
from connectors.salesforce.field_values import bind
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.org_fields import (
    EMAIL_FIELDS,
    KEY_FIELD,
    MARKER_FIELD,
    MAX_KEY_LENGTH,
    MAX_MARKER_LENGTH,
    VERSION_FIELD,
)
from connectors.salesforce.outcome import ContactVersion, OutcomeStatus
from connectors.salesforce.provenance_fields import (
    CREATED_FIELD,
    MAILBOX_FIELD,
    MAX_WHY_LENGTH,
    PROVENANCE_FIELDS,
    WHY_FIELD,
    WRITTEN_FIELD,
)
from connectors.salesforce.schema import schema
from connectors.salesforce.simulator.world import World
from deploy.salesforce.add_lead_mapping import MappingConflict, add_lines, main
from tests.support.paths import ROOT
from tests.support.salesforce_org import Composite, simulated_org

FOLDER = ROOT / "deploy" / "salesforce"
SOURCE = FOLDER / "force-app" / "main" / "default"
NAMESPACE = "{http://soap.sforce.com/2006/04/metadata}"
OBJECTS = ("Contact", "Lead")
LEAD_CONVERSION = FOLDER / "lead-conversion"
LEAD_MAPPING = LEAD_CONVERSION / "LeadConvertSettings" / "LeadConvertSettings.LeadConvertSetting"
OUR_FIELDS = {KEY_FIELD, VERSION_FIELD, MARKER_FIELD, *EMAIL_FIELDS[1:]}
FILES = sorted(SOURCE.rglob("*-meta.xml"))
REPORT_FILES = sorted((FOLDER / "reports-app").rglob("*-meta.xml"))
OPTIONAL = FOLDER / "optional-app" / "main" / "default"
OPTIONAL_FILES = sorted(OPTIONAL.rglob("*-meta.xml"))
XML_FILES = [
    *FILES,
    *OPTIONAL_FILES,
    *REPORT_FILES,
    LEAD_MAPPING,
    LEAD_CONVERSION / "package.xml",
    FOLDER / "manifest" / "package.xml",
    FOLDER / "manifest" / "reports" / "package.xml",
]
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


def test_the_permission_of_bulk_loads_is_the_only_thing_in_its_set() -> None:
    root = permission_set(PERMISSION_SET)
    (custom,) = root.iter(f"{NAMESPACE}customPermissions")
    assert child_text(custom, "name") == BULK_LOAD_PERMISSION == PERMISSION_SET
    assert (SOURCE / "customPermissions" / f"{PERMISSION_SET}.customPermission-meta.xml").exists()
    granted = {each.tag.removeprefix(NAMESPACE) for each in root}
    assert granted == {"customPermissions", "description", "hasActivationRequired", "label"}


def test_the_optional_fields_are_those_that_the_code_fills() -> None:
    for sobject in OBJECTS:
        folder = OPTIONAL / "objects" / sobject / "fields"
        names = {path.name.partition(".")[0] for path in folder.iterdir()}
        assert names == PROVENANCE_FIELDS
        types = {
            name: child_text(read(folder / f"{name}.field-meta.xml"), "type") for name in names
        }
        assert types == {
            CREATED_FIELD: "Checkbox",
            WRITTEN_FIELD: "DateTime",
            WHY_FIELD: "Text",
            MAILBOX_FIELD: "Text",
        }
        why = read(folder / f"{WHY_FIELD}.field-meta.xml")
        assert child_text(why, "length") == str(MAX_WHY_LENGTH)


@pytest.mark.parametrize(
    ("name", "editable", "fields"),
    [
        ("Contactstream_Optional_Fields", "true", PROVENANCE_FIELDS),
        ("Contactstream_Optional_Fields_Reader", "false", PROVENANCE_FIELDS - {MAILBOX_FIELD}),
    ],
)
def test_people_do_not_see_the_source_mailbox(
    name: str, editable: str, fields: frozenset[str]
) -> None:
    root = read(OPTIONAL / "permissionsets" / f"{name}.permissionset-meta.xml")
    permissions = list(root.iter(f"{NAMESPACE}fieldPermissions"))
    assert {child_text(each, "field") for each in permissions} == {
        f"{sobject}.{field}" for sobject in OBJECTS for field in fields
    }
    assert {child_text(each, "editable") for each in permissions} == {editable}


KINDS = {
    "customPermission": "CustomPermission",
    "dashboard": "Dashboard",
    "dashboardFolder": "DashboardFolder",
    "field": "CustomField",
    "package": "Package",
    "permissionset": "PermissionSet",
    "report": "Report",
    "reportFolder": "ReportFolder",
    "reportType": "ReportType",
    "validationRule": "ValidationRule",
    "LeadConvertSetting": "LeadConvertSettings",
}


@pytest.mark.parametrize("path", XML_FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_file_is_well_formed_and_holds_what_its_name_says(path: Path) -> None:
    root = read(path)
    name, kind, *_ = path.name.split(".")
    kind = "package" if name == "package" else kind.removesuffix("-meta")
    assert root.tag == NAMESPACE + KINDS[kind]
    assert child_text(root, "fullName") in (name, None)


def test_no_xml_file_is_left_out_of_these_tests() -> None:
    assert set(FOLDER.rglob("*.xml")) <= set(XML_FILES)


def components(manifest: Path) -> dict[str, set[str | None]]:
    """The members that a manifest lists, by their type."""
    root = read(manifest)
    assert child_text(root, "version") == API_VERSION
    return {
        str(child_text(kind, "name")): {each.text for each in kind.iter(f"{NAMESPACE}members")}
        for kind in root.iter(f"{NAMESPACE}types")
    }


def test_the_manifest_lists_every_component_and_nothing_else() -> None:
    found: dict[str, set[str | None]] = {}
    for path in FILES:
        name, kind, _ = path.name.split(".")
        if path.parent.parent.parent.name == "objects":
            name = f"{path.parent.parent.name}.{name}"
        found.setdefault(KINDS[kind.removesuffix("-meta")], set()).add(name)
    assert components(FOLDER / "manifest" / "package.xml") == found
    assert components(LEAD_CONVERSION / "package.xml") == {
        "LeadConvertSettings": {"LeadConvertSettings"}
    }


def test_the_project_holds_what_may_be_deployed_as_it_is_and_not_the_lead_mapping() -> None:
    project = json.loads((FOLDER / "sfdx-project.json").read_text())
    assert project["sourceApiVersion"] == API_VERSION
    folders = [FOLDER / entry["path"] for entry in project["packageDirectories"]]
    assert all(any(folder in path.parents for folder in folders) for path in FILES)
    # a deployment of the whole project would replace the org's own mapping
    assert not any(folder in LEAD_MAPPING.parents for folder in folders)


def test_no_command_of_the_readme_retrieves_into_a_folder_of_the_project() -> None:
    project = json.loads((FOLDER / "sfdx-project.json").read_text())
    folders = {entry["path"] for entry in project["packageDirectories"]}
    text = (FOLDER / "README.md").read_text().replace("\\\n", " ")
    commands = [line.split() for line in text.splitlines() if line.startswith("sf project")]
    assert {command[2] for command in commands} == {"deploy", "retrieve"}
    for command in commands:
        options = dict(itertools.pairwise(command))
        for option in ("--output-dir", "--target-metadata-dir"):
            target = options.get(option, "elsewhere")
            assert not any(target.startswith(folder) for folder in folders)
        for option in ("--manifest", "--source-dir"):
            assert option not in options or (FOLDER / options[option]).exists()


@pytest.mark.parametrize("sobject", OBJECTS)
def test_both_objects_have_exactly_the_fields_that_the_code_uses(sobject: str) -> None:
    shipped = {
        path.name.split(".")[0] for path in (SOURCE / "objects" / sobject / "fields").iterdir()
    }
    assert shipped == OUR_FIELDS
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
    marker = shipped_field(sobject, MARKER_FIELD)
    assert [child_text(marker, name) for name in ("type", "length")] == [
        "LongTextArea",
        str(MAX_MARKER_LENGTH),
    ]
    for name in EMAIL_FIELDS[1:]:
        address = shipped_field(sobject, name)
        assert [child_text(address, of) for of in ("type", "externalId", "unique")] == [
            "Email",
            "true",
            "false",
        ]
    required = {name: child_text(shipped_field(sobject, name), "required") for name in shipped}
    assert required == dict.fromkeys(shipped, "false") | {MARKER_FIELD: None}


@pytest.mark.parametrize("sobject", OBJECTS)
def test_the_version_rule_is_the_one_of_the_code_and_names_the_version_field(sobject: str) -> None:
    rule = read(
        SOURCE / "objects" / sobject / "validationRules" / f"{VERSION_RULE}.validationRule-meta.xml"
    )
    formula = (
        "AND(NOT(ISNEW()), NOT($Permission.Nylas_Restore_Older_Version), "
        "OR(Nylas_Contact_Id__c = PRIORVALUE(Nylas_Contact_Id__c), "
        "AND(ISBLANK(Nylas_Contact_Id__c), ISBLANK(PRIORVALUE(Nylas_Contact_Id__c)))), "
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
        ours = {*OUR_FIELDS, *EMAIL_FIELDS}
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


@pytest.mark.parametrize("sobject", OBJECTS)
def test_the_permission_set_grants_every_field_that_a_lookup_selects(sobject: str) -> None:
    shape = parse_describe(World({}).org.tables[sobject].sobject.describe())
    selected = set(schema(shape, bind(FieldMapping(), shape)).select) - SYSTEM - NEVER_PERMITTED
    assert {f"{sobject}.{name}" for name in selected} <= granted().keys()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("Contactstream_Reader", EMAIL_FIELDS[1:]),
        ("Contactstream_Reports", (KEY_FIELD, VERSION_FIELD)),
    ],
)
def test_people_see_the_fields_that_are_meant_for_them_and_may_change_nothing(
    name: str, fields: Sequence[str]
) -> None:
    permissions = permission_set(name)
    shown = {
        str(child_text(entry, "field")): (
            child_text(entry, "readable"),
            child_text(entry, "editable"),
        )
        for entry in permissions.iter(f"{NAMESPACE}fieldPermissions")
    }
    meant = [f"{sobject}.{field}" for sobject in OBJECTS for field in fields]
    assert shown == dict.fromkeys(meant, ("true", "false"))
    kinds = {child.tag.removeprefix(NAMESPACE) for child in permissions}
    assert kinds == {"description", "fieldPermissions", "hasActivationRequired", "label"}


def test_only_the_permission_set_of_a_restore_lets_a_user_pass_the_version_rule() -> None:
    shipped = {path.name.split(".")[0] for path in (SOURCE / "customPermissions").iterdir()}
    assert shipped == {RESTORE_PERMISSION, BULK_LOAD_PERMISSION}
    for path in (SOURCE / "permissionsets").iterdir():
        grants = [
            (child_text(entry, "name"), child_text(entry, "enabled"))
            for entry in read(path).iter(f"{NAMESPACE}customPermissions")
            if child_text(entry, "name") != BULK_LOAD_PERMISSION
        ]
        restore = path.name.startswith("Contactstream_Restore.")
        assert grants == ([(RESTORE_PERMISSION, "true")] if restore else [])


# Every user who may read the object sees them: Salesforce has no field permission for them.
SYSTEM = {
    *("Id", "IsDeleted", "CreatedById", "CreatedDate", "LastModifiedDate", "SystemModstamp"),
    *("IsConverted", "ConvertedContactId", "MasterRecordId", "LastActivityDate"),
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
                for name in (*re.split(", ?", found[1]), *filtered):
                    path, _, nested = name.rpartition(".")
                    assert set(path.split(".")) <= {"", "ConvertedContact", "MasterRecord"}
                    of = "Contact" if "ConvertedContact" in path else found[2]
                    self.read.add(f"{of}.{nested}")
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
    # a permission set names fields of records; who has which permission is part of the set-up
    touched = {
        name
        for name in used.read | used.written
        if not name.startswith(("PermissionSet.", "PermissionSetAssignment."))
    }
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
    (mapping,) = read(LEAD_MAPPING).iter(f"{NAMESPACE}objectMapping")
    assert (child_text(mapping, "inputObject"), child_text(mapping, "outputObject")) == (
        "Lead",
        "Contact",
    )
    pairs = {
        (child_text(pair, "inputField"), child_text(pair, "outputField"))
        for pair in mapping.iter(f"{NAMESPACE}mappingFields")
    }
    assert pairs == {(name, name) for name in OUR_FIELDS}


def lead_mapping(*parts: tuple[str, str, str], options: str = "") -> str:
    """The LeadConvertSettings of an org; each part has an object, a field of Lead and its target"""
    objects = "".join(
        "<objectMapping><inputObject>Lead</inputObject><mappingFields>"
        f"<inputField>{source}</inputField><outputField>{target}</outputField></mappingFields>"
        f"<outputObject>{sobject}</outputObject></objectMapping>"
        for sobject, source, target in parts
    )
    namespace = NAMESPACE.strip("{}")
    return f'<LeadConvertSettings xmlns="{namespace}">{objects}{options}</LeadConvertSettings>'


def mapped(text: str) -> set[tuple[str, str, str]]:
    return {
        (
            str(child_text(part, "outputObject")),
            str(child_text(line, "inputField")),
            str(child_text(line, "outputField")),
        )
        for part in ElementTree.fromstring(text).iter(f"{NAMESPACE}objectMapping")
        for line in part.iter(f"{NAMESPACE}mappingFields")
    }


OURS_ON_CONTACT = {("Contact", name, name) for name in OUR_FIELDS}
OPTIONS = "<opportunityCreationOptions>VisibleOptional</opportunityCreationOptions>"


@pytest.mark.parametrize(
    "own",
    [
        [],
        [("Account", "A__c", "B__c")],
        [("Account", "A__c", "B__c"), ("Contact", "C__c", "D__c")],
        [("Contact", KEY_FIELD, KEY_FIELD), ("Opportunity", KEY_FIELD, KEY_FIELD)],
    ],
)
def test_our_lines_are_added_to_the_org_s_own_lead_mapping(own: list[tuple[str, str, str]]) -> None:
    ours = LEAD_MAPPING.read_text()
    retrieved = "<allowOwnerChange>true</allowOwnerChange>".join(
        re.split('(?<=metadata">)', lead_mapping(*own, options=OPTIONS))
    )
    text, added = add_lines(retrieved, ours)
    assert mapped(text) == {*own, *OURS_ON_CONTACT}
    assert set(added) == OUR_FIELDS - {name for of, name, _ in own if of == "Contact"}
    tags = [child.tag.removeprefix(NAMESPACE) for child in ElementTree.fromstring(text)]
    parts = len({"Contact", *(of for of, _, _ in own)})
    assert tags == ["allowOwnerChange", *["objectMapping"] * parts, "opportunityCreationOptions"]
    for part in ElementTree.fromstring(text).iter(f"{NAMESPACE}objectMapping"):
        inside = [child.tag.removeprefix(NAMESPACE) for child in part]
        assert (inside[0], inside[-1]) == ("inputObject", "outputObject")
    assert add_lines(text, ours) == (text, [])


@pytest.mark.parametrize(
    "line", [("Contact", "Mine__c", VERSION_FIELD), ("Contact", VERSION_FIELD, "Mine__c")]
)
def test_a_line_of_the_org_that_is_in_the_way_is_named(line: tuple[str, str, str]) -> None:
    with pytest.raises(MappingConflict, match=f"Lead.{line[1]} to Contact.{line[2]}, but Lead"):
        add_lines(lead_mapping(line), LEAD_MAPPING.read_text())


def test_the_script_changes_what_was_retrieved_and_an_org_without_a_mapping_gets_ours(
    tmp_path: Path,
) -> None:
    assert "ours stands alone" in main(tmp_path)
    target = tmp_path / LEAD_MAPPING.relative_to(LEAD_CONVERSION)
    assert target.read_bytes() == LEAD_MAPPING.read_bytes()
    assert (tmp_path / "package.xml").exists()
    target.write_text(lead_mapping(("Account", "A__c", "B__c")))
    # as an administrator runs it, without anything of ours installed
    alone = tmp_path / "hand-over"
    shutil.copytree(FOLDER, alone, ignore=shutil.ignore_patterns("__pycache__"))
    run = subprocess.run(
        [sys.executable, "-I", str(alone / "add_lead_mapping.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith("added Nylas_Contact_Id__c, ")
    assert mapped(target.read_text()) == {("Account", "A__c", "B__c"), *OURS_ON_CONTACT}
    assert "nothing to add" in main(tmp_path)
