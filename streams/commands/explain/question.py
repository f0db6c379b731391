"""What the command explain is asked about: a contact key, an address, or a record's ID."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from connectors.salesforce.emails import local_part, normalise

# Of Salesforce's two forms of an ID, 15 characters that distinguish case, or 18 that need not.
_RECORD_ID = re.compile(r"[a-zA-Z0-9]{15}(?:[a-zA-Z0-9]{3})?")
SHORT_ID_LENGTH = 15

# The two characters beyond ASCII that an address may hold in its first part: in lower case, or in
# Unicode's normal form, they are one of ASCII (the Kelvin sign, and a Greek accent).
_SAME_IN_LOWER_CASE = ((b"k", "\u212a".encode()), (b"`", "\u1fef".encode()))


class Subject(StrEnum):
    """What a question is about."""

    CONTACT = "contact"
    ADDRESS = "address"
    RECORD = "record"


class UnusableQuestion(ValueError):
    """The text is no contact key, no address and no record ID."""


@dataclass(frozen=True, slots=True)
class Question:
    """A contact key, a normalised email address, or a record ID of 15 characters."""

    subject: Subject
    value: str

    def mention(self) -> "Mention":
        """How a record's value may name the address or the record."""
        if self.subject is Subject.RECORD:
            return Mention(self.value.encode(), (), any_case=False)
        # JSON may escape a slash by itself, and every other character as \uXXXX.
        needle = max(local_part(self.value).split("/"), key=len).encode()
        others = [sign for letter, sign in _SAME_IN_LOWER_CASE if letter in needle]
        return Mention(needle, (b"\\u", *others), any_case=True)


@dataclass(frozen=True, slots=True)
class Mention:
    """A quick look into values, before they are parsed.

    It never says no where the value, parsed and normalised, names what is asked for: an address in
    JSON may be written with escapes, in capitals, or with another spelling of its domain.
    """

    needle: bytes
    others: tuple[bytes, ...]
    """What may stand for a part of the needle."""
    any_case: bool

    def may_be_in(self, text: bytes) -> bool:
        """Whether the text may name it."""
        return self.needle in (text.lower() if self.any_case else text) or any(
            other in text for other in self.others
        )

    def places(self, values: Sequence[bytes | None]) -> Sequence[int]:
        """The places of the values that may name it.

        Nearly always there are none, and one look into all of them together says so: that takes a
        fraction of the time that looking into each takes.
        """
        if not self.may_be_in(b"\n".join(filter(None, values))):
            return ()
        return [place for place, value in enumerate(values) if value and self.may_be_in(value)]


def parse_question(text: str) -> Question:
    """What the text names. Raises UnusableQuestion."""
    stripped = text.strip()
    if "/" in stripped:
        grant, _, contact = stripped.partition("/")
        if not grant or not contact:
            raise UnusableQuestion(f"{text!r} is no contact key: grant_id/contact_id")
        return Question(Subject.CONTACT, stripped)
    if "@" in stripped:
        address = normalise(stripped)
        if address is None:
            raise UnusableQuestion(f"{text!r} is no email address that Salesforce would take")
        return Question(Subject.ADDRESS, address)
    if _RECORD_ID.fullmatch(stripped):
        return Question(Subject.RECORD, stripped[:SHORT_ID_LENGTH])
    raise UnusableQuestion(
        f"{text!r} is neither a contact key (grant_id/contact_id), nor an email address, nor the "
        "ID of a Salesforce record (15 or 18 letters and digits)"
    )
