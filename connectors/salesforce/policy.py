"""What contactstream may do in the org, as the settings say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from connectors.salesforce.account_rules import NO_RULES, AccountRules
from connectors.salesforce.exclusions import Exclusions
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.owner_rules import OwnerPolicy, OwnerRule
from connectors.salesforce.routing import ADDRESS_BOOK, Creation
from connectors.salesforce.suppression import Suppression, SuppressionList


class OnDelete(StrEnum):
    """What happens to the record of a deleted contact. Salesforce is never asked to delete."""

    # the key is cleared, so that the next contact that matches takes the record over
    RELEASE = "release"
    # a checkbox is set
    FLAG = "flag"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Policy:
    """Which contacts are synced, and what may be written for them."""

    mapping: FieldMapping = field(default_factory=FieldMapping)
    exclusions: Exclusions = field(default_factory=Exclusions)
    suppression: SuppressionList = field(default_factory=Suppression)
    sources: frozenset[str] = ADDRESS_BOOK
    creation: Creation = field(default_factory=Creation)
    on_delete: OnDelete = OnDelete.RELEASE
    flag_field: str | None = None
    """The checkbox for OnDelete.FLAG, on both objects."""
    account_domains: Mapping[str, str] = field(default_factory=dict)
    """Further domains: each with an Account ID, or with the domain whose Account it shares."""
    address_fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By object: the org's own address fields, which are read for matching and never written."""
    contact_share: float = 0.0
    """The share of a domain's Contacts that has to belong to one Account, so that new people of the
    domain do too; 0 if Contacts are no evidence.
    """
    account_rules: AccountRules = NO_RULES
    """Which Accounts count, and which of their fields name domains besides Website."""
    owners: OwnerPolicy = field(default_factory=OwnerPolicy)
    """Who owns created records."""
    source_mailbox: bool = False
    """Whether the optional field that names the address book is filled."""
    allow_save: bool = True
    """Whether rows are saved past duplicate rules that only alert."""
    account_refresh: float = 900.0
    """Seconds after which changed Accounts, and the describes, are read again.

    They are read in the same Composite as the queries of a batch, at no further call.
    """

    @property
    def reads_grant_addresses(self) -> bool:
        """Whether anything that is written depends on whose address book a grant is."""
        return self.source_mailbox or OwnerRule.USER in self.owners.rules
