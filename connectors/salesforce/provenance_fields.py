"""The names of the optional fields that `deploy/salesforce/optional-app` ships."""

CREATED_FIELD = "Nylas_Created_By_Sync__c"
"""Checkbox: contactstream created the record."""

WRITTEN_FIELD = "Nylas_Last_Written__c"
"""Date/Time: when contactstream last wrote the record."""

WHY_FIELD = "Nylas_Why__c"
"""Text 255: what the last write did, how the record was found, and what set the write off."""

MAILBOX_FIELD = "Nylas_Source_Mailbox__c"
"""Text 255: whose address book the contact is in. Written only where the settings say so."""

MAX_WHY_LENGTH = 255

PROVENANCE_FIELDS = frozenset({CREATED_FIELD, WRITTEN_FIELD, WHY_FIELD, MAILBOX_FIELD})


def says_nothing(names: set[str]) -> bool:
    """Whether a row with these fields would change nothing but optional fields."""
    return names <= PROVENANCE_FIELDS | {"Id"}
