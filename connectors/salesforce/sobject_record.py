"""A Contact or Lead of the org, as it is stored and as the plan of a batch will leave it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.salesforce.field_paths import clean
from connectors.salesforce.field_values import is_fallback
from connectors.salesforce.org_fields import EMAIL_FIELDS, KEY_FIELD, VERSION_FIELD
from connectors.salesforce.person import comparable_name


@dataclass(slots=True, eq=False)
class SObjectRecord:
    """A Contact or an open Lead. One without an ID is to be created.

    `stored` are the fields in Salesforce, `fields` as the plan will leave them.
    """

    sobject: str
    id: str | None
    stored: Mapping[str, Any]
    fields: dict[str, Any]
    people: set[str] = field(default_factory=set)
    """Addresses of everybody whom it stands for, beyond the three that it can hold."""
    joined: set[tuple[str, str]] = field(default_factory=set)
    """Grant and name of everybody who was joined to it in this batch."""

    @property
    def key(self) -> str | None:
        return self.fields.get(KEY_FIELD) or None

    @property
    def version(self) -> int | None:
        value = self.fields.get(VERSION_FIELD)
        return int(value) if isinstance(value, int | float) else None

    @property
    def addresses(self) -> tuple[str, ...]:
        found = (self.fields.get(name) for name in EMAIL_FIELDS)
        return tuple(
            value.strip().lower() for value in found if isinstance(value, str) and value.strip()
        )

    @property
    def names(self) -> frozenset[str]:
        """The comparable names under which the record may be known.

        Empty if it holds no more than a fallback. If the last name may be a fallback, the first
        name alone is one of them.
        """
        first, last = clean(self.fields.get("FirstName")), clean(self.fields.get("LastName"))
        whole = comparable_name(first, last)
        if last and is_fallback("LastName", last, self.addresses):
            return frozenset({whole, comparable_name(first, None)}) if first else frozenset()
        return frozenset({whole} if whole else ())

    def has_other_name(self, name: str) -> bool:
        """Whether the record and the given comparable name are both known, and differ."""
        names = self.names
        return bool(names and name) and name not in names

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that the plan changes."""
        return {
            name: value for name, value in self.fields.items() if self.stored.get(name) != value
        }
