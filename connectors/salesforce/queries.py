"""Builds the SOQL statements that look up the records of a batch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from connectors.salesforce.api.composite import KEY_FIELD
from connectors.salesforce.schema import Schema

MAX_STATEMENT = 95_000  # SOQL takes 100,000 characters


# a group of people takes a statement on Contact and one on Lead, and the fifth place is for the
# Accounts
GROUPS = 2


@dataclass(frozen=True, slots=True)
class Lookup:
    """The statements that find the first `taken` of the people and of the keys, each with its
    sObject.
    """

    statements: tuple[tuple[str, str], ...]
    taken: int


def lookup(
    people: Sequence[tuple[str, Sequence[str]]],
    contact: Schema,
    lead: Schema,
    limit: int = MAX_STATEMENT,
) -> Lookup:
    """Statements of at most `limit` characters for (record key, addresses) pairs, four at most; the
    rest has to wait.
    """
    head = max(len(_statement(shape, contact, ("",), ("",))) for shape in (contact, lead))
    emails = max(len(contact.emails), len(lead.emails))
    groups: list[tuple[dict[str, None], dict[str, None]]] = [({}, {})]
    room, taken = limit - head, 0
    for key, addresses in people:
        cost = (
            len(soql_text(key))
            + 1
            + emails * sum(len(soql_text(address)) + 1 for address in addresses)
        )
        if cost > room:
            if len(groups) == GROUPS:
                break
            groups.append(({}, {}))
            room = limit - head
        room -= cost
        taken += 1
        groups[-1][0][soql_text(key)] = None
        groups[-1][1].update(dict.fromkeys(map(soql_text, addresses)))
    return Lookup(
        tuple(
            (shape.sobject, _statement(shape, contact, tuple(keys), tuple(addresses)))
            for keys, addresses in groups
            if keys
            for shape in (contact, lead)
        ),
        taken,
    )


def _statement(
    shape: Schema, contact: Schema, keys: tuple[str, ...], addresses: tuple[str, ...]
) -> str:
    terms = [f"{KEY_FIELD} IN ({','.join(keys)})"]
    if addresses:
        terms += [f"{name} IN ({','.join(addresses)})" for name in shape.emails]
    return f"SELECT {_select(shape, contact)} FROM {shape.sobject} WHERE {' OR '.join(terms)}"


def by_id(shape: Schema, contact: Schema, ids: Iterable[str]) -> str:
    """The statement for known records."""
    return f"SELECT {_select(shape, contact)} FROM {shape.sobject} WHERE Id IN ({','.join(map(soql_text, ids))})"


def _select(shape: Schema, contact: Schema) -> str:
    """Of a Lead also the Contact that it was converted to: one query instead of two calls."""
    fields = shape.select
    if shape.sobject == "Lead" and "ConvertedContactId" in fields:
        fields += tuple(f"ConvertedContact.{name}" for name in contact.select)
    return ", ".join(fields)


_ESCAPES = str.maketrans(
    {
        "\\": r"\\",
        "'": r"\'",
        "\n": r"\n",
        "\r": r"\r",
        "\t": r"\t",
        "\b": r"\b",
        "\f": r"\f",
        '"': r"\"",
    }
)


def soql_text(value: str) -> str:
    """A string literal of SOQL."""
    return f"'{value.translate(_ESCAPES)}'"
