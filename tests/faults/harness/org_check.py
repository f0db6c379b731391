"""Checks the org: its records at the end, and the order in which versions were written to it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.faults.harness.evidence import Evidence, Verdict, Write
from tests.faults.harness.model import DELETED, Contact
from tests.faults.harness.records import ReadChange, mapped_content

KEY_FIELD, VERSION_FIELD = "Nylas_Contact_Id__c", "Nylas_Version__c"
ADDRESS_FIELDS = ("Email", "Nylas_Email_2__c", "Nylas_Email_3__c")

Record = Mapping[str, Any]
DeadLettered = Mapping[str, Sequence[ReadChange]]


def check_org(
    verdict: Verdict,
    evidence: Evidence,
    contacts: Mapping[str, Contact],
    dead_lettered: DeadLettered,
) -> None:
    """`org_differs`: each contact's record is as the model says, or its version a dead letter."""
    by_key = _by_key(evidence.org)
    people: dict[str, list[str]] = defaultdict(list)
    for key, contact in contacts.items():
        if contact.forwarded is not None:
            people[contact.address or key].append(key)
    for keys in people.values():
        verdict.checked["people"] += 1
        excused = {
            key
            for key in keys
            if contacts[key].forwarded_version
            in {letter.version for letter in dead_lettered.get(key, ())}
        }
        for key in keys:
            record = by_key.get(key)
            if record is None or key in excused:
                continue
            if found := _contact_differences(contacts[key], record):
                verdict.add("org_differs", f"{key}: {'; '.join(found)}")
        existing = [key for key in keys if contacts[key].forwarded != DELETED]
        if existing and not excused and not any(key in by_key for key in existing):
            names = " and ".join(existing)
            verdict.add("org_differs", f"{names}: neither in the org nor in the dead letters")


def check_book(verdict: Verdict, evidence: Evidence, dead_lettered: DeadLettered) -> None:
    """`book_differs`: the org holds the address book that was read page by page."""
    book = evidence.book
    if book is None:
        return
    by_key = _by_key(evidence.org)
    expected = {f"{book.grant}/{name}": contact for name, contact in book.contacts.items()}
    for key, contact in expected.items():
        verdict.checked["contacts of the address book"] += 1
        content = mapped_content(contact)
        if any(letter.content == content for letter in dead_lettered.get(key, ())):
            continue
        record = by_key.get(key)
        found = ["not in the org"] if record is None else _field_differences(content, record)
        if found:
            verdict.add("book_differs", f"{key}: {'; '.join(found)}")
    for key, record in by_key.items():
        gone = key.startswith(f"{book.grant}/") and key not in expected
        if gone and not any(letter.content == DELETED for letter in dead_lettered.get(key, ())):
            verdict.add("book_differs", f"{key}: gone, and {record['Id']} still holds its key")


def check_order(verdict: Verdict, evidence: Evidence, contacts: Mapping[str, Contact]) -> None:
    """`went_backwards`: no write put an older version of a contact after a newer one."""
    newest: dict[str, int] = {}
    held: dict[str, tuple[str, int]] = {}  # by record: the key that it holds, and the version
    for write in sorted(evidence.writes, key=lambda one: one.sequence):
        verdict.checked["writes in the org"] += 1
        before = held.pop(write.record_id, None)
        if before is not None and before[0] != write.key:
            _check_release(verdict, write, before, contacts, newest)
        if write.key is None or write.version is None:
            continue
        version = newest.get(write.key, -1)
        if write.version < version:
            verdict.add(
                "went_backwards",
                f"{write.key}: {write.version} after {version} (write {write.sequence})",
            )
        newest[write.key] = max(write.version, version)
        held[write.record_id] = (write.key, write.version)


def _check_release(
    verdict: Verdict,
    write: Write,
    released: tuple[str, int],
    contacts: Mapping[str, Contact],
    newest: dict[str, int],
) -> None:
    """A record may lose its key only for a deletion that is not older than what it held."""
    key, version = released
    deletions = contacts[key].deletions if key in contacts else set()
    not_older = [deletion for deletion in deletions if deletion >= version]
    if not_older:
        newest[key] = max(min(not_older), newest.get(key, -1))
    else:
        verdict.add(
            "went_backwards",
            f"{key}: released at {version}, and every deletion is older (write {write.sequence})",
        )


def check_doubles(verdict: Verdict, evidence: Evidence) -> None:
    """`key_doubled` and `person_doubled`: no key and no address is on two records."""
    keys: dict[str, list[str]] = defaultdict(list)
    holders: dict[str, set[str]] = defaultdict(set)
    for record in evidence.org:
        if record.get(KEY_FIELD):
            keys[record[KEY_FIELD]].append(record["Id"])
        for name in ADDRESS_FIELDS:
            if record.get(name):
                holders[record[name].lower()].add(record["Id"])
    for key, ids in keys.items():
        if len(ids) > 1:
            verdict.add("key_doubled", f"{key} is on {len(ids)} records ({', '.join(ids[:3])})")
    for address, found in holders.items():
        if len(found) > 1:
            ids = sorted(found)[:3]
            verdict.add(
                "person_doubled",
                f"{len(found)} records hold one address ({', '.join(ids)}), {address[:3]}...",
            )


def _by_key(org: Iterable[Record]) -> dict[str, Record]:
    return {record[KEY_FIELD]: record for record in org if record.get(KEY_FIELD)}


def _contact_differences(contact: Contact, record: Record) -> list[str]:
    if contact.forwarded is None or contact.forwarded == DELETED:
        return [f"deleted, and {record['Id']} still holds its key"]
    found = _field_differences(contact.forwarded, record)
    version = int(record[VERSION_FIELD] or -1)
    if version != contact.forwarded_version:
        found.append(f"version {version}, expected {contact.forwarded_version}")
    return found


def _field_differences(content: Mapping[str, Any], record: Record) -> list[str]:
    """What differs. A further address may stand behind one that the contact had before.

    Somebody was found by that one, so that it stays; an address that comes back stays in its place.
    """
    further = {record.get(name) for name in ADDRESS_FIELDS[1:]}
    return [
        f"{name} {record.get(name)!r}, expected {value!r}"
        for name, value in _expected_fields(content, record).items()
        if record.get(name) != value and not (name in ADDRESS_FIELDS[1:] and value in further)
    ]


def _expected_fields(content: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """The record's fields by the default mapping; a field that the contact lacks is left out."""
    emails = [one["email"].lower() for one in content.get("emails", ())]
    phones = {
        one.get("type") == "mobile": one["number"] for one in content.get("phone_numbers", ())
    }
    fields = {
        "FirstName": content.get("given_name"),
        "LastName": content.get("surname"),
        "Title": content.get("job_title"),
        "Email": emails[0] if emails else None,
        "Nylas_Email_2__c": emails[1] if len(emails) > 1 else None,
        "Phone": phones.get(False),
        "MobilePhone": phones.get(True),
        # A Contact's company is its Account.
        "Company": content.get("company_name") if str(record["Id"]).startswith("00Q") else None,
    }
    return {name: value for name, value in fields.items() if value is not None}
