"""Whether an org is prepared for contactstream: findings over its answers, each with its remedy.

`contactstream doctor` asks the org and calls these functions. Nothing here does I/O.
"""

from connectors.salesforce.checkup.address_fields import own_address_fields
from connectors.salesforce.checkup.fields import (
    access,
    account_evidence,
    accounts,
    address_fields,
    evidence_in_use,
    flag_field,
    key_field,
    links,
    marker_field,
    version_field,
)
from connectors.salesforce.checkup.findings import (
    PERMIT,
    SEE_SETUP,
    CheckupFinding,
    CheckupStatus,
    fail,
    failed,
    ok,
    warn,
)
from connectors.salesforce.checkup.lookup import LOOKUP_CHECK, full_lookup, lookup_size
from connectors.salesforce.checkup.mapping import mapped_fields, record_types, unserved
from connectors.salesforce.checkup.org import api_version, daily_calls, user
from connectors.salesforce.checkup.person_accounts import (
    PERSON_ACCOUNTS_QUERY,
    has_person_accounts,
    person_accounts,
)
from connectors.salesforce.checkup.rules import (
    RESTORE_PERMISSION,
    VERSION_FORMULA,
    VERSION_RULE,
    duplicate_rules,
    lead_conversion,
    version_rule,
)
from connectors.salesforce.checkup.sharing import Sharing, parse_sharing, visibility

__all__ = [
    "LOOKUP_CHECK",
    "PERMIT",
    "PERSON_ACCOUNTS_QUERY",
    "RESTORE_PERMISSION",
    "SEE_SETUP",
    "VERSION_FORMULA",
    "VERSION_RULE",
    "CheckupFinding",
    "CheckupStatus",
    "Sharing",
    "access",
    "account_evidence",
    "accounts",
    "address_fields",
    "api_version",
    "daily_calls",
    "duplicate_rules",
    "evidence_in_use",
    "fail",
    "failed",
    "flag_field",
    "full_lookup",
    "has_person_accounts",
    "key_field",
    "lead_conversion",
    "links",
    "lookup_size",
    "mapped_fields",
    "marker_field",
    "ok",
    "own_address_fields",
    "parse_sharing",
    "person_accounts",
    "record_types",
    "unserved",
    "user",
    "version_field",
    "version_rule",
    "visibility",
    "warn",
]
