"""Derives own domains from the grants' addresses, and puts them in force; see streams/own_domains.

A new domain changes whom dedupe leaves out from then on. Records that exist stay as they are.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from streams.control import ControlTable
from streams.grant_addresses import GrantAddresses
from streams.own_domains import OwnDomains, derived, own_domains_record
from streams.reader.context import ReaderContext

log = structlog.get_logger()

# Between two looks at the addresses. Dedupe knows the domain of a contact's own grant without it.
LOOK_SECONDS = 2.0


class OwnDomainKeeper:
    """The derived domains in the active reader. `clock` in epoch seconds."""

    def __init__(
        self,
        context: ReaderContext,
        control: ControlTable,
        addresses: GrantAddresses,
        derives: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`derives`: whether PEOPLE_OWN_DOMAINS leaves the domains to the grants' addresses."""
        self._context, self._control, self._addresses = context, control, addresses
        self._derives, self._clock = derives, clock

    async def put_in_force(self) -> None:
        """Begins or ends the derivation, as the setting says; returns once it is acknowledged."""
        known = self._control.own_domains
        if self._derives and known is None:
            await self._publish(OwnDomains())
        elif not self._derives and known is not None:
            await self._publish(None)

    async def run(self) -> None:
        """Works until it is cancelled."""
        while self._derives:
            await self.keep()
            await asyncio.sleep(LOOK_SECONDS)

    async def keep(self) -> None:
        """Adds the domains of the addresses that are new; returns once that is acknowledged."""
        known = self._control.own_domains or OwnDomains()
        addresses = [one.address for one in self._addresses.by_grant.values()]
        found = derived(known, addresses, int(self._clock() * 1000))
        if found != known:
            await self._publish(found)
            new = sorted(found.since_ms.keys() - known.since_ms.keys())
            log.info("own domains were derived from the addresses of grants", domains=new)

    async def _publish(self, own: OwnDomains | None) -> None:
        record = own_domains_record(self._context.topics, own)
        await self._context.publish([record])
        self._control.apply(record)
