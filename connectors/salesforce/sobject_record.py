"""A Contact or Lead of the org, as it is stored and as the plan of a batch will leave it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.salesforce.field_paths import clean
from connectors.salesforce.field_values import is_fallback
from connectors.salesforce.names import PersonName
from connectors.salesforce.org_fields import (
    EMAIL_FIELDS,
    KEY_FIELD,
    PERSON_ACCOUNT_FIELD,
    VERSION_FIELD,
)


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
    joined: set[PersonName] = field(default_factory=set)
    """Names of everybody who was joined to it in this batch."""
    address_fields: tuple[str, ...] = ()
    """The org's own fields whose addresses it holds as well; they are never written."""
    # What follows from `fields`, until `change` changes them: it is asked for again and again.
    _addresses: tuple[str, ...] | None = field(default=None, init=False, repr=False)
    _name: PersonName | None = field(default=None, init=False, repr=False)

    def change(self, changed: Mapping[str, Any]) -> None:
        """Plans values of fields. The only way to change `fields`."""
        self.fields.update(changed)
        self._addresses = self._name = None

    @property
    def key(self) -> str | None:
        return self.fields.get(KEY_FIELD) or None

    @property
    def version(self) -> int | None:
        value = self.fields.get(VERSION_FIELD)
        return int(value) if isinstance(value, int | float) else None

    @property
    def email(self) -> str | None:
        """The address in the standard field, in lower case."""
        value = self.fields.get(EMAIL_FIELDS[0])
        return value.strip().lower() if isinstance(value, str) and value.strip() else None

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses in all its fields, in lower case."""
        if self._addresses is None:
            self._addresses = addresses_in(self.fields, (*EMAIL_FIELDS, *self.address_fields))
        return self._addresses

    @property
    def own_addresses(self) -> tuple[str, ...]:
        """The addresses in Email and in our further fields."""
        return addresses_in(self.fields, EMAIL_FIELDS)

    @property
    def read_addresses(self) -> tuple[str, ...]:
        """The addresses in the org's own fields."""
        return addresses_in(self.fields, self.address_fields) if self.address_fields else ()

    @property
    def name(self) -> PersonName:
        """The name under which the record is known, without a fallback that stands in for one."""
        if self._name is None:
            self._name = self._read_name()
        return self._name

    def _read_name(self) -> PersonName:
        first, last = clean(self.fields.get("FirstName")), clean(self.fields.get("LastName"))
        if last and is_fallback("LastName", last, self.addresses):
            last = None
        return PersonName(first, last)

    @property
    def company(self) -> str | None:
        """The company of a Lead, without a fallback. The Account of a Contact is not read."""
        company = clean(self.fields.get("Company"))
        fallback = company and is_fallback("Company", company, self.addresses)
        return None if fallback else company

    @property
    def is_person_account(self) -> bool:
        """Whether it is the Contact of a Person Account."""
        return self.stored.get(PERSON_ACCOUNT_FIELD) is True

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that the plan changes."""
        stored = self.stored
        return {name: value for name, value in self.fields.items() if stored.get(name) != value}


def addresses_in(fields: Mapping[str, Any], names: Iterable[str]) -> tuple[str, ...]:
    """The addresses that these fields of a row or record hold, as Salesforce compares them."""
    found = []
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and (address := value.strip().lower()):
            found.append(address)
    return tuple(found)
