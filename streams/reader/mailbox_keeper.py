"""Keeps which mailboxes are selected: puts the rule in force and notes what follows for each grant.

It also says which exclusions are in force, so that `contactstream selection apply` acts on no
others.

Everything is on contactstream.control, see streams/control_selection.py. A grant that becomes
selected is backfilled: its events were dropped before. One that is selected no longer is not read
any more, and its records stay as they are until a person decides (`contactstream selection`).
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from streams.control import ControlTable
from streams.control_selection import (
    GrantChoice,
    exclusions_record,
    forget_grant_record,
    grant_choice_record,
    rule_record,
)
from streams.grant_addresses import GrantAddresses
from streams.kafka.records import KafkaRecord
from streams.mailboxes import Choice, MailboxRule, Why
from streams.reader.context import ReaderContext
from streams.reader.grant_events import GrantTable
from streams.reader.run_writer import RunWriter
from streams.runs import Run, RunKind

log = structlog.get_logger()

# Between two looks at what the topics say. A change of a permission set takes up to an hour anyway.
LOOK_SECONDS = 2.0

# Until a grant that became selected is read. Dedupe follows the same topics, so it knows within
# moments; what it takes before that it would drop. A restart of dedupe takes less than this.
BACKFILL_DELAY_SECONDS = 60

BY = "selection"
"""`by` of the backfills of grants that became selected."""


class MailboxKeeper:
    """The choice for each grant in the active reader. `clock` in epoch seconds."""

    def __init__(
        self,
        context: ReaderContext,
        control: ControlTable,
        addresses: GrantAddresses,
        grants: GrantTable,
        runs: RunWriter,
        rule: MailboxRule,
        clock: Callable[[], float] = time.time,
        needs_addresses: bool = False,
        exclusions: str = "",
    ) -> None:
        """`needs_addresses`: whether a grant has to be known by its address in any case.

        `exclusions` is `Exclusions.digest` of the settings.
        """
        self._context, self._selection = context, control.selection
        self._addresses, self._grants, self._runs = addresses, grants, runs
        self._rule, self._clock, self._needs_addresses = rule, clock, needs_addresses
        self._exclusions = exclusions

    def choose(self, grant: str, address: str | None = None) -> Choice:
        """Whether a grant is selected; `address` as a listing names it, if one does."""
        if address is None:
            address = self._addresses.address(grant)
        if address is None and self._needs_addresses:
            return Choice(False, Why.ADDRESS_UNKNOWN)
        return self._rule.choose(address, self._selection.member_addresses())

    async def put_in_force(self) -> None:
        """Writes the rule of the settings and its exclusions where others are in force.

        Returns once that is acknowledged.
        """
        topics, now_ms, known = self._context.topics, int(self._clock() * 1000), self._selection
        if known.rule != self._rule and (known.rule is not None or self._rule.entries):
            await self._write(rule_record(topics, self._rule, now_ms))
            log.info("which mailboxes are synced came into force", entries=len(self._rule.entries))
        if known.exclusions != self._exclusions:
            await self._write(exclusions_record(topics, self._exclusions, now_ms))
            log.info("exclusions came into force", digest=self._exclusions)

    async def _write(self, record: KafkaRecord) -> None:
        await self._context.publish([record])
        self._selection.apply(record)

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            await self.keep()
            await asyncio.sleep(LOOK_SECONDS)

    async def keep(self) -> None:
        """Notes each grant whose choice changed, and asks for a backfill of the newly selected.

        Returns once both are acknowledged. A crash between the two is repeated: the request comes
        first, and its runs drop nothing.
        """
        if not self._rule.entries and not self._selection.grants:
            return
        changed, newly, gone = changes(self._choices(), self._selection.grants, self._clock())
        if newly:
            now = int(self._clock())
            await self._runs.request(
                Run(
                    RunKind.BACKFILL,
                    tuple(newly),
                    now,
                    BY,
                    not_before=now + BACKFILL_DELAY_SECONDS,
                )
            )
            log.info("mailboxes became selected; they are read", grants=len(newly))
        topics = self._context.topics
        records = [grant_choice_record(topics, one) for one in changed]
        records += [forget_grant_record(topics, grant) for grant in gone]
        if records:
            await self._context.publish(records)
        for record in records:
            self._selection.apply(record)
        chosen = [one.choice.selected for one in self._selection.grants.values()]
        self._context.metrics.mailboxes.labels("selected").set(sum(chosen))
        self._context.metrics.mailboxes.labels("not_selected").set(len(chosen) - sum(chosen))

    def _choices(self) -> dict[str, Choice]:
        """The choice for each grant that is there and whose address is known."""
        members = self._selection.member_addresses()
        deleted = self._grants.deleted()
        return {
            grant: self._rule.choose(one.address, members)
            for grant, one in self._addresses.by_grant.items()
            if grant not in deleted
        }


def changes(
    choices: Mapping[str, Choice], known: Mapping[str, GrantChoice], now: float
) -> tuple[list[GrantChoice], list[str], list[str]]:
    """What changed since it was noted: the new choices, the newly selected, and grants now gone.

    A grant that was never noted is not newly selected: its own event asks for its first backfill,
    or a person does.
    """
    changed = [
        GrantChoice(grant, choice, int(now * 1000))
        for grant, choice in choices.items()
        if grant not in known or known[grant].choice != choice
    ]
    newly = [
        one.grant
        for one in changed
        if one.choice.selected and one.grant in known and not known[one.grant].choice.selected
    ]
    return changed, newly, [grant for grant in known if grant not in choices]


def skip_reason(choice: Choice) -> str:
    """Why a run does not read a grant; empty if it does.

    A grant whose address is not known is read: dedupe drops nothing of it before that is known.
    """
    return "" if choice.selected or choice.why is Why.ADDRESS_UNKNOWN else "not_selected"
