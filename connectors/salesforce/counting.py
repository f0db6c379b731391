"""What a sync counts for its operator, and the callback by which it does."""

from collections.abc import Callable
from enum import StrEnum


class SyncWarning(StrEnum):
    """An event that a person should look into. The values are labels of a metric.

    Each is counted with a detail: the field (`Lead.Title`), the reason of a refusal, or nothing.
    """

    TRUNCATED = "truncated"
    """A text was longer than its field, and was shortened."""
    VALUE_DROPPED = "value_dropped"
    """A value that its field cannot hold, or that the org refused, was not written."""
    FIELD_MISSING = "field_missing"
    """A mapped field does not exist, or is hidden from our user."""
    FIELD_NOT_FILTERABLE = "field_not_filterable"
    """An address field is encrypted, so that nobody is found by it."""
    ADDRESS_FIELD_UNUSED = "address_field_unused"
    """A field of SALESFORCE_ADDRESS_FIELDS is missing or not indexed; nobody is found by it."""
    PERSON_ACCOUNT_REFUSED = "person_account_refused"
    """The org refused a row for the Contact of a Person Account; the contact was skipped."""
    FIELD_REFUSED = "field_refused"
    """The org refused to write a field of a row; the row was written without it."""
    MARKER_FULL = "marker_full"
    """A field was not written, because the record's marker has no room for another field."""
    INVALID_ADDRESS = "invalid_address"
    """A contact has text in `emails`, and no usable address."""
    SEVERAL_MATCHED = "several_matched"
    """Several records matched a contact equally well; one was chosen."""
    SHARED_DOMAIN = "shared_domain"
    """A host is the Website of several Accounts; the one without a parent, or the oldest, wins."""
    ACCOUNT_CONFLICT = "account_conflict"
    """A contact's domain fits several Accounts, or none of them; it goes without an Account.

    PEOPLE_ACCOUNT_DOMAINS names the Account of such a domain.
    """
    BULK_QUERY_REFUSED = "bulk_query_refused"
    """A bulk query for the Accounts was refused or failed; they are read page by page instead."""
    ACCOUNT_DELETED = "account_deleted"
    """A row was refused because its Account was deleted."""
    ACCOUNTS_REFUSED = "accounts_refused"
    """The Accounts could not be read: those known before serve on; without any the sync pauses."""
    CONTACT_DOMAINS_REFUSED = "contact_domains_refused"
    """The Contacts could not be read for the domains of their Accounts, or not all of them."""
    LOOKUP_HALVED = "lookup_halved"
    """The org, or a proxy before it, refused a lookup for its size; smaller ones cost more."""
    BULK_LOAD_REFUSED = "bulk_load_refused"
    """The org did not let us assign the permission set of bulk loads, or take it away again."""
    USERS_REFUSED = "users_refused"
    """The org's users could not be read, so that no record gets the grant's user as its owner."""
    ACCOUNT_OWNERS_REFUSED = "account_owners_refused"
    """Owners of Accounts could not be read; their new Contacts get another owner."""
    OWNER_REFUSED = "owner_refused"
    """The org refused the owner of a new record, with the code in the detail; our user owns it."""
    DESCRIBE_REFUSED = "describe_refused"
    """The fields could not be described again; those known before are used on."""


CountCallback = Callable[[SyncWarning, str], None]
"""Called with an event and its detail (`Lead.Title`, a reason, or an empty string)."""


def count_nothing(warning: SyncWarning, detail: str) -> None:
    """A counter callback that does nothing, for callers without metrics."""
