"""The names of contact groups for tests of the reader."""

from connectors.nylas.client import NylasClient
from streams.contact_groups import NO_GROUPS, GroupRule
from streams.control import ControlTable
from streams.grant_addresses import GrantAddresses
from streams.reader.context import ReaderContext
from streams.reader.group_names import GroupNameKeeper


def group_names(
    context: ReaderContext,
    client: NylasClient,
    rule: GroupRule = NO_GROUPS,
    control: ControlTable | None = None,
) -> GroupNameKeeper:
    """A keeper; without a rule it asks nothing and changes nothing."""
    return GroupNameKeeper(context, client, control or ControlTable(), GrantAddresses(), rule)
