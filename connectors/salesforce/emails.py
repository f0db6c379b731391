"""Email addresses in the form in which Salesforce stores and compares them."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from email_validator import EmailNotValidError, validate_email

# of every field of type Email; a longer address is not kept, because a cut one is another address
MAX_LENGTH = 80

# Nearly every real address. Only the others go to email-validator, which is forty times slower and
# also refuses .test and .local, which Salesforce takes.
_PLAIN = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
)
_MAX_LOCAL = 64  # RFC 5321, 4.5.3.1.1
# longer text in a contact is no address, and is not worth parsing
MAX_TYPED_LENGTH = 999


@lru_cache(maxsize=65_536)
def normalise(address: str) -> str | None:
    """The address as Salesforce would store it; None for one that it would refuse.

    That is in lower case, with an international domain in ASCII.

    >>> normalise(" Ada@Acme.example ")
    'ada@acme.example'
    """
    text = address.strip().lower()
    if len(text) > MAX_LENGTH:
        return None
    if not _PLAIN.fullmatch(text):
        if text.isascii():
            return None
        try:
            found = validate_email(
                text, check_deliverability=False, allow_smtputf8=False, test_environment=True
            )
        except EmailNotValidError:
            return None
        text = (found.ascii_email or "").lower()
    if len(text) > MAX_LENGTH or text.find("@") > _MAX_LOCAL:
        return None
    return text or None


def raw_addresses(contact: Mapping[str, Any]) -> Iterator[str]:
    """Every text in the contact's `emails` that is not blank, in its order, valid or not."""
    emails = contact.get("emails")
    if not isinstance(emails, list):
        return
    for entry in emails:
        address = entry.get("email") if isinstance(entry, dict) else entry
        if isinstance(address, str) and not address.isspace() and address:
            yield address


def valid_addresses(contact: Mapping[str, Any]) -> Iterator[str]:
    """The contact's valid addresses in its order; one that it names twice comes twice.

    Each is made when it is asked for, so that who needs the first one pays for no other.
    """
    for text in raw_addresses(contact):
        if len(text) <= MAX_TYPED_LENGTH and (address := normalise(text)):
            yield address


def addresses(contact: Mapping[str, Any]) -> tuple[str, ...]:
    """The contact's valid addresses in its order, each once."""
    return tuple(dict.fromkeys(valid_addresses(contact)))


def local_part(address: str) -> str:
    return address.rpartition("@")[0]


def domain(address: str) -> str:
    return address.rpartition("@")[2]
