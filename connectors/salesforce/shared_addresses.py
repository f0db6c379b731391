"""Whose an address is that several people of one batch have; asked before anything is written."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from connectors.salesforce.names import NameComparison, compare_names
from connectors.salesforce.person import Person


def claimed_addresses(people: Sequence[Person]) -> dict[str, frozenset[str]]:
    """By record key: further addresses of a person that are the primary ones of other people.

    They are not written for this person: the record that is created for the other one would find
    its own address on somebody else. An address that is also the primary one of a person with a
    compatible name is kept.
    """
    owners: dict[str, list[Person]] = defaultdict(list)
    for someone in people:
        if primary := someone.found_by.primary:
            owners[primary].append(someone)
    claimed: dict[str, frozenset[str]] = {}
    for someone in people:
        others = {
            address
            for address in someone.addresses[1:]
            if address in owners and _are_others(owners[address], someone)
        }
        if others:
            claimed[someone.record_key] = frozenset(others)
    return claimed


def _are_others(owners: Iterable[Person], someone: Person) -> bool:
    names = {
        compare_names(owner.name, someone.name, _companies(owner, someone)) for owner in owners
    }
    return NameComparison.CONTRADICTS in names and names.isdisjoint(
        {NameComparison.SAME, NameComparison.COMPATIBLE}
    )


def _companies(*people: Person) -> list[str]:
    return [someone.company for someone in people if someone.company]
