"""Keeps the names of contact groups: asks Nylas, publishes them, and adds them to contacts.

Only while PEOPLE_GROUPS or PEOPLE_EXCLUDED_GROUPS names a group; otherwise nothing is asked, and
what was published is forgotten. Nylas notifies of no group that is renamed. So the groups of a
grant are listed before its contacts are, and again when a single contact names an unknown one.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from connectors.nylas.client import NylasClient
from connectors.nylas.contact_groups import WITHOUT_GROUPS, list_contact_groups
from connectors.nylas.errors import Refused
from streams.contact_groups import GroupRule, unknown_ids, with_group_names
from streams.control import ControlTable
from streams.control_selection import (
    GroupNames,
    forget_group_names_record,
    group_names_record,
    groups_record,
)
from streams.grant_addresses import GrantAddresses
from streams.kafka.records import KafkaRecord
from streams.reader.context import ReaderContext
from streams.reader.grant_events import GrantTable

log = structlog.get_logger()

# Between two looks for deleted grants. Nobody waits for the names of their groups to go.
LOOK_SECONDS = 60.0

# Nylas' answer to a question that the provider does not support.
UNSUPPORTED = 400


class GroupNameKeeper:
    """The names of contact groups in the active reader. `clock` in epoch seconds."""

    def __init__(
        self,
        context: ReaderContext,
        client: NylasClient,
        control: ControlTable,
        addresses: GrantAddresses,
        rule: GroupRule,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._context, self._client, self._selection = context, client, control.selection
        self._addresses, self._rule, self._clock = addresses, rule, clock

    async def put_in_force(self) -> None:
        """Writes the rule of the settings where another one is in force.

        Without a rule, the names of groups are forgotten. Returns once that is acknowledged.
        """
        topics, known = self._context.topics, self._selection
        if known.groups != self._rule and (known.groups is not None or self._rule.reads_groups):
            await self._publish([groups_record(topics, self._rule, int(self._clock() * 1000))])
            log.info("which contact groups are synced came into force")
        if not self._rule.reads_groups:
            forgotten = [forget_group_names_record(topics, grant) for grant in known.group_names]
            await self._publish(forgotten)

    async def run(self, grants: GrantTable) -> None:
        """Forgets the groups of deleted grants, until it is cancelled."""
        while True:
            gone = grants.deleted() & self._selection.group_names.keys()
            topics = self._context.topics
            await self._publish([forget_group_names_record(topics, grant) for grant in gone])
            await asyncio.sleep(LOOK_SECONDS)

    async def read(self, grant: str, provider: str = "") -> None:
        """Asks Nylas for the groups of a grant, and publishes names that are new or changed.

        A provider that has no groups is not asked. Returns once what is new is acknowledged. Raises
        as `list_contact_groups`, but for a provider that does not support the question.
        """
        if not self._rule.reads_groups:
            return
        asked_ms = int(self._clock() * 1000)
        found = GroupNames(grant, await self._list(grant, provider), asked_ms)
        before = self._selection.group_names.get(grant)
        if before is None or before.names != found.names:
            await self._publish([group_names_record(self._context.topics, found)])
        else:
            self._selection.group_names[grant] = found

    async def read_for(self, contact: Mapping[str, Any], grant: str, changed_at: int) -> None:
        """Asks Nylas for the groups of a grant if the contact names one that is not known.

        Once is enough after `changed_at` (epoch seconds), when the contact had changed: a group
        that is not listed then has no name. Raises as `read`.
        """
        known = self._selection.group_names.get(grant)
        names = self._selection.names_of_groups(grant)
        if known is not None and known.asked_ms // 1000 > changed_at:
            return
        if unknown_ids(contact, names):
            await self.read(grant)

    def named(self, grant: str, contacts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The contacts with the names of their groups, as they are known now.

        Without a rule they are unchanged.
        """
        if not self._rule.reads_groups:
            return list(contacts)
        names = self._selection.names_of_groups(grant)
        return [with_group_names(contact, names) for contact in contacts]

    async def _list(self, grant: str, provider: str) -> dict[str, str]:
        known = self._addresses.by_grant.get(grant)
        if (provider or (known.provider if known else "")) in WITHOUT_GROUPS:
            return {}
        try:
            return await list_contact_groups(self._client, grant)
        except Refused as fault:
            if fault.status != UNSUPPORTED:
                raise
            log.warning("a mailbox has no contact groups", grant=grant, error=str(fault))
            return {}

    async def _publish(self, records: Sequence[KafkaRecord]) -> None:
        if records:
            await self._context.publish(records)
        for record in records:
            self._selection.apply(record)
