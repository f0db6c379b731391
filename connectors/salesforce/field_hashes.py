"""The marker of a record: a short hash for each field that we wrote, and what follows from it.

One rule protects what people and other systems typed: a field is written only if its value in the
org is still the one that we left there, or if it is blank and we never wrote it. The hashes are
kept in MARKER_FIELD of the record itself, and are written in the same row as the values.

1. A hash stands for the value alone. It depends neither on the sObject nor on the field, so that it
   stays true when a converted Lead passes the marker on to its Contact. Entries of fields that the
   Contact lacks are kept and mean nothing there.
2. The text is a function of the entries: an unchanged marker equals itself and costs no write.
3. An entry is never taken back. A field that we wrote and that is blank now was cleared by
   somebody, and stays blank.
"""

import re
from binascii import b2a_base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b

from connectors.salesforce.api.describe import FieldDescribe

# 6 characters of base64 are 36 bits: one of 69 billion values that a person may type has the hash
# of ours, and would be overwritten. That is 0.001 values in 70 million edits. A longer hash fills
# the marker sooner, and tells more of a value that somebody cleared.
HASH_CHARACTERS = 6

# Values whose hash is remembered, some 2 MB: first names, titles and companies come again often.
MAX_REMEMBERED_HASHES = 8192

# An entry is `Name=hash`, with blanks around it. Anything else in the text is ignored: a person or
# a tool put it there.
_ENTRY = re.compile(rf"(?<!\S)([A-Za-z][A-Za-z0-9_]*)=([A-Za-z0-9_-]{{{HASH_CHARACTERS}}})(?!\S)")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_NUMBER_TYPES = frozenset({"double", "currency", "percent", "int", "long"})
# Types whose text is stored as it is, but for its line ends and the blanks around it.
_PLAIN_TYPES = frozenset({"string", "phone", "textarea", "url"})


def stored_form(value: object, described: FieldDescribe) -> str:
    """A text that is equal for two values exactly if Salesforce stores them alike; "" for blank.

    Salesforce trims text, may change its line ends, and lowers the case of email addresses. It
    returns numbers as floats, IDs with 15 or 18 characters, and the values of a multi-select
    picklist in the picklist's order. Picklist values are compared without case, because the org
    spells them.
    """
    if value is None:
        return ""
    if type(value) is str and described.type in _PLAIN_TYPES and "\r" not in value:
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(float(value))
    text = str(value).strip()
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    match described.type:
        case "email":
            return text.lower()
        case "picklist":
            return text.casefold()
        case "multipicklist":
            return ";".join(sorted(text.casefold().split(";")))
        case "reference":
            return text[:15]
        case "datetime":
            return _moment(text)
        case kind if kind in _NUMBER_TYPES:
            return _number(text)
        case _:
            return text


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.astimezone(UTC).isoformat() if moment.tzinfo else text


def _number(text: str) -> str:
    try:
        return repr(float(text))
    except ValueError:
        return text


def same(current: object, wanted: object, described: FieldDescribe) -> bool:
    """Whether Salesforce would store `wanted` as the current value."""
    if type(current) is type(wanted) and current == wanted:
        return True
    return stored_form(current, described) == stored_form(wanted, described)


def is_blank(value: object) -> bool:
    """Whether nobody entered a value. A checkbox is always there: not ticked counts as blank."""
    return value is None or value is False or (isinstance(value, str) and not value.strip())


def is_blank_text(value: object) -> bool:
    """Whether Salesforce would store the value as blank; unlike `is_blank`, False is a value."""
    return value is None or (isinstance(value, str) and not value.strip())


def value_hash(value: object, described: FieldDescribe) -> str:
    """The hash of a value, HASH_CHARACTERS long."""
    return _hash_of(stored_form(value, described))


@lru_cache(maxsize=MAX_REMEMBERED_HASHES)
def _hash_of(text: str) -> str:
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=12).digest()
    return b2a_base64(digest[:HASH_CHARACTERS])[:HASH_CHARACTERS].translate(_URL_SAFE).decode()


@dataclass(frozen=True, slots=True)
class FieldHashes:
    """The entries of a marker: by field, the hash of the value that we left there."""

    entries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: object) -> "FieldHashes":
        """The entries in a marker's text; none in a blank one. Never raises.

        Of two entries for one field the last counts.
        """
        if not isinstance(text, str):
            return cls()
        return cls(dict(_ENTRY.findall(text)))

    def __str__(self) -> str:
        """The text of the marker, in the order of the fields' names."""
        return " ".join([f"{name}={entry}" for name, entry in sorted(self.entries.items())])

    def wrote(self, name: str) -> bool:
        """Whether we ever wrote the field."""
        return name in self.entries

    def left(self, name: str, value: object, described: FieldDescribe) -> bool:
        """Whether a value is the one that we last wrote to the field."""
        entry = self.entries.get(name)
        return entry is not None and entry == value_hash(value, described)

    def may_fill(self, name: str, current: object) -> bool:
        """Whether the field is blank because nobody has written it, and not because of a person."""
        return is_blank(current) and not self.wrote(name)

    def untouched(self, name: str, current: object, described: FieldDescribe) -> bool:
        """Whether nobody but us has written the field: the rule of the module."""
        return self.may_fill(name, current) or self.left(name, current, described)

    def noting(
        self, values: Mapping[str, object], fields: Mapping[str, FieldDescribe], most: int
    ) -> tuple["FieldHashes", tuple[str, ...]]:
        """The marker after `values` are written, and the fields for which it has no room.

        Its text has at most `most` characters. A field that has an entry always finds room.
        """
        entries, full = dict(self.entries), []
        # of the text: of each entry the name, "=", the hash, and the blank before the next one
        length = sum(map(len, entries)) + len(entries) * (HASH_CHARACTERS + 2) - bool(entries)
        for name, value in values.items():
            if name not in entries:
                longer = length + bool(length) + len(name) + 1 + HASH_CHARACTERS
                if longer > most:
                    full.append(name)
                    continue
                length = longer
            entries[name] = value_hash(value, fields[name])
        return FieldHashes(entries), tuple(full)

    def taking_back(self, names: Iterable[str], before: "FieldHashes") -> "FieldHashes":
        """The marker with the entries of `before` for these fields: they were not written."""
        entries = dict(self.entries)
        for name in names:
            entries.pop(name, None)
            if name in before.entries:
                entries[name] = before.entries[name]
        return FieldHashes(entries)
