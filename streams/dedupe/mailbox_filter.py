"""Which mailboxes' events dedupe forwards: follows the rule, the addresses and the members.

A page of the reader names the address of its grant in each event (`grant.address`), because dedupe
may take the event before it has followed the record that says so. That record counts once it is
followed: it may be newer than the page.

The event loop takes the records; the thread that plans batches asks. Each question reads one
consistent value of a dictionary, so no lock is needed.
"""

from collections.abc import Iterable

from connectors.salesforce.person import grant_of
from streams.contact_groups import NO_GROUPS, GroupRule
from streams.control import ControlTable
from streams.dedupe.planner import GroupFilter, every_mailbox
from streams.grant_addresses import GrantAddresses
from streams.kafka.followed import FollowedTopic
from streams.mailboxes import Choice, MailboxRule, Why
from streams.settings import KafkaSettings
from streams.topics import Topics, group


class MailboxFilter:
    """The choice for each grant. `setting` counts until the reader has put a rule in force.

    `derives` says whether own domains come from the grants' addresses. `groups` is the rule of
    contact groups until the reader has put one in force.
    """

    def __init__(
        self, setting: MailboxRule, derives: bool = False, groups: GroupRule = NO_GROUPS
    ) -> None:
        self._groups = groups
        self.control = ControlTable()
        self.addresses = GrantAddresses()
        self._of_events: dict[str, str] = {}
        self._setting, self._derives = setting, derives

    def choose(self, grant: str) -> Choice:
        """Whether the events of a grant are forwarded. Does not block."""
        selection = self.control.selection
        if selection.in_force(self._setting).entries:
            return selection.choose(self._address(grant), self._setting)
        derives = self._derives and self.control.own_domains is not None
        if derives and self._address(grant) is None:
            return _UNDECIDED
        return every_mailbox(grant)

    def group_rule(self, read_by_us: bool = False) -> GroupRule:
        """The rule of contact groups in force. Does not block.

        Until the reader puts one in force, the contacts that it reads lack the names of their
        groups, and pass as before.
        """
        if read_by_us and self.control.selection.groups is None:
            return NO_GROUPS
        return self.control.selection.groups_in_force(self._groups)

    def group_filter(self, *, releases: bool) -> GroupFilter:
        """What the contact groups decide, for the planner."""
        return GroupFilter(self.group_rule, self.control.selection.names_of_groups, releases)

    def own_domains(self, key: str) -> frozenset[str]:
        """The derived own domains for the contact of a key. Does not block.

        That of its own grant counts before the reader has put it in force.
        """
        derived = self.control.own_domains
        if derived is None or not self._derives:
            return frozenset()
        return derived.with_grant(self._address(grant_of(key)) or "")

    def note_address(self, grant: str, address: str) -> None:
        """Takes the address of a grant that an event names. Does not block."""
        if self.addresses.address(grant) is None:
            self._of_events[grant] = address.casefold()

    def _address(self, grant: str) -> str | None:
        """In lower case; None while neither a record nor an event has named it."""
        followed = self.addresses.address(grant)
        return self._of_events.get(grant) if followed is None else followed


_UNDECIDED = Choice(False, Why.ADDRESS_UNKNOWN)


def followed_topics(
    kafka: KafkaSettings, names: Topics, mailboxes: MailboxFilter
) -> list[FollowedTopic]:
    """The topics that a filter has to have read before the first event is planned."""
    name = group(kafka, "dedupe-selection")
    return [
        FollowedTopic(kafka, names.control.name, name, mailboxes.control.apply),
        FollowedTopic(kafka, names.grants.name, name, mailboxes.addresses.apply),
    ]


async def caught_up(followed: Iterable[FollowedTopic]) -> None:
    """Returns once each topic was read to its end. The wait is as long as the broker is away."""
    for topic in followed:
        await topic.caught_up.wait()
