"""A small Salesforce org without HTTP: lookup by key and address, unique keys, the version rule."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from connectors.salesforce.accounts import AccountDirectory
from connectors.salesforce.api.describe import FieldDescribe, ObjectDescribe
from connectors.salesforce.candidates import CandidateIndex
from connectors.salesforce.field_values import bind
from connectors.salesforce.outcome import ContactVersion, Outcome
from connectors.salesforce.planner import WritePlanner, partition_batch, rows
from connectors.salesforce.policy import Policy
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.schema import Schema, schema

KEY, VERSION = "Nylas_Contact_Id__c", "Nylas_Version__c"
MARKER = "Nylas_Field_Hashes__c"
EMAILS = ("Email", "Nylas_Email_2__c", "Nylas_Email_3__c")
_TEXT = {"FirstName": 40, "LastName": 80, "Phone": 40, "MobilePhone": 40, "Title": 128, KEY: 255}
_SYSTEM = ("Id", "CreatedDate", "LastModifiedDate", "LastActivityDate")


def describe(sobject: str) -> ObjectDescribe:
    own = {"Contact": ("AccountId",), "Lead": ("IsConverted", "ConvertedContactId")}[sobject]
    texts = _TEXT | ({"Company": 255} if sobject == "Lead" else {})
    fields = [
        *(
            FieldDescribe(
                name,
                "string",
                length=length,
                createable=True,
                updateable=True,
                nillable=name not in {"LastName", "Company"},
            )
            for name, length in texts.items()
        ),
        *(
            FieldDescribe(name, "email", length=80, createable=True, updateable=True)
            for name in EMAILS
        ),
        FieldDescribe(VERSION, "double", createable=True, updateable=True),
        FieldDescribe(MARKER, "textarea", length=4096, createable=True, updateable=True),
        FieldDescribe("Gone__c", "boolean", createable=True, updateable=True),
        *(FieldDescribe(name, "reference", createable=True, updateable=True) for name in own),
        *(FieldDescribe(name, "string") for name in _SYSTEM),
    ]
    return ObjectDescribe(
        sobject, {field.name: field for field in fields}, createable=True, updateable=True
    )


def schemas(policy: Policy) -> dict[str, Schema]:
    return {
        name: schema(describe(name), bind(policy.mapping, describe(name)), policy.flag_field)
        for name in ("Contact", "Lead")
    }


class PlainOrg:
    """An org in memory. `records` by ID, each with `sobject`; `written` counts rows.

    `last_rows` are those of the last sync.
    """

    def __init__(
        self, policy: Policy | None = None, accounts: Mapping[str, str] | None = None
    ) -> None:
        self.policy = policy or Policy()
        self.schemas = schemas(self.policy)
        self.accounts = AccountDirectory(accounts)
        self.records: dict[str, dict[str, Any]] = {}
        self.counts: list[tuple[str, str]] = []
        self.written = 0
        self.last_rows: list[WriteRow] = []
        self._clock = 0

    def add(self, sobject: str, **fields: Any) -> str:
        prefix = "003" if sobject == "Contact" else "00Q"
        record_id = f"{prefix}{len(self.records):012d}AAA"
        stamp = self._stamp()
        self.records[record_id] = {
            "sobject": sobject,
            "Id": record_id,
            "CreatedDate": stamp,
            "LastModifiedDate": stamp,
            **fields,
        }
        return record_id

    def convert(self, lead_id: str, contact_id: str | None) -> None:
        self.records[lead_id] |= {"IsConverted": True, "ConvertedContactId": contact_id}

    def _stamp(self) -> str:
        self._clock += 1
        return f"2026-01-01T00:{self._clock // 60:02d}:{self._clock % 60:02d}.000+0000"

    def of(self, sobject: str) -> list[dict[str, Any]]:
        return [record for record in self.records.values() if record["sobject"] == sobject]

    def people(self) -> list[dict[str, Any]]:
        return [record for record in self.records.values() if not record.get("IsConverted")]

    def sync(self, *changes: ContactVersion) -> dict[str, Outcome]:
        """Plans a batch against the records with its keys and addresses, and applies the rows."""
        batch = partition_batch(changes, self.policy, self.accounts)
        keys = {someone.record_key for _, someone in batch.people} | {
            change.key for change in batch.deleted
        }
        addresses = {address for _, someone in batch.people for address in someone.addresses}
        candidates = CandidateIndex()
        for sobject in ("Contact", "Lead"):
            candidates.add_rows(sobject, self._query(sobject, keys, addresses))
        planner = WritePlanner(
            candidates,
            self.schemas,
            self.policy,
            self.accounts,
            lambda what, where: self.counts.append((what, where)),
        )
        decisions = [*batch.decided, *planner.plan(batch.people, batch.deleted)]
        self.last_rows = rows(decisions)
        for row in self.last_rows:
            self._apply(row.sobject, dict(row.fields))
        return {decision.change.key: decision.outcome for decision in reversed(decisions)}

    def _query(
        self, sobject: str, keys: Iterable[str], addresses: Iterable[str]
    ) -> Iterator[dict[str, Any]]:
        keys, addresses = set(keys), set(addresses)
        for record in self.of(sobject):
            if record.get(KEY) in keys or any(
                (record.get(name) or "").lower() in addresses for name in EMAILS
            ):
                yield dict(record) | {
                    "ConvertedContact": self.records.get(record.get("ConvertedContactId") or "")
                }

    def _apply(self, sobject: str, fields: dict[str, Any]) -> None:
        self.written += 1
        record_id = fields.pop("Id", None)
        key = fields.get(KEY)
        if record_id is None:
            assert key, "a creation without a key"
            assert fields.get("LastName"), "a creation without a last name"
            assert not any(record.get(KEY) == key for record in self.of(sobject)), (
                "the key was there already"
            )
            record_id = self.add(sobject)
        record = self.records[record_id]
        assert not record.get("IsConverted"), "a converted Lead takes no writes"
        assert not (
            key and any(other is not record and other.get(KEY) == key for other in self.of(sobject))
        )
        if KEY not in fields and VERSION in fields and record.get(VERSION):
            assert fields[VERSION] >= record[VERSION], "the version rule refuses this"
        record |= fields | {"LastModifiedDate": self._stamp()}


def change(key: str, *emails: str, version: int = 100, **fields: Any) -> ContactVersion:
    """`key` is `grant/contact`; a name is given as first= and last=."""
    contact = {"id": key, "emails": [{"email": email} for email in emails]}
    names = {
        "first": "given_name",
        "last": "surname",
        "title": "job_title",
        "company": "company_name",
    }
    return ContactVersion(
        key, version, contact | {names.get(name, name): value for name, value in fields.items()}
    )


def gone(key: str, version: int = 200) -> ContactVersion:
    return ContactVersion(key, version, None)


def only(org: PlainOrg) -> dict[str, Any]:
    (record,) = org.people()
    return record
