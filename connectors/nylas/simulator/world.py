"""The state of the simulated Nylas: clock, grants, contacts, destinations, cursors.

Of contacts it holds the present state and the older one that the pages still show.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

from connectors.nylas.simulator.faults import Faults
from connectors.nylas.simulator.providers import PROVIDERS, Provider, excess, kept

CONTACT_TRIGGERS = ("contact.updated", "contact.deleted")
GRANT_TRIGGERS = ("grant.created", "grant.updated", "grant.deleted", "grant.expired")

# Listings that were begun and never finished must not pile up in a simulator that runs for days.
MOST_CURSORS = 10_000

T = TypeVar("T")


class BadInput(ValueError):
    """An input of the control plane or of a world file that cannot be meant.

    The message names the value.
    """


def wanted(source: Mapping[str, Any], name: str, kind: type[T], default: T) -> T:
    """The field `name` of an input, checked to be of `kind`. An int passes as a float.

    Raises BadInput.
    """
    value = source.get(name, default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadInput(f"{name}: {value!r} is not {kind.__name__}")
    return value


def texts(source: Mapping[str, Any], name: str, default: list[str]) -> list[str]:
    """The field `name` of an input, checked to be a list of texts. Raises BadInput."""
    values: list[Any] = wanted(source, name, list, default)
    wrong = [value for value in values if not isinstance(value, str)]
    if wrong:
        raise BadInput(f"{name}: {wrong[0]!r} is not a text")
    return values


def only(source: object, what: str, names: set[str]) -> Mapping[str, Any]:
    """The input itself, checked to be an object that has no other fields than `names`.

    Raises BadInput.
    """
    if not isinstance(source, dict):
        raise BadInput(f"{what}: {source!r} is not an object")
    unknown = sorted(str(name) for name in source.keys() - names)
    if unknown:
        raise BadInput(f"{what}: unknown field {unknown[0]!r} (known: {', '.join(sorted(names))})")
    return cast("Mapping[str, Any]", source)


@dataclass(slots=True)
class Settings:
    """How this Nylas behaves; durations in seconds, limits 0 for none."""

    retry_delay: float = 300.0
    timeout: float = 10.0
    concurrency: int = 64
    latency: float = 0.0
    poll_interval: float = 0.0
    contacts_per_second: int = 200
    grants_per_second: int = 50
    webhooks_per_second: int = 50
    google_per_minute: int = 600
    microsoft_per_10_minutes: int = 10_000
    microsoft_concurrency: int = 4
    error_dialect: str = ""

    def change(self, source: object) -> None:
        """Takes over what is given. Raises BadInput, and then has changed nothing."""
        given = only(source, "settings", {one.name for one in fields(self)})
        checked = {name: wanted(given, name, type(getattr(self, name)), None) for name in given}
        for name, value in checked.items():
            if isinstance(value, (int, float)) and (
                value < 0 or (name == "concurrency" and value < 1)
            ):
                raise BadInput(f"settings.{name}: {value!r} is too small")
            if name == "error_dialect" and value not in ("", "api."):
                raise BadInput(f'settings.error_dialect: {value!r} is neither "" nor "api."')
        for name, value in checked.items():
            setattr(self, name, value)


@dataclass(slots=True)
class Clock:
    """The simulator's time, in epoch seconds: the machine's plus an offset, or standing still."""

    offset: float = 0.0
    frozen_at: float | None = None

    def now(self) -> float:
        return self.frozen_at if self.frozen_at is not None else time.time() + self.offset


Contact = dict[str, Any]


@dataclass(slots=True)
class Grant:
    """One connected account.

    `contacts` is the provider's truth; what the API shows may be older by `page_lag`. `groups` are
    the names of its contact groups by ID.
    """

    id: str
    email: str
    provider: str
    grant_status: str
    scope: list[str]
    name: str
    created_at: int
    updated_at: int
    page_lag: float
    integration_id: str
    blocked: bool = False
    email_aliases: list[str] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    contacts: dict[str, Contact] = field(default_factory=dict)
    shown: dict[str, Contact] = field(default_factory=dict)
    hidden: deque[tuple[float, str, Contact | None]] = field(default_factory=deque)
    expired_at: float | None = None
    backlog: list[tuple[str, Contact, int]] = field(default_factory=list)
    unpolled: dict[str, int] = field(default_factory=dict)

    @property
    def rules(self) -> Provider:
        return PROVIDERS[self.provider]

    def change(self, now: float, contact_id: str, contact: Contact | None) -> None:
        """Stores a contact as of now, or with None deletes it."""
        _put(self.contacts, contact_id, contact)
        if self.page_lag:
            self.hidden.append((now, contact_id, contact))
        else:
            _put(self.shown, contact_id, contact)

    def visible(self, now: float) -> dict[str, Contact]:
        """The contacts as the API shows them now."""
        while self.hidden and self.hidden[0][0] + self.page_lag <= now:
            _, contact_id, contact = self.hidden.popleft()
            _put(self.shown, contact_id, contact)
        return self.shown

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "provider": self.provider,
            "grant_status": self.grant_status,
            "email": self.email,
            "name": self.name,
            "scope": self.scope,
            "blocked": self.blocked,
            "settings": {},
            "state": "",
            "user_agent": "",
            "ip": "",
            "provider_user_id": "",
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


def _put(book: dict[str, Contact], contact_id: str, contact: Contact | None) -> None:
    if contact is None:
        book.pop(contact_id, None)
    else:
        book[contact_id] = contact


@dataclass(slots=True)
class Destination:
    """A webhook destination.

    `minutes` counts the attempts of the last 72 hours: (minute, all, not 200).
    """

    id: str
    url: str
    secret: str
    trigger_types: list[str]
    compressed: bool
    description: str
    notification_email_addresses: list[str]
    status: str
    created_at: int
    updated_at: int
    status_updated_at: int
    minutes: deque[list[int]] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a listing continues: its IDs as it began, and how many were served."""

    grant_id: str
    query: tuple[tuple[str, str], ...]
    ids: list[str]
    served: int


@dataclass(slots=True)
class World:
    """The whole state of one simulated application.

    The aiohttp application and the deliveries work on it.
    """

    application_id: str
    api_key: str
    settings: Settings = field(default_factory=Settings)
    clock: Clock = field(default_factory=Clock)
    grants: dict[str, Grant] = field(default_factory=dict)
    destinations: dict[str, Destination] = field(default_factory=dict)
    cursors: OrderedDict[str, Cursor] = field(default_factory=OrderedDict)
    faults: Faults = field(default_factory=Faults)
    calls: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    @classmethod
    def from_json(cls, source: object) -> World:
        """A world as the package's docstring describes it. Raises BadInput."""
        given = only(
            source, "world", {"application_id", "api_key", "webhook", "grants", "settings"}
        )
        world = cls(
            application_id=wanted(given, "application_id", str, "sim-application"),
            api_key=wanted(given, "api_key", str, "sim-api-key"),
        )
        world.settings.change(given.get("settings", {}))
        for grant in wanted(given, "grants", list, []):
            world.add_grant(grant)
        if given.get("webhook") is not None:
            world.add_destination(given["webhook"])
        return world

    def add_grant(self, source: object) -> Grant:
        """Raises BadInput; one address has one grant in an application."""
        shown = {
            "id",
            "email",
            "provider",
            "grant_status",
            "scope",
            "name",
            "created_at",
            "updated_at",
            "blocked",
        }
        given = only(source, "grant", shown | {"email_aliases", "page_lag", "groups", "contacts"})
        now = int(self.clock.now())
        grant = Grant(
            id=wanted(given, "id", str, str(uuid.uuid4())),
            email=wanted(given, "email", str, ""),
            provider=wanted(given, "provider", str, "google"),
            grant_status=wanted(given, "grant_status", str, "valid"),
            scope=texts(given, "scope", []),
            name=wanted(given, "name", str, ""),
            created_at=wanted(given, "created_at", int, now),
            updated_at=wanted(given, "updated_at", int, now),
            page_lag=wanted(given, "page_lag", float, 0.0),
            blocked=wanted(given, "blocked", bool, False),
            email_aliases=texts(given, "email_aliases", []),
            integration_id=str(uuid.uuid5(uuid.NAMESPACE_URL, self.application_id)),
        )
        if grant.provider not in PROVIDERS:
            raise BadInput(f"grant.provider: {grant.provider!r} is none of {', '.join(PROVIDERS)}")
        if grant.grant_status not in ("valid", "invalid"):
            raise BadInput(
                f"grant.grant_status: {grant.grant_status!r} is neither valid nor invalid"
            )
        if not grant.id or grant.id in self.grants:
            raise BadInput(f"grant.id: {grant.id!r} is taken or empty")
        if grant.email and any(
            one.email.lower() == grant.email.lower() for one in self.grants.values()
        ):
            raise BadInput(f"grant.email: {grant.email!r} has a grant already")
        self.put_groups(grant, given.get("groups", []))
        if grant.grant_status == "invalid":
            grant.expired_at = self.clock.now()
        for contact in wanted(given, "contacts", list, []):
            stored = self.contact_of(grant, contact)
            grant.contacts[stored["id"]] = stored
        grant.shown = dict(grant.contacts)
        self.grants[grant.id] = grant
        return grant

    def put_groups(self, grant: Grant, source: object) -> None:
        """Replaces the contact groups of a grant: a list of `{"id", "name"}`. Raises BadInput."""
        if not isinstance(source, list):
            raise BadInput(f"groups: {source!r} is not a list")
        given = [only(each, "group", {"id", "name"}) for each in source]
        names = {wanted(each, "id", str, ""): wanted(each, "name", str, "") for each in given}
        if "" in names:
            raise BadInput("group.id: a group needs an ID")
        if names and not grant.rules.groups:
            raise BadInput(f"groups: {grant.provider} has no contact groups")
        grant.groups = names

    def contact_of(self, grant: Grant, source: object) -> Contact:
        """A contact as this grant stores it, completed.

        Raises BadInput where the provider could not hold it.
        """
        if not isinstance(source, dict):
            raise BadInput(f"contact: {source!r} is not an object")
        contact = {"grant_id": grant.id, "object": "contact", "source": "address_book", **source}
        contact_id = contact.setdefault("id", uuid.uuid4().hex)
        if not isinstance(contact_id, str) or not contact_id:
            raise BadInput(f"contact.id: {contact_id!r} is not a text")
        if contact["grant_id"] != grant.id:
            raise BadInput(
                f"contact.grant_id: {contact['grant_id']!r} is not the grant {grant.id!r}"
            )
        if contact["source"] not in grant.rules.sources:
            raise BadInput(
                f"contact.source: {contact['source']!r} does not exist at {grant.provider}"
            )
        too_much = excess(grant.rules, contact)
        if too_much:
            raise BadInput(f"contact {contact_id!r} of {grant.provider}: {too_much}")
        return kept(grant.rules, contact)

    def add_destination(self, source: object) -> Destination:
        """A destination that needs no challenge any more. Raises BadInput."""
        names = {
            "id",
            "url",
            "secret",
            "compressed",
            "trigger_types",
            "description",
            "notification_email_addresses",
        }
        given = only(source, "webhook", names)
        now = int(self.clock.now())
        destination = Destination(
            id=wanted(given, "id", str, uuid.uuid4().hex),
            url=wanted(given, "url", str, ""),
            secret=wanted(given, "secret", str, new_secret()),
            trigger_types=texts(given, "trigger_types", [*CONTACT_TRIGGERS, *GRANT_TRIGGERS]),
            compressed=wanted(given, "compressed", bool, False),
            description=wanted(given, "description", str, ""),
            notification_email_addresses=texts(given, "notification_email_addresses", []),
            status="active",
            created_at=now,
            updated_at=now,
            status_updated_at=now,
        )
        if not destination.url.startswith(("http://", "https://")):
            raise BadInput(f"webhook.url: {destination.url!r} is not an http address")
        if destination.id in self.destinations:
            raise BadInput(f"webhook.id: {destination.id!r} is taken")
        self.destinations[destination.id] = destination
        return destination

    def grant(self, name: str) -> Grant | None:
        """The grant of a path segment: its ID, or its address, with or without the prefix."""
        prefix, _, rest = name.partition(":")
        if prefix == "grant":
            return self.grants.get(rest)
        found = self.grants.get(name)
        if found is None:
            email = (rest if prefix == "email" else name).lower()
            found = next(
                (one for one in self.grants.values() if email and one.email.lower() == email), None
            )
        return found

    def begin(self, cursor: Cursor) -> str:
        """An opaque page token for the rest of a listing."""
        token = secrets.token_urlsafe(24)
        self.cursors[token] = cursor
        if len(self.cursors) > MOST_CURSORS:
            self.cursors.popitem(last=False)
        return token

    def replace(self, other: World) -> None:
        """Becomes the other world, counters included; the clock stays."""
        for one in fields(self):
            if one.name != "clock":
                setattr(self, one.name, getattr(other, one.name))


def new_secret() -> str:
    """A webhook secret of the documented form: 20 ASCII characters, used as they are."""
    return secrets.token_urlsafe(15)
