"""Why a contact is left out on purpose: the closed set of reasons, as they are counted."""

from enum import StrEnum


class SkipReason(StrEnum):
    OWN_DOMAIN = "own_domain"  # a colleague
    ROLE_ADDRESS = "role_address"  # no address but those of functions
    EXCLUDED = "excluded"  # no address but excluded ones
    SOURCE = "source"  # Nylas found it where we do not look (inbox, domain)
    SUPPRESSED = "suppressed"  # asked to be erased
    # Shares an address, but not the name, with another contact of the same address book.
    SHARED_ADDRESS = "shared_address"
    NO_ADDRESS = "no_address"  # not in Salesforce, and addressless contacts are not created
    FREE_MAIL = "free_mail"  # not in Salesforce, and people of free-mail domains are not created
    NOT_CREATED = "not_created"  # not in Salesforce, and the setting creates no such object
    CONVERTED_LEAD = "converted_lead"  # its Lead was converted to a Contact that is gone or hidden
