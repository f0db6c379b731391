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

PERSON_ACCOUNT_FIELD = "IsPersonAccount"
"""Of Account and Contact, in orgs with Person Accounts only. A Person Account is one record that
shows as an Account and as its one Contact [SOAP API Developer Guide, "Person Account Record
Types"].
"""

PERSON_CONTACT_FIXED = frozenset(
    ("AccountId", "RecordTypeId", "FirstName", "LastName", "MiddleName", "Suffix", "Salutation")
)
"""Fields of the Contact of a Person Account that are not written there.

Salesforce refuses `AccountId` [recorded: sfb2csolutionarchitects/b2c-crm-sync#14] and
`RecordTypeId` [Salesforce Help 005305352]. The name is that of the Account as well, and no page
says whether it may be changed through the Contact. All other fields may: Salesforce's own connector
writes them there [SalesforceCommerceCloud/b2c-crm-sync#54].
"""
