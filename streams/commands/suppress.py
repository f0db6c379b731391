"""The command suppress: adds people who asked to be erased to the suppression list.

Their addresses and contact keys are stored as hashes, and are never printed.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from connectors.salesforce.emails import normalise
from connectors.salesforce.suppression import Suppression, SuppressionError, load_suppression


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
    return found


def split(people: Iterable[str]) -> tuple[list[str], list[str]]:
    """The addresses and the contact keys of what `read` returned.

    A contact key whose contact ID is an address is both: an address may hold a slash.
    """
    known = list(people)
    addresses = [each for each in known if normalise(each) == each]
    return addresses, [each for each in known if all(each.partition("/"))]


def add(path: Path, values: Iterable[str], *, dry_run: bool = False) -> str:
    """Adds values to the list; returns a line with the counts. Raises SuppressionError.

    A process that reads the list meanwhile finds the old one or the new one, never a part. Two
    commands at the same time wait for each other.
    """
    try:
        with _exclusive_lock(path.parent):
            known = load_suppression(path) if path.exists() else Suppression()
            grown = known.adding(values)
            if not dry_run and grown.hashes != known.hashes:
                _replace(path, grown.dump())
    except OSError as error:
        raise SuppressionError(f"{path} cannot be written: {type(error).__name__}") from error
    added = len(grown.hashes) - len(known.hashes)
    return f"{path}: {added} {'would be ' if dry_run else ''}added, {len(grown.hashes)} in all"


@contextlib.contextmanager
def _exclusive_lock(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    new = path.with_name(f".{path.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
