"""The grants of an application: who has connected an account, and whose contacts can be read."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.nylas.client import NylasClient, path_part
from connectors.nylas.errors import Passing

PAGE_SIZE = 200
"""Nylas' default is 10."""

WITH_CONTACTS = frozenset({"google", "microsoft", "icloud", "yahoo", "imap", "ews"})
"""Providers that have address books; `virtual-calendar`, `zoom` and `nylas` have none."""

SCOPED = frozenset({"google", "microsoft"})
"""Providers whose grants name their scopes; the others' list is empty or means something else."""

WITHOUT_INBOX = frozenset({"ews"})


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant as the listing shows it. `scopes` is empty where the listing names none."""

    id: str
    provider: str = ""
    email: str = ""
    valid: bool = True
    blocked: bool = False
    scopes: tuple[str, ...] = ()


def parse_grant(data: Mapping[str, Any]) -> Grant:
    """A grant from the API's object.

    Raises ValueError without an ID that can be part of a key; every other field may be absent.
    """
    identity = data.get("id")
    if not isinstance(identity, str) or not identity or "/" in identity:
        raise ValueError("a grant without an ID")
    scopes = data.get("scope")
    return Grant(
        id=identity,
        provider=str(data.get("provider") or ""),
        email=str(data.get("email") or ""),
        valid=data.get("grant_status", "valid") == "valid",
        blocked=data.get("blocked") is True,
        scopes=tuple(str(scope) for scope in scopes) if isinstance(scopes, list) else (),
    )


def unreadable(grant: Grant) -> str:
    """Why a grant's contacts cannot be read, as a word of a closed set; empty when they can."""
    if grant.provider and grant.provider not in WITH_CONTACTS:
        return "no_contacts"
    if grant.blocked:
        return "blocked"
    if not grant.valid:
        return "expired"
    if grant.provider in SCOPED and grant.scopes:
        named = " ".join(grant.scopes).lower()
        if "contact" not in named and "people" not in named:
            return "no_scope"
    return ""


def sources_of(provider: str, wanted: Iterable[str]) -> tuple[str, ...]:
    """Those of the wanted sources that the provider has (EWS has no `inbox`)."""
    return tuple(
        source for source in wanted if not (source == "inbox" and provider in WITHOUT_INBOX)
    )


async def list_grants(
    client: NylasClient, passed_over: Callable[[], None] = lambda: None
) -> list[Grant]:
    """Every grant of the application, in the order of their creation.

    Paged by offset until a page is short of what it may hold. A grant that is deleted meanwhile
    moves the others up, so each page starts with the last grant of the one before, and is read
    again from further back when it does not. One that appears twice is taken once; of one that no
    ID names, `passed_over` is told. Raises as `NylasClient.get`.
    """
    found: dict[str, Grant] = {}
    offset, last = 0, ""
    while True:
        params: dict[str, str | int] = {
            "limit": PAGE_SIZE,
            "offset": offset,
            "sort_by": "created_at",
            "order_by": "asc",
        }
        answer = await client.get("list_grants", "/v3/grants", params)
        data = answer.body["data"]
        if not isinstance(data, list) or not all(isinstance(grant, dict) for grant in data):
            raise Passing(200, "Nylas answered 200 with a page that is no list of grants")
        page = []
        for each in data:
            try:
                page.append(parse_grant(each))
            except ValueError:
                passed_over()
        if last and last not in {grant.id for grant in page}:
            offset, last = max(0, offset - PAGE_SIZE // 2), ""
            continue
        found |= {grant.id: grant for grant in page}
        capacity = answer.body.get("limit")
        if len(data) < (
            capacity if isinstance(capacity, int) and 1 < capacity < PAGE_SIZE else PAGE_SIZE
        ):
            return list(found.values())
        # Where the last one has no ID there is nothing to recognise it by.
        offset, last = (
            offset + len(data) - 1,
            page[-1].id if page and page[-1].id == data[-1].get("id") else "",
        )


async def get_grant(client: NylasClient, grant: str) -> Grant:
    """One grant. Raises NotFound when Nylas does not know it, and as `NylasClient.get`."""
    answer = await client.get("get_grant", f"/v3/grants/{path_part(grant)}")
    data = answer.body["data"]
    try:
        return parse_grant(data)
    except (AttributeError, ValueError) as error:
        raise Passing(200, "Nylas answered 200 with data that is no grant") from error
