"""What an sObject looks like to our user: fields, lengths and permissions, from its describe."""

from collections.abc import Mapping
from dataclasses import dataclass

from connectors.salesforce.composite import SubAnswer, Subrequest


@dataclass(frozen=True, slots=True)
class FieldDescribe:
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
    restricted_picklist: bool = False
    picklist: frozenset[str] = frozenset()  # active values
    reference_to: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """Must be given on create."""
        return self.createable and not self.nillable and not self.defaulted


@dataclass(frozen=True, slots=True)
class ObjectDescribe:
    """Fields hidden from the user are simply absent. `fields` is keyed by the API name as Salesforce spells it."""

    name: str
    fields: Mapping[str, FieldDescribe]
    createable: bool = False
    updateable: bool = False
    queryable: bool = False

    @property
    def required(self) -> frozenset[str]:
        return frozenset(name for name, described in self.fields.items() if described.required)


def describe_subrequest(sobject: str, ref: str) -> Subrequest:
    """A describe inside a Composite; it takes none of the five places of queries and collections."""
    return Subrequest("GET", f"/sobjects/{sobject}/describe", ref)


def parse_describe(body: object) -> ObjectDescribe:
    """UnexpectedAnswer if it is not a describe."""
    raise NotImplementedError


def describe_answer(answer: SubAnswer) -> ObjectDescribe:
    """The describe of a subanswer. Raises OrgUnavailable, RequestRejected (no access to the object), UnexpectedAnswer."""
    raise NotImplementedError
