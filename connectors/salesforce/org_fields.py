"""The fields of Contact and Lead that contactstream relies on, by their API names in the org.

`deploy/salesforce` ships the custom ones (`__c`). `checkup` checks that an org has them.
"""

KEY_FIELD = "Nylas_Contact_Id__c"
"""The external ID: which Nylas contact owns the record, as `person.record_key` writes it."""

VERSION_FIELD = "Nylas_Version__c"
"""When the owner last changed, in seconds since the epoch. A validation rule of the org refuses an
older value, and shows its error at this field.
"""

MARKER_FIELD = "Nylas_Field_Hashes__c"
"""The marker: a short hash for each field that we wrote, as `field_hashes` reads and writes it."""

BOOKKEEPING_FIELDS = frozenset({KEY_FIELD, VERSION_FIELD, MARKER_FIELD})
"""Fields by which contactstream remembers what it did. They hold nothing of a person's record."""

EMAIL_FIELDS = ("Email", "Nylas_Email_2__c", "Nylas_Email_3__c")
"""Where the addresses of a record are kept: the standard field first, then two of our own."""

# of KEY_FIELD, and the most that Salesforce allows a text field
MAX_KEY_LENGTH = 255

# of MARKER_FIELD. An entry takes at most 51 characters, with a name of 43, so that 80 fields fit;
# the nine fields of the default mapping take 160 characters. The deployed field has this length.
MAX_MARKER_LENGTH = 4096
