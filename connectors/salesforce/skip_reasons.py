"""The reasons for which a contact is left out on purpose."""

from enum import StrEnum


class SkipReason(StrEnum):
    """Why a contact was skipped; the values appear in outcomes and as metric labels."""

    OWN_DOMAIN = "own_domain"  # a colleague
    ROLE_ADDRESS = "role_address"  # it has only addresses of functions
    EXCLUDED = "excluded"  # it has only excluded addresses
    SOURCE = "source"  # it is not from the address book (Nylas also lists inbox and domain)
    NOT_IN_GROUP = "not_in_group"  # it is in none of the contact groups that are synced
    EXCLUDED_GROUP = "excluded_group"  # it is in a contact group that is left out
    SUPPRESSED = "suppressed"  # the person asked to be erased
    # it is not in Salesforce, and ...
    NO_ADDRESS = "no_address"  # ... contacts without an address are not created
    FREE_MAIL = "free_mail"  # ... people of free-mail domains are not created
    NOT_CREATED = "not_created"  # ... the settings forbid to create such a record
    MODE_CREATES_NOBODY = "mode_creates_nobody"  # ... the mode creates no records
    # its Lead was converted to a Contact that is deleted, or hidden from the user
    CONVERTED_LEAD = "converted_lead"
    # its record is a Person Account, and the org refuses to change it through its Contact
    PERSON_ACCOUNT = "person_account"
    # its record, which carried our key, was deleted by people: by the contact key or an address
    DELETED_IN_SALESFORCE = "deleted_in_salesforce"
