"""The match rules: which of the candidate records a person is, if any."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import combinations

from connectors.salesforce.candidates import CandidateIndex
from connectors.salesforce.names import NameComparison, compare_names, is_full_name
from connectors.salesforce.person import Person
from connectors.salesforce.sobject_record import SObjectRecord


@dataclass(frozen=True, slots=True)
class Match:
    """The record that a person is; None if there is none.

    `matched` says how it was found: `key`, `email`, `address_field`, or as a followed record says.
    `dropped` are further addresses of the person that belong to other people. `covered_by`: records
    of other people that hold the person's primary address, the best first; set where nothing was
    found. `ambiguous`: records of different people, each of which may be the person. `converted`: a
    converted Lead is this person, and its Contact is gone. `keyless`: the record is a Lead, and
    cannot get the person's key, because a converted Lead holds it.
    """

    record: SObjectRecord | None = None
    matched: str | None = None
    several: bool = False
    dropped: frozenset[str] = frozenset()
    covered_by: tuple[SObjectRecord, ...] = ()
    ambiguous: tuple[SObjectRecord, ...] = ()
    converted: bool = False
    keyless: bool = False


class MatchTier(IntEnum):
    """How a record was found; the lowest is taken. Contacts and Leads count alike."""

    NAME_AND_PRIMARY = 1
    """A compatible name, and the contact's primary address in `Email`."""
    NAME_AND_ADDRESS = 2
    """A compatible name and any address, also one of a followed record."""
    PRIMARY_IN_EMAIL = 3
    """A name is unknown, and `Email` holds the primary address."""
    PRIMARY = 4
    """A name is unknown, and another field holds the primary address, or a followed record does."""


_NOTHING_FITS = (len(MatchTier) + 1, 0)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A record with an address of the person. `tier` is None for a record that is not the person.

    `living`: it holds the address itself, instead of a record that became it.
    """

    record: SObjectRecord
    matched: str
    living: bool
    name: NameComparison
    tier: MatchTier | None


def find_match(candidates: CandidateIndex, person: Person) -> Match:
    """The record that a person is. The first of these rules that finds one decides:

    1. The key: on a Contact, on an open Lead, or on a record that became another one. It counts
       whatever the names are, because a contact may be renamed. Only a followed record that has
       another contact's key and another name is not the person.
    2. A tier of `MatchTier`, in their order. In a tier an equal name comes before a compatible one;
       `_preference` decides between equals. Records with only compatible names that contradict each
       other are `ambiguous`.

    A record whose name contradicts the person's is never taken, and neither is one of an unknown
    name that holds only a further address. Their addresses are another person's, as far as anybody
    knows: none of them is written for this one. If a record of another name holds the primary
    address, and nothing was found, it covers the person.

    A record that has no key, or the key of another contact, is neither preferred nor avoided: the
    record that people work with is the one to keep current, and both contacts of a person take the
    same one.
    """
    match = _find_by_key(candidates, person)
    # the names of a record that was found by its key decide nothing
    found = list(_candidates(candidates, person, match.record if match else None))
    match = match or _find_by_name(candidates, person, found)
    if not found:
        return match
    others = [
        candidate.record
        for candidate in found
        if candidate.living
        and candidate.tier is None
        and candidate.record is not match.record
        and candidate.record.key != person.record_key
    ]
    if match.record is None and not match.ambiguous and not match.covered_by:
        primary = person.found_by.primary
        # one whose name is unknown would have been found by the primary address
        covering = [record for record in others if primary in record.addresses]
        if covering:
            return Match(covered_by=tuple(sorted(covering, key=_preference)))
    if not others:
        return match
    taken = frozenset(address for record in others for address in record.addresses)
    return replace(match, dropped=taken.intersection(person.addresses))


def best_tier(candidates: CandidateIndex, person: Person) -> tuple[int, int]:
    """The lower, the better the best record for the person fits by address and name."""
    if candidates.is_empty:
        return _NOTHING_FITS
    found = [
        (int(candidate.tier), -int(candidate.name))
        for candidate in _candidates(candidates, person)
        if candidate.tier is not None
    ]
    return min(found, default=_NOTHING_FITS)


def accepts(record: SObjectRecord, person: Person) -> bool:
    """Whether a record that was found in another way than by an address is the person.

    By the same rule: names and addresses have to fit.
    """
    shared = not set(person.addresses).isdisjoint((*record.addresses, *record.people))
    return shared and _living_tier(record, person, compare_person(record, person)) is not None


def covers(record: SObjectRecord, person: Person) -> bool:
    """Whether the record is another person's, and holds the person's primary address."""
    return (
        person.found_by.primary in record.addresses
        and compare_person(record, person) is NameComparison.CONTRADICTS
    )


def compare_person(record: SObjectRecord, person: Person) -> NameComparison:
    """Compares the names of a record and of a person.

    Where the record has no full name, those for whom it stands in this batch say more.
    """
    companies = [company for company in (person.company, record.company) if company]
    own = compare_names(person.name, record.name, companies)
    if own in {NameComparison.SAME, NameComparison.CONTRADICTS} or is_full_name(record.name):
        return own
    others = {
        compare_names(person.name, name, companies)
        for name in record.joined
        if own is NameComparison.UNKNOWN or is_full_name(name)
    }
    return NameComparison.CONTRADICTS if NameComparison.CONTRADICTS in others else own


def _candidates(
    candidates: CandidateIndex, person: Person, but: SObjectRecord | None = None
) -> Iterator[_Candidate]:
    """The records with an address of the person, except for `but`."""
    living = candidates.with_address(person.addresses)
    for record in living:
        if record is but:
            continue
        name = compare_person(record, person)
        tier = _living_tier(record, person, name)
        yield _Candidate(record, _found_by(record, person), True, name, tier)
    if not candidates.follows_addresses:
        return
    by_primary = {
        followed.record for followed in candidates.followed_with_address(person.addresses[:1])
    }
    for followed in candidates.followed_with_address(person.addresses):
        record = followed.record
        if record is not but and record not in living:
            name = compare_person(record, person)
            tier = _tier(name, in_email=False, anywhere=record in by_primary)
            yield _Candidate(record, followed.matched, False, name, tier)


def _found_by(record: SObjectRecord, person: Person) -> str:
    """`address_field` if only fields of the org's own hold an address of the person."""
    if not record.address_fields:
        return "email"
    others = {*record.own_addresses, *record.people}
    return "address_field" if others.isdisjoint(person.addresses) else "email"


def _living_tier(record: SObjectRecord, person: Person, name: NameComparison) -> MatchTier | None:
    primary = person.found_by.primary
    return _tier(
        name,
        in_email=primary is not None and primary == record.email,
        anywhere=primary in record.addresses or primary in record.people,
    )


def _tier(name: NameComparison, *, in_email: bool, anywhere: bool) -> MatchTier | None:
    """The tier of a record with an address of the person.

    `in_email`: its `Email` holds the primary address; `anywhere`: any of its fields does.
    """
    if name is NameComparison.CONTRADICTS:
        return None
    if name is not NameComparison.UNKNOWN:
        return MatchTier.NAME_AND_PRIMARY if in_email else MatchTier.NAME_AND_ADDRESS
    if in_email:
        return MatchTier.PRIMARY_IN_EMAIL
    return MatchTier.PRIMARY if anywhere else None


def _find_by_key(candidates: CandidateIndex, person: Person) -> Match | None:
    if holders := candidates.with_key(person.record_key):
        return Match(holders[0], "key")
    followed = candidates.followed_with_key(person.record_key)
    if followed is None:
        return None
    record = followed.record
    taken = record.key not in (None, person.record_key)
    if taken and compare_person(record, person) is NameComparison.CONTRADICTS:
        return Match(covered_by=(record,))
    return Match(record, followed.matched)


def _find_by_name(candidates: CandidateIndex, person: Person, found: Sequence[_Candidate]) -> Match:
    key_is_taken = candidates.holds_converted_key(person.record_key)
    tier = min((one.tier for one in found if one.tier is not None), default=None)
    if tier is None:
        return Match(converted=key_is_taken or _was_converted(candidates, person))
    fitting = [one for one in found if one.tier is tier]
    best = max(one.name for one in fitting)
    equals = [one for one in fitting if one.name is best]
    if best is not NameComparison.SAME and _are_several_people(equals):
        records = sorted((one.record for one in equals), key=_preference)
        return Match(ambiguous=tuple(records))
    chosen = min(equals, key=lambda one: _preference(one.record))
    return Match(
        chosen.record,
        chosen.matched,
        several=len(equals) > 1,
        keyless=key_is_taken and chosen.record.sobject == "Lead",
    )


def _are_several_people(found: Collection[_Candidate]) -> bool:
    return any(
        compare_names(one.record.name, other.record.name) is NameComparison.CONTRADICTS
        for one, other in combinations(found, 2)
    )


def _was_converted(candidates: CandidateIndex, person: Person) -> bool:
    """Whether a Lead of this person was converted, and its Contact is gone."""
    for lead in candidates.orphaned_leads(person.addresses):
        name = compare_person(lead, person)
        if _living_tier(lead, person, name) is not None:
            return True
    return False


def _preference(record: SObjectRecord) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    """The lowest is taken: with the latest activity, then last modified, then the oldest ID."""
    return (
        _descending(record.stored.get("LastActivityDate")),
        _descending(record.stored.get("LastModifiedDate")),
        record.id or "~",
    )


def _descending(text: object) -> tuple[int, ...]:
    """A key that sorts texts from the highest to the lowest; None comes last."""
    return (*(-ord(letter) for letter in str(text or "")), 1)
