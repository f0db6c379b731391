"""The tables of the data map: which data lies where, who reads it, and each permission.

What the code knows is taken from the code: the fields of the mapping, the topics with their
policies, the ACLs, and the permission sets. What it cannot know stands here, and the tests fail
where an entry is missing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

from connectors.salesforce.kept_fields import EXCLUDED, fields_read
from connectors.salesforce.mapping_rules import PRIMARY_ADDRESS, FieldMapping
from connectors.salesforce.org_fields import EMAIL_FIELDS
from streams.acls import ROLES, role_acls
from streams.settings import KafkaSettings, load
from streams.topics import Topics, topics
from tests.support.paths import ROOT

PERMISSION_SETS = tuple(
    ROOT / f"deploy/salesforce/{app}/main/default/permissionsets"
    for app in ("force-app", "optional-app")
)
NAMESPACE = {"md": "http://soap.sforce.com/2006/04/metadata"}

# Every field of a contact that Nylas documents. [Nylas API v3, Contacts: the contact object]
CONTACT_FIELDS = (
    "birthday", "company_name", "display_name", "emails", "given_name", "grant_id", "groups", "id",
    "im_addresses", "job_title", "manager_name", "middle_name", "nickname", "notes", "object",
    "office_location", "phone_numbers", "physical_addresses", "picture", "picture_url", "source",
    "suffix", "surname", "web_pages",
)  # fmt: skip

IDENTITY = {"grant_id", "id", "object"}

WHY_READ: Mapping[str, str] = {
    "company_name": "tells people of one name apart; `Company` of a Lead",
    "emails": "finds the person; decides who is left out",
    "given_name": "finds the person",
    "nickname": "another first name of the person",
    "source": "decides whether the contact is from the address book",
    "suffix": "tells a father from his son",
    "surname": "finds the person",
}
"""Of each field that is read for more than a mapped value."""

READ_BY_SETTING: Mapping[str, tuple[str, str]] = {
    "groups": ("with `PEOPLE_GROUPS` or `PEOPLE_EXCLUDED_GROUPS`", "decides who is left out"),
}
"""Of each field that is kept only where a setting reads it: which one, and why."""

OF_A_PERSON: Mapping[str, str] = {
    "events": "the whole contact as Nylas sent it, mapped or not; the address of the grant",
    "changes": "the fields that are read; of an excluded person why, and whether it was synced",
    "refetch": "the contact's key",
    "outcomes": "the contact's key, the outcome, record IDs",
    "journal": "replaced and new values of mapped fields, record ID, the contact's key",
    "accounts": "nobody: hosts of the org's Accounts",
    "dead_letter": "a record that failed, as it was, and the org's message",
    "audit": "who did what; what an operator typed into a selection",
    "deleted_records": "the contact's key, record IDs, salted hashes of addresses",
    "grants": "the address of a mailbox and its state",
    "runs": "grant IDs; the addresses of mailboxes that a run names",
    "control": "who paused or adopted; the key of one contact that failed; names of contact groups",
    "suppression": "salted hashes of addresses and keys of erased people",
    "seen_changelog": "the contact's key, versions, hashes",
}
"""By the field of `Topics`: what a topic holds of a person."""

ELSEWHERE = (
    ("memory of dedupe", "the contact's key, versions, hashes", "while it runs"),
    ("memory of sink and reader", "the fields that are read, of what waits", "while it runs"),
    ("memory of the console", "keys and outcomes; a timeline that is asked for", "while it runs"),
    (
        "Salesforce",
        "the mapped fields, further addresses, key, version, hashes of written fields",
        "until people delete the record; what is ours until an erasure",
    ),
    ("logs", "none: no name, no address; a contact is a short hash of its key", "yours to decide"),
    ("metrics", "none: no label names a contact", "yours to decide"),
    ("traces", "none: counts and topics", "yours to decide"),
)

SALESFORCE_REASONS: Mapping[str, str] = {
    "Account: read": "the domains of Accounts decide between Contact and Lead",
    "Account: view all": "an Account that sharing hides would make a Lead of its Contact",
    "Contact: create, edit, read": "writes people of known Accounts",
    "Contact: view all": "a person whom sharing hides would be made a second time",
    "Lead: create, edit, read": "writes people without an Account",
    "Lead: view all": "a person whom sharing hides would be made a second time",
    "ApiEnabled": "every call is one of the REST API",
    "ViewRoles": "`doctor` says whether sharing hides records",
    "ViewSetup": "`doctor` reads the version rule, the lead field mapping and the limits",
    "Nylas_Restore_Older_Version": "a backup tool puts an older version back; never our own user",
    "Contactstream_Bulk_Load": "flows test it, so that they can leave a first sync alone",
    "Account.ParentId": "of several Accounts with one domain the parent is taken",
    "Account.Website": "the domain of an Account",
    "AccountId": "a Contact belongs to its Account",
    "Email": "finds and writes the primary address",
    "Phone": "a mapped field",
    "MobilePhone": "a mapped field",
    "Title": "a mapped field",
    "Nylas_Contact_Id__c": "which contact owns the record",
    "Nylas_Email_2__c": "a further address, by which a person is found",
    "Nylas_Email_3__c": "a further address, by which a person is found",
    "Nylas_Field_Hashes__c": "what we wrote, so that what people typed stays",
    "Nylas_Created_By_Sync__c": "marks the records that we created, if it is mapped",
    "Nylas_Last_Written__c": "when we last wrote the record, if it is mapped",
    "Nylas_Source_Mailbox__c": "whose address book the record is from, if it is mapped",
    "Nylas_Why__c": "why we wrote the record, if it is mapped",
    "Nylas_Version__c": "an older change never overwrites a newer one",
}
"""By the permission; of a field on both objects by its name alone."""


NYLAS_SCOPES = (
    ("contacts.readonly", "Google", "reads the address book"),
    ("contacts.other.readonly", "Google", "reads the source `inbox`, if `NYLAS_SOURCES` names it"),
    ("directory.readonly", "Google", "reads the source `domain`, if `NYLAS_SOURCES` names it"),
    ("Contacts.Read", "Microsoft", "reads the address book"),
    (
        "People.Read",
        "Microsoft",
        "reads the sources `inbox` and `domain`, if `NYLAS_SOURCES` names one",
    ),
)
"""The least scopes for reading contacts, and for the notifications of them.

[Nylas API v3, Contacts scopes: developer.nylas.com/docs/v3/contacts/contacts-scopes] Its table of
notifications writes Google's scope as `contact.readonly`; that of the API, and Google, write
`contacts.readonly`.
"""


def nylas_scopes() -> str:
    """Each scope that the owner of an address book grants, and why it is needed."""
    lines = ["| scope | provider | why |", "|---|---|---|"]
    lines += [f"| `{scope}` | {provider} | {why} |" for scope, provider, why in NYLAS_SCOPES]
    return "\n".join(lines)


def data_fields() -> str:
    """Each field of a contact: where it lies with the default mapping, and why it is read."""
    mapping = FieldMapping()
    kept = fields_read(mapping) - {EXCLUDED}
    lines = [
        "| field of a contact | `contacts.events` | `contacts.changes`, `contacts.dead-letter` | "
        "Salesforce, `contacts.journal` | why it is read |",
        "|---|---|---|---|---|",
    ]
    for name in CONTACT_FIELDS:
        written = ", ".join(f"`{field}`" for field in _written(mapping, name))
        why = "names the contact" if name in IDENTITY else WHY_READ.get(name, "")
        if not why and name in kept:
            why = "a mapped value"
        is_kept = "yes" if name in kept or name in IDENTITY else "no"
        is_kept, why = READ_BY_SETTING.get(name, (is_kept, why))
        lines.append(f"| `{name}` | yes | {is_kept} | {written} | {why} |")
    return "\n".join(lines)


def _written(mapping: FieldMapping, name: str) -> list[str]:
    """The Salesforce fields that a field of a contact is written to."""
    found = {
        rule.field
        for rule in (*mapping.contact, *mapping.lead)
        for path in rule.paths
        if path.partition("[")[0] == name or (path == PRIMARY_ADDRESS and name == "emails")
    }
    return sorted(found.union(EMAIL_FIELDS if name == "emails" else ()))


def data_places() -> str:
    """Each place with data of people: what, for how long, and which roles read it."""
    kafka = load(KafkaSettings, {})
    names = topics(kafka)
    lines = ["| place | what of a person | for how long | read by |", "|---|---|---|---|"]
    for attribute in (field.name for field in fields(Topics)):
        topic = getattr(names, attribute)
        readers = ", ".join(_readers(kafka, topic.name))
        lines.append(
            f"| `{topic.name}` | {OF_A_PERSON[attribute]} | {_kept_for(topic.config)} | {readers} |"
        )
    lines += [f"| {place} | {what} | {how_long} | |" for place, what, how_long in ELSEWHERE]
    return "\n".join(lines)


def _readers(kafka: KafkaSettings, topic: str) -> Iterator[str]:
    for role in ROLES:
        if any(
            acl.kind == "topic"
            and "Read" in acl.operations
            and (topic.startswith(acl.name) if acl.prefixed else topic == acl.name)
            for acl in role_acls(kafka, role)
        ):
            yield role


def _kept_for(config: Mapping[str, str]) -> str:
    days = 86_400_000
    policy, parts = config["cleanup.policy"], []
    if "compact" in policy:
        parts.append(f"until replaced, and {int(config['max.compaction.lag.ms']) // days} days")
    if "delete" in policy:
        parts.append(f"{int(config['retention.ms']) // days} days")
    return "; at most ".join(parts)


def salesforce_permissions() -> str:
    """Each permission of each permission set, and why it is needed."""
    lines = ["| permission set | permission | why |", "|---|---|---|"]
    for path in permission_set_files():
        label = path.name.partition(".")[0]
        given = permissions(ElementTree.parse(path).getroot())
        lines += [f"| `{label}` | `{each}` | {reason(each)} |" for each in given]
    return "\n".join(lines)


def permission_set_files() -> list[Path]:
    """The files of all permission sets, by their API names."""
    found = (path for folder in PERMISSION_SETS for path in folder.glob("*.permissionset-meta.xml"))
    return sorted(found, key=lambda path: path.name)


def reason(permission: str) -> str:
    """Why a permission is needed. Raises KeyError for one without a reason."""
    field = permission.partition(":")[0]
    for name in (permission, field):
        if name in SALESFORCE_REASONS:
            return SALESFORCE_REASONS[name]
    return SALESFORCE_REASONS[field.rpartition(".")[2]]


def permissions(root: ElementTree.Element) -> Iterator[str]:
    """The permissions that a permission set gives."""
    for each in root.findall("md:objectPermissions", NAMESPACE):
        name = each.findtext("md:object", "", NAMESPACE)
        given = [
            word
            for tag, word in (
                ("allowCreate", "create"),
                ("allowDelete", "delete"),
                ("allowEdit", "edit"),
                ("allowRead", "read"),
            )
            if each.findtext(f"md:{tag}", "", NAMESPACE) == "true"
        ]
        yield f"{name}: {', '.join(given)}"
        for tag, word in (("viewAllRecords", "view all"), ("modifyAllRecords", "modify all")):
            if each.findtext(f"md:{tag}", "", NAMESPACE) == "true":
                yield f"{name}: {word}"
    for each in root.findall("md:fieldPermissions", NAMESPACE):
        can = "edit" if each.findtext("md:editable", "", NAMESPACE) == "true" else "read"
        yield f"{each.findtext('md:field', '', NAMESPACE)}: {can}"
    for tag in ("userPermissions", "customPermissions"):
        for each in root.findall(f"md:{tag}", NAMESPACE):
            yield each.findtext("md:name", "", NAMESPACE)
