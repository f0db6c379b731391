"""The contact groups of an address book: labels at Google, categories at Microsoft.

A contact names its groups by ID alone: `"groups": [{"id": "..."}]`. The names are listed by
`GET /v3/grants/{grant_id}/contacts/groups`, which EWS does not support. A group is `{"id",
"grant_id", "object": "contact_group", "group_type": "user" | "system" | "other", "name", "path"}`;
all but the two IDs may be missing. Nylas notifies of a contact that changes its groups, and of no
group that is renamed. [developer.nylas.com/docs/reference/api/contacts/list-contact-groups;
nylas-python 6.18, models/contacts.py: ContactGroup]
"""

from connectors.nylas.client import NylasClient, path_part
from connectors.nylas.errors import Passing

PAGE_SIZE = 200

# 10,000 groups, which is twenty times what Google lets an account have. More pages than that are a
# listing that does not end.
MAX_PAGES = 50

WITHOUT_GROUPS = frozenset({"ews"})
"""Providers for which Nylas refuses the listing."""


async def list_contact_groups(client: NylasClient, grant: str) -> dict[str, str]:
    """The name of each contact group of a grant, by its ID; empty for a group without a name.

    Raises Passing for an answer that is no list of groups, and as `NylasClient.get`: Refused for a
    provider that has no groups.
    """
    names: dict[str, str] = {}
    path = f"/v3/grants/{path_part(grant)}/contacts/groups"
    params: dict[str, str | int] = {"limit": PAGE_SIZE}
    for _ in range(MAX_PAGES):
        answer = await client.get("list_groups", path, params, grant=grant)
        data = answer.body["data"]
        if not isinstance(data, list) or not all(isinstance(group, dict) for group in data):
            raise Passing(200, "Nylas answered 200 with a page that is no list of contact groups")
        for group in data:
            identity, name = group.get("id"), group.get("name")
            if isinstance(identity, str) and identity:
                names[identity] = name.strip() if isinstance(name, str) else ""
        cursor = answer.body.get("next_cursor")
        if not isinstance(cursor, str) or not cursor:
            return names
        params["page_token"] = cursor
    raise Passing(200, f"the listing of contact groups has not ended after {MAX_PAGES} pages")
