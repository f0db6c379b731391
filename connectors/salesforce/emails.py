"""Email addresses as Salesforce stores and compares them: one lower-case form for each, None for
what it would refuse.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from email_validator import EmailNotValidError, validate_email

# of every field of type Email; a longer address cannot be kept, and a cut one is somebody else's
MAX_LENGTH = 80

# Nearly every real address. email-validator, forty times slower, is asked only about the others; it
# also refuses .test and .local, which Salesforce takes.
_PLAIN = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
)
_MAX_LOCAL = 64  # RFC 5321, 4.5.3.1.1


@lru_cache(maxsize=65_536)
def normalise(address: str) -> str | None:
    """The address as Salesforce would store it (lower case, international domains in ASCII), None
    if it is none.

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
    """Whatever stands in the contact's `emails`, in its order, if it is text that is not blank."""
    emails = contact.get("emails")
    if not isinstance(emails, list):
        return
    for entry in emails:
        address = entry.get("email") if isinstance(entry, dict) else entry
        if isinstance(address, str) and not address.isspace() and address:
            yield address


def addresses(contact: Mapping[str, Any]) -> tuple[str, ...]:
    """The contact's valid addresses in its order, each once."""
    found = (normalise(address) for address in raw_addresses(contact) if len(address) < 1000)
    return tuple(dict.fromkeys(address for address in found if address))


def local_part(address: str) -> str:
    return address.rpartition("@")[0]


def domain(address: str) -> str:
    return address.rpartition("@")[2]
