"""Reading contacts of a grant: a page of its address book, or one contact."""

from dataclasses import dataclass
from typing import Any

from connectors.nylas.client import NylasClient, path_part
from connectors.nylas.errors import Passing

PAGE_SIZE = 200
"""Nylas' maximum; without `limit` it sends 30."""

SOURCES = ("address_book", "inbox", "domain")


@dataclass(frozen=True, slots=True)
class Page:
    """Contacts as Nylas sent them.

    `next_cursor` is None on the last page; `served_at` is Nylas' clock, epoch seconds.
    """

    contacts: list[dict[str, Any]]
    next_cursor: str | None
    served_at: int
    request_id: str


async def list_contacts(
    client: NylasClient,
    grant: str,
    page_token: str | None = None,
    *,
    limit: int = PAGE_SIZE,
    source: str = "address_book",
) -> Page:
    """One page of a grant's contacts of one source (several at once work for IMAP and iCloud only).

    Raises NotFound when the grant is unknown, Refused with status 400 for a `page_token` that Nylas
    no longer knows, and as `NylasClient.get`.
    """
    params: dict[str, str | int] = {"limit": limit, "source": source}
    if page_token is not None:
        params["page_token"] = page_token
    path = f"/v3/grants/{path_part(grant)}/contacts"
    answer = await client.get("list_contacts", path, params, grant=grant)
    data = answer.body["data"]
    if not isinstance(data, list) or not all(isinstance(contact, dict) for contact in data):
        raise Passing(200, "Nylas answered 200 with a page that is no list of contacts")
    cursor = answer.body.get("next_cursor")
    return Page(
        data,
        cursor if isinstance(cursor, str) and cursor else None,
        answer.served_at,
        answer.request_id,
    )


@dataclass(frozen=True, slots=True)
class Reading:
    """One contact as Nylas sent it."""

    contact: dict[str, Any]
    served_at: int
    request_id: str


async def get_contact(client: NylasClient, grant: str, contact_id: str) -> Reading:
    """One contact, its ID percent-encoded (Nylas answers 404 to an ID with a bare `#` or `/`).

    Raises NotFound when it is gone (or the grant is: `of_grant`), and as `NylasClient.get`.
    """
    path = f"/v3/grants/{path_part(grant)}/contacts/{path_part(contact_id)}"
    answer = await client.get("get_contact", path, grant=grant)
    contact = answer.body["data"]
    if not isinstance(contact, dict):
        raise Passing(200, "Nylas answered 200 with data that is no contact")
    return Reading(contact, answer.served_at, answer.request_id)
