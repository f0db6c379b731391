"""Reads whom the commands suppress and export are about: addresses and contact keys."""

from collections.abc import Iterable
from pathlib import Path

from connectors.salesforce.emails import normalise


class NotAPerson(ValueError):
    """A line that is neither an address nor a contact key. The text holds only its number."""


def read(lines: Iterable[str]) -> list[str]:
    """Addresses as Salesforce stores them, and contact keys unchanged; skips blank lines.

    Raises NotAPerson.
    """
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        address = normalise(text)
        if address is None and not all(text.partition("/")):
            raise NotAPerson(
                f"line {number} is neither an email address nor a contact key (grant_id/contact_id)"
            )
        found.append(address or text)
    return list(dict.fromkeys(found))


def named(arguments: Iterable[str]) -> list[str]:
    """The people that a command line names. Raises NotAPerson, with the argument."""
    found = []
    for argument in arguments:
        if argument == "-" or Path(argument).is_file():
            raise NotAPerson(f"{argument} is a file: give it with --file")
        try:
            found += read([argument])
        except NotAPerson:
            raise NotAPerson(
                f"{argument} is neither an email address nor a contact key (grant_id/contact_id)"
            ) from None
    return list(dict.fromkeys(found))


def split(people: Iterable[str]) -> tuple[list[str], list[str]]:
    """The addresses and the contact keys of what `read` returned.

    A contact key whose contact ID is an address is both: an address may hold a slash.
    """
    known = list(people)
    addresses = [each for each in known if normalise(each) == each]
    return addresses, [each for each in known if all(each.partition("/"))]
