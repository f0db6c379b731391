"""The match rules: which of the candidate records a person is, if any."""

from dataclasses import dataclass

from connectors.salesforce.candidates import CandidateIndex
from connectors.salesforce.person import Person, grant_of
from connectors.salesforce.sobject_record import SObjectRecord


@dataclass(frozen=True, slots=True)
class Match:
    """The record that a person is; None if there is none.

    `matched` says how it was found: `key`, `email`, `converted_lead` or `merged`. `shared`: an
    address belongs to another person of the same address book. `converted`: a converted Lead is
    this person, and its Contact is gone. `keyless`: the record is a Lead, and cannot get the
    person's key, because a converted Lead holds it.
    """

    record: SObjectRecord | None = None
    matched: str | None = None
    ambiguous: bool = False
    shared: bool = False
    converted: bool = False
    keyless: bool = False


def find_match(candidates: CandidateIndex, person: Person) -> Match:
    """The record that a person is. The first of these rules that finds one decides:

    1. The key: on a Contact, on an open Lead, on a converted Lead or a merged record (which means
       its Contact, or the record that people kept).
    2. Any address: on a Contact, on a converted Lead or a merged record, on an open Lead. A record
       that is not `acceptable` is left out.

    Of several records at one step `_preference` decides. A record with a key of another address
    book and another name may be another person: it is taken if no later step finds a certain one.
    """
    if holders := candidates.with_key(person.record_key):
        return Match(holders[0], "key")
    if followed := candidates.followed_with_key(person.record_key):
        return Match(followed.record, followed.matched)
    key_is_taken = candidates.holds_converted_key(person.record_key)
    shared = False
    doubtful: Match | None = None
    moved = candidates.followed_with_address(person.addresses)
    how = {each.record: each.matched for each in moved}
    for found, step in (
        (candidates.with_address("Contact", person.addresses), "email"),
        ([each.record for each in moved], ""),
        (candidates.with_address("Lead", person.addresses), "email"),
    ):
        accepted = [record for record in found if acceptable(record, person)]
        shared = shared or len(accepted) < len(found)
        if accepted:
            certain = [record for record in accepted if _is_certain(record, person)]
            record = min(certain or accepted, key=_preference)
            keyless = key_is_taken and record.sobject == "Lead"
            match = Match(record, step or how[record], ambiguous=len(accepted) > 1, keyless=keyless)
            if certain:
                return match
            doubtful = doubtful or match
    if doubtful:
        return doubtful
    return Match(shared=shared, converted=key_is_taken or _was_converted(candidates, person))


def acceptable(record: SObjectRecord, person: Person) -> bool:
    """Whether a record with an address of a person may be that person.

    Not if a contact of the same address book shares the address but not the name: a family, a
    shared mailbox.
    """
    grant = grant_of(person.record_key)
    if person.name and any(book == grant and name != person.name for book, name in record.joined):
        return False
    return (
        record.key is None
        or grant_of(record.key) != grant
        or not record.has_other_name(person.name)
    )


def _is_certain(record: SObjectRecord, person: Person) -> bool:
    return record.key is None or not record.has_other_name(person.name)


def _was_converted(candidates: CandidateIndex, person: Person) -> bool:
    """Whether a Lead of this person was converted, and its Contact is gone."""
    leads = candidates.orphaned_leads(person.addresses)
    return any(not lead.has_other_name(person.name) for lead in leads)


def _preference(record: SObjectRecord) -> tuple[bool, tuple[int, ...], str, str]:
    """The lowest is taken: one that has a key, then the last modified, then the oldest."""
    modified = str(record.stored.get("LastModifiedDate") or "")
    return (
        record.key is None,
        tuple(-ord(letter) for letter in modified),
        str(record.stored.get("CreatedDate") or "~"),
        record.id or "~",
    )
