"""The rules by which a created record gets its owner, as the settings name them."""

from dataclasses import dataclass
from enum import StrEnum

USER_PREFIX, QUEUE_PREFIX = "005", "00G"


class OwnerRule(StrEnum):
    """By which rule a created record got its owner. The values are labels of a metric."""

    # the Salesforce user whose address is that of the grant
    USER = "user"
    # of a Contact, the owner of its Account
    ACCOUNT = "account"
    # the user or the queue of the settings; a queue owns Leads only
    CONFIGURED = "configured"
    # the org's assignment rule, for Leads of live changes
    ASSIGNMENT_RULE = "assignment_rule"
    # our user, because no rule of the settings gave an owner, or the org refused the one it gave
    FALLBACK = "fallback"
    # our user, because the settings name no rule
    SYNC_USER = "sync_user"


CHOSEN = (OwnerRule.USER, OwnerRule.ACCOUNT, OwnerRule.CONFIGURED, OwnerRule.ASSIGNMENT_RULE)
"""The rules that the settings may name."""


class UserMatch(StrEnum):
    """Which field of a user is compared with the address of a grant."""

    EMAIL = "email"
    USERNAME = "username"
    FEDERATION_IDENTIFIER = "federation_identifier"

    @property
    def field(self) -> str:
        """Its name in Salesforce."""
        return {"email": "Email", "username": "Username"}.get(self.value, "FederationIdentifier")


@dataclass(frozen=True, slots=True)
class OwnerPolicy:
    """The rules of the settings, in the order in which they are asked. None: our user owns all."""

    rules: tuple[OwnerRule, ...] = ()
    match: UserMatch = UserMatch.EMAIL
    configured_id: str = ""
    """Of a user or a queue, for OwnerRule.CONFIGURED."""

    @property
    def configured_queue(self) -> bool:
        """Whether the configured owner is a queue, which cannot own Contacts."""
        return self.configured_id.startswith(QUEUE_PREFIX)
