"""Keeps the sink to the org of its deployment, and pins that org before the first write.

What the deployment knows holds for one org: record IDs, Accounts, and what people deleted. After
the refresh of a sandbox the same login leads to an org with another ID, where none of it is true.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from connectors.salesforce.api.client import Fence
from connectors.salesforce.api.errors import SalesforceError
from streams.control import ControlTable
from streams.control_org import OrgPin, org_record
from streams.kafka.publisher import PublishFailed, RecordPublisher
from streams.topics import Topics

log = structlog.get_logger()

ADOPT = "contactstream org adopt --dry-run"


class OtherOrg(SalesforceError):
    """The org is not the one that this deployment writes to. The text names the remedy."""


class PinNotKept(SalesforceError):
    """Kafka did not take the record that pins the org, so that nothing may be written yet."""


class OrgGuard:
    """Which org this process may use. Used in the event loop only; `clock` in epoch seconds."""

    def __init__(
        self,
        table: ControlTable,
        table_is_complete: Callable[[], bool],
        publisher: RecordPublisher,
        names: Topics,
        clear_former_org: Callable[[Fence], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`table` is contactstream.control, complete once it was read to its end.

        `clear_former_org` returns once nothing is known of the former org any more, neither in
        Kafka nor in this process.
        """
        self._table = table
        self._table_is_complete = table_is_complete
        self._publisher = publisher
        self._names = names
        self._clear_former_org = clear_former_org
        self._clock = clock
        self._known_for: str | None = None  # the org that this process may know something of
        self._logged_in: str | None = None
        self._pinning = asyncio.Lock()

    def accept(self, org_id: str | None) -> None:
        """Takes the org of a login. Raises OtherOrg for one that may not be used."""
        self._logged_in = org_id
        if reason := self.refusal:
            raise OtherOrg(reason)

    @property
    def refusal(self) -> str:
        """Why this process must end, and the remedy; empty if it may go on."""
        pin = self._table.org
        if not self._table_is_complete() or pin is None:
            return ""
        if self._known_for is None:
            self._known_for = pin.org_id
        if pin.org_id != self._known_for:
            return f"org {pin.org_id} was adopted; the sink starts anew for it"
        if self._logged_in is not None and self._logged_in != pin.org_id:
            return (
                f"the login leads to org {self._logged_in}, and this deployment writes to org "
                f"{pin.org_id}; correct SALESFORCE_LOGIN_URL and the credentials, or, after the "
                f"refresh of a sandbox, see: {ADOPT}"
            )
        return ""

    async def confirm(self, log_in: Callable[[], Awaitable[str | None]], fence: Fence) -> None:
        """Returns once the org is pinned, so that a batch may be written to it.

        After an adoption, what is known of the former org is cleared first. `log_in` returns the
        org's ID. Raises OtherOrg, PinNotKept, what `log_in` and the clearing raise, and
        WriterFenced where the fence does.
        """
        org_id = await log_in()
        if reason := self.refusal:
            raise OtherOrg(reason)
        if org_id is None or not self._pin_is_due:
            return
        async with self._pinning:
            if not self._pin_is_due:
                return
            pin = self._table.org
            if pin is None:
                pin = OrgPin(org_id, "sink", int(self._clock() * 1000))
            else:
                await self._clear_former_org(fence)
                pin = replace(pin, adopting=False)
            await self._publish(pin, fence)

    @property
    def _pin_is_due(self) -> bool:
        return self._table.org is None or self._table.org.adopting

    async def _publish(self, pin: OrgPin, fence: Fence) -> None:
        fence()
        try:
            await self._publisher.publish([org_record(self._names, pin)])
        except PublishFailed as error:
            raise PinNotKept(str(error)) from error
        self._table.org = pin
        log.info("org pinned", org=pin.org_id, by=pin.by)
