"""What the command explain is asked about: a contact key, an address, or a record's ID."""

import re
from dataclasses import dataclass
from enum import StrEnum

from connectors.salesforce.emails import local_part, normalise

# Of Salesforce's two forms of an ID, 15 characters that distinguish case, or 18 that need not.
_RECORD_ID = re.compile(r"[a-zA-Z0-9]{15}(?:[a-zA-Z0-9]{3})?")
SHORT_ID_LENGTH = 15


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

    def may_mention(self, value: bytes | None) -> bool:
        """Whether the value of a record may name the address or the record: a quick first look.

        An address in JSON may be written with escapes, or in other letters of the same domain.
        """
        if not value:
            return False
        if self.subject is Subject.RECORD:
            return self.value.encode() in value
        return local_part(self.value).encode() in value.lower() or b"\\u" in value


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
