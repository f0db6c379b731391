"""Which fields of its record a person would change.

A field is written only if nobody but us has written it, as `field_hashes` says. The owner of the
record's key may then overwrite; everybody else only fills blanks. A restore is the exception: it
names fields that the owner writes over anybody's value, after a bad import for instance.
"""

from dataclasses import dataclass
from typing import Any

from connectors.salesforce.api.describe import FieldDescribe
from connectors.salesforce.counting import CountCallback, SyncWarning
from connectors.salesforce.field_hashes import (
    FieldHashes,
    is_blank,
    is_blank_text,
    same,
    value_hash,
)
from connectors.salesforce.field_values import FieldValue, field_values, is_fallback
from connectors.salesforce.mapping_rules import FieldPolicy
from connectors.salesforce.org_fields import (
    EMAIL_FIELDS,
    KEY_FIELD,
    MARKER_FIELD,
    PERSON_CONTACT_FIXED,
    VERSION_FIELD,
)
from connectors.salesforce.person import Person
from connectors.salesforce.schema import Schema
from connectors.salesforce.sobject_record import SObjectRecord

PRIMARY_EMAIL, *FURTHER_EMAILS = EMAIL_FIELDS
# each part of a name with the other one
_NAME_PARTS = {"FirstName": "LastName", "LastName": "FirstName"}
_NO_FIELDS: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Merge:
    """A record, what we know to have written in it, and whether the person may replace values."""

    record: SObjectRecord
    schema: Schema
    owner: bool
    new: bool
    """Whether the record is to be created."""
    writable: frozenset[str]
    """The fields that the user may set in this record."""
    restored: frozenset[str] = frozenset()
    """Fields that are written over anybody's value. Only an owner has any, so that two contacts of
    one record do not take turns.
    """
    _hashes: FieldHashes | None = None

    @property
    def hashes(self) -> FieldHashes:
        """The record's marker; read only where a field may change."""
        if self._hashes is None:
            self._hashes = FieldHashes.parse(self.record.fields.get(MARKER_FIELD))
        return self._hashes

    def described(self, name: str) -> FieldDescribe:
        return self.schema.described.fields[name]

    def current(self, name: str) -> Any:
        return self.record.fields.get(name)

    def may_fill(self, name: str) -> bool:
        return self.hashes.may_fill(name, self.current(name))

    def untouched(self, name: str) -> bool:
        return self.hashes.untouched(name, self.current(name), self.described(name))

    def stands_in(self, name: str) -> bool:
        """Whether a part of a name, or a company, is blank or only stands in for one."""
        current = self.current(name)
        return is_blank(current) or (
            name != "FirstName" and is_fallback(name, current, self.record.addresses)
        )


def merge_fields(
    record: SObjectRecord,
    person: Person,
    schema: Schema,
    *,
    owner: bool,
    count: CountCallback,
    blanks_only: bool = False,
) -> dict[str, Any]:
    """The fields that would change in the record, in the form in which Salesforce stores them.

    The marker is among them if any value is. `owner`: the record has the person's key, or gets it.
    Then the caller has checked that the person's version is not older. `blanks_only`: no value is
    replaced, also not by the owner, and nothing is restored.
    """
    replaces = owner and not blanks_only
    new = record.id is None
    writable = schema.writable_fields(new=new)
    if record.is_person_account:
        writable -= PERSON_CONTACT_FIXED
    restored = person.restore if replaces else _NO_FIELDS
    merge = _Merge(record, schema, replaces, new, writable, restored)
    values = field_values(schema.mapped, person.contact, person.found_by.fallback, count)
    changed = _mapped_values(merge, values)
    changed |= _addresses(merge, person)
    account_id = person.target.account_id
    # a Lead has no AccountId, so it is not writable there
    if account_id and "AccountId" in writable and merge.may_fill("AccountId"):
        changed["AccountId"] = account_id
    changed = _marked(merge, changed, count)
    if owner:
        changed |= _ownership(record, person, schema)
    return changed


def _marked(merge: _Merge, changed: dict[str, Any], count: CountCallback) -> dict[str, Any]:
    """The changes with the marker that goes with them.

    A field for which a full marker has no room is not written, because nothing would protect later
    what people type there. Only what a new record must have is written nevertheless.
    """
    if not changed:
        return changed
    described = merge.schema.described
    required = described.required if merge.new else _NO_FIELDS
    ordered = changed
    if not required.isdisjoint(changed):
        ordered = {name: changed[name] for name in changed if name in required} | changed
    hashes, full = merge.hashes.noting(ordered, described.fields, merge.schema.marker_length)
    written = changed
    if full:
        for name in full:
            count(SyncWarning.MARKER_FULL, f"{merge.record.sobject}.{name}")
        left_out = {*full} - required
        written = {name: value for name, value in changed.items() if name not in left_out}
    if hashes != merge.hashes:
        written[MARKER_FIELD] = str(hashes)
    return written


def _ownership(record: SObjectRecord, person: Person, schema: Schema) -> dict[str, Any]:
    """The key, version and deletion flag that an owner sets."""
    changed: dict[str, Any] = {}
    if record.key is None:
        changed[KEY_FIELD] = person.record_key
    if record.key is None or record.version is None or record.version < person.version:
        changed[VERSION_FIELD] = person.version
    if schema.flag and record.fields.get(schema.flag) is True:
        changed[schema.flag] = False
    return changed


def _mapped_values(merge: _Merge, values: dict[str, FieldValue]) -> dict[str, Any]:
    """The mapped fields that change, except for addresses."""
    stands = merge.record.fields
    if not stands:  # a record that is created: nobody has written anything
        return {
            name: field.value
            for name, field in values.items()
            if name in merge.writable and not is_blank_text(field.value)
        }
    described = merge.schema.described.fields
    allowed = {
        name
        for name, field in values.items()
        if name in merge.writable
        and not same(stands.get(name), field.value, described[name])
        and _may_write(merge, name, field)
    }
    apart = {
        name
        for name in _NAME_PARTS
        if name in allowed and not _fits_other_part(merge, name, values, allowed)
    }
    allowed -= apart
    return {name: field.value for name, field in values.items() if name in allowed}


def _may_write(merge: _Merge, name: str, field: FieldValue) -> bool:
    """Whether the rule of the marker and the mapping's policy let the field be written."""
    if name in merge.restored and not field.fallback:
        return True
    if not merge.new and (field.policy is FieldPolicy.CREATE or field.fallback):
        return False
    if merge.may_fill(name):
        return True
    if field.fallback:
        return False
    if field.policy is FieldPolicy.ALWAYS and merge.owner:
        return True
    if not merge.untouched(name):
        return False
    if name in {"LastName", "Company"} and merge.stands_in(name):
        return True  # we wrote it for a name that we did not know
    return merge.owner and field.policy is FieldPolicy.OVERWRITE


def _fits_other_part(
    merge: _Merge, name: str, values: dict[str, FieldValue], allowed: set[str]
) -> bool:
    """Whether a part of a name would stand beside the other part of the same person's name.

    It does if the other part is written too, stands already, or is the one that the contact had
    when we wrote it: a person corrected it since. An unknown part contradicts nothing that is
    filled in, but a part that stands is not replaced without it.
    """
    other = _NAME_PARTS[name]
    if values[name].policy is FieldPolicy.ALWAYS or other not in merge.schema.mapped.fields:
        return True
    theirs = values.get(other)
    if merge.stands_in(other) or other in allowed:
        return True
    if theirs is None or theirs.fallback:
        return merge.stands_in(name)
    return str(merge.current(other)).strip().casefold() == str(
        theirs.value
    ).casefold() or merge.hashes.left(other, theirs.value, merge.described(other))


def _addresses(merge: _Merge, person: Person) -> dict[str, str]:
    """The address fields that change."""
    if not merge.record.fields:
        return dict(zip(_address_fields(merge), person.addresses, strict=False))
    held = set(merge.record.addresses)
    first = person.addresses[:1]
    if first in ((), (merge.record.email,)) and held.issuperset(person.addresses):
        return {}  # nearly always
    before = {name: _address(merge.current(name)) for name in EMAIL_FIELDS}
    read = set(merge.record.read_addresses)
    policy = merge.schema.mapped.email_policy
    if policy is not None and PRIMARY_EMAIL in merge.restored:
        policy = FieldPolicy.ALWAYS
    fields = _address_fields(merge)
    wanted = _not_removed(merge, person, before)
    if merge.owner and policy in {FieldPolicy.OVERWRITE, FieldPolicy.ALWAYS}:
        mirrored = policy is FieldPolicy.ALWAYS
        after = _owners_addresses(merge, fields, wanted, before, mirrored=mirrored)
    else:
        free = [name for name in fields if not before[name] and merge.may_fill(name)]
        missing = [address for address in wanted if address not in held]
        front = wanted[:1]
        if free[:1] == [PRIMARY_EMAIL] and read.intersection(front).difference(before.values()):
            missing = front + missing  # Email is the field by which activity capture finds people
        after = before | dict(zip(free, missing, strict=False))
    return {name: after[name] for name in fields if after[name] != before[name]}


def _address_fields(merge: _Merge) -> list[str]:
    """The address fields that may be written by the mapping's policy and by the org."""
    policy = merge.schema.mapped.email_policy
    if policy is not None and PRIMARY_EMAIL in merge.restored:
        policy = FieldPolicy.ALWAYS
    fields = [name for name in merge.schema.emails if name in merge.writable]
    if policy is None or (policy is FieldPolicy.CREATE and not merge.new):
        return [name for name in fields if name != PRIMARY_EMAIL]
    return fields


def _not_removed(merge: _Merge, person: Person, before: dict[str, str]) -> list[str]:
    """The person's addresses, without those that somebody cleared from one of our further fields.

    Such an address would otherwise come back in another field.
    """
    cleared = {
        merge.hashes.entries[name]
        for name in FURTHER_EMAILS
        if not before[name] and merge.hashes.wrote(name)
    }
    if not cleared:
        return list(person.addresses)
    described = merge.described(PRIMARY_EMAIL)
    return [each for each in person.addresses if value_hash(each, described) not in cleared]


def _owners_addresses(
    merge: _Merge,
    fields: list[str],
    wanted: list[str],
    before: dict[str, str],
    *,
    mirrored: bool,
) -> dict[str, str]:
    """The addresses after an owner's are written: its primary one in Email, if that is still ours.

    Its other addresses follow in its order in those of our further fields that nobody else wrote.
    Behind them is what stood there, and what stood in Email, as far as there is room: somebody was
    found by it. `mirrored`: Email takes the primary address whatever stands there.
    """
    after = dict(before)
    if wanted and PRIMARY_EMAIL in fields and (mirrored or merge.untouched(PRIMARY_EMAIL)):
        after[PRIMARY_EMAIL] = wanted[0]
    places = [name for name in fields if name != PRIMARY_EMAIL and merge.untouched(name)]
    fixed = {address for name, address in after.items() if name not in places}
    read = merge.record.read_addresses
    own = [address for address in wanted if address not in fixed and address not in read]
    # first what may stay where it is
    standing = (*places[len(own) :], *places[: len(own)], PRIMARY_EMAIL)
    stood = [before[name] for name in standing]
    kept = [each for each in dict.fromkeys(stood) if each and each not in {*own, *fixed}]
    if not {*own, before[PRIMARY_EMAIL]} <= {*after.values(), ""}:
        after |= zip(places, [*own, *kept], strict=False)
    return after


def _address(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""
