"""Which mailboxes' events dedupe forwards: follows the rule, the addresses and the members.

The event loop takes the records; the thread that plans batches asks. Each question reads one
consistent value of a dictionary, so no lock is needed.
"""

from collections.abc import Iterable

from streams.control import ControlTable
from streams.dedupe.planner import every_mailbox
from streams.grant_addresses import GrantAddresses
from streams.kafka.followed import FollowedTopic
from streams.mailboxes import Choice, MailboxRule
from streams.settings import KafkaSettings
from streams.topics import Topics, group


class MailboxFilter:
    """The choice for each grant. `setting` counts until the reader has put a rule in force."""

    def __init__(self, setting: MailboxRule) -> None:
        self.control = ControlTable()
        self.addresses = GrantAddresses()
        self._setting = setting

    def choose(self, grant: str) -> Choice:
        """Whether the events of a grant are forwarded. Does not block."""
        selection = self.control.selection
        if not selection.in_force(self._setting).entries:
            return every_mailbox(grant)
        return selection.choose(self.addresses.address(grant), self._setting)


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
