"""Describes of sObjects: the fields, lengths and permissions as the logged-in user sees them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from connectors.salesforce.api.classification import raise_for
from connectors.salesforce.api.composite import SubAnswer, Subrequest
from connectors.salesforce.api.errors import UnexpectedAnswer


@dataclass(frozen=True, slots=True)
class FieldDescribe:
    """One field of an sObject."""

    name: str
    type: str  # string, email, phone, picklist, date, double, reference, textarea ...
    label: str = ""
    length: int = 0  # characters; 0 where it does not apply
    precision: int = 0
    scale: int = 0
    createable: bool = False
    updateable: bool = False
    nillable: bool = True
    defaulted: bool = False
    external_id: bool = False
    id_lookup: bool = False
    unique: bool = False
    case_sensitive: bool = False
    # False for long text, and for a field that Shield Platform Encryption encrypts with a
    # probabilistic scheme: a query that has it in its WHERE clause is refused with INVALID_FIELD
    filterable: bool = True
    restricted_picklist: bool = False
    picklist: frozenset[str] = frozenset()  # active values
    reference_to: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """Whether a record cannot be created without a value for it."""
        return self.createable and not self.nillable and not self.defaulted


@dataclass(frozen=True)
class ObjectDescribe:
    """An sObject; `fields` by API name, spelled as Salesforce does.

    Fields that are hidden from the user are absent.
    """

    name: str
    fields: Mapping[str, FieldDescribe]
    createable: bool = False
    updateable: bool = False
    queryable: bool = False

    @cached_property
    def required(self) -> frozenset[str]:
        """The fields without which a record cannot be created."""
        return frozenset(name for name, described in self.fields.items() if described.required)

    @cached_property
    def createable_fields(self) -> frozenset[str]:
        """The fields that the user may set in a new record."""
        return frozenset(name for name, described in self.fields.items() if described.createable)

    @cached_property
    def updateable_fields(self) -> frozenset[str]:
        """The fields that the user may set in an existing record."""
        return frozenset(name for name, described in self.fields.items() if described.updateable)


def describe_subrequest(sobject: str, reference: str) -> Subrequest:
    """A describe inside a Composite; it does not count among the five queries and collections."""
    return Subrequest("GET", f"/sobjects/{sobject}/describe", reference)


def parse_describe(body: object) -> ObjectDescribe:
    """The describe in parsed JSON. Raises UnexpectedAnswer if it holds none."""
    if (
        not isinstance(body, Mapping)
        or not isinstance(body.get("name"), str)
        or not isinstance(body.get("fields"), list)
    ):
        raise UnexpectedAnswer("a describe has no name or no fields")
    fields = [
        _field(item)
        for item in body["fields"]
        if isinstance(item, Mapping) and isinstance(item.get("name"), str)
    ]
    return ObjectDescribe(
        name=body["name"],
        fields={described.name: described for described in fields},
        createable=body.get("createable") is True,
        updateable=body.get("updateable") is True,
        queryable=body.get("queryable") is True,
    )


def _field(item: Mapping[str, Any]) -> FieldDescribe:
    return FieldDescribe(
        name=item["name"],
        type=str(item.get("type", "")),
        label=str(item.get("label", "")),
        length=_number(item.get("length")),
        precision=_number(item.get("precision")),
        scale=_number(item.get("scale")),
        createable=item.get("createable") is True,
        updateable=item.get("updateable") is True,
        nillable=item.get("nillable") is not False,
        defaulted=item.get("defaultedOnCreate") is True,
        external_id=item.get("externalId") is True,
        id_lookup=item.get("idLookup") is True,
        unique=item.get("unique") is True,
        case_sensitive=item.get("caseSensitive") is True,
        filterable=item.get("filterable") is not False,
        restricted_picklist=item.get("restrictedPicklist") is True,
        picklist=frozenset(
            str(entry.get("value"))
            for entry in item.get("picklistValues") or ()
            if isinstance(entry, Mapping) and entry.get("active") is not False
        ),
        reference_to=tuple(str(name) for name in item.get("referenceTo") or ()),
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def describe_answer(answer: SubAnswer) -> ObjectDescribe:
    """The describe in the answer to its subrequest.

    Raises OrgUnavailable, UnexpectedAnswer, or RequestRejected if the user may not read the object.
    """
    raise_for(answer.status, answer.body, inside_composite=True)
    return parse_describe(answer.body)
