"""Which part of a contact is kept: what mapping and matching read, and of excluded people nothing.

An address book also holds notes, birthdays and home addresses. Nobody reads them, so they are not
kept. Of a person who is left out by the settings only the reason is kept, beside the contact's key.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from connectors.salesforce.emails import addresses, domain, valid_addresses
from connectors.salesforce.exclusions import in_domains
from connectors.salesforce.field_paths import Json
from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.person import PERSON_READS
from connectors.salesforce.policy import Policy
from connectors.salesforce.routing import skipped
from connectors.salesforce.skip_reasons import SkipReason

EXCLUDED = "excluded"
"""The field that says why a contact was left out. Nylas has no such field."""

WAS_SYNCED = "was_synced"
"""The field that says that a contact which is left out was synced before, so that its record may
carry our key. Nylas has no such field.
"""

IDENTITY = ("grant_id", "id", "object")

_REASONS = {reason.value: reason for reason in SkipReason}

Exclusion = Callable[[str, Json], SkipReason | None]
"""Called with a contact key and the contact: why the person is left out, or None."""


def fields_read(mapping: FieldMapping) -> frozenset[str]:
    """The top-level fields of a contact that decide who it is and what is written."""
    return frozenset((*mapping.reads, *PERSON_READS, EXCLUDED))


def kept_part(contact: Json, fields: Iterable[str]) -> dict[str, Any]:
    """The contact's IDs and these fields of it."""
    return {name: contact[name] for name in (*IDENTITY, *fields) if name in contact}


def left_out(contact: Json, reason: SkipReason, *, was_synced: bool = False) -> dict[str, Any]:
    """What is kept of a contact that is left out: its IDs, why, and whether it was synced."""
    kept = {**kept_part(contact, ()), EXCLUDED: reason.value}
    return {**kept, WAS_SYNCED: True} if was_synced else kept


def is_unsettled(contact: Json) -> bool:
    """Whether a kept contact is left out and was synced before: its record waits for a person."""
    return contact.get(WAS_SYNCED) is True


def recorded_exclusion(contact: Json) -> SkipReason | None:
    """Why a contact was left out when it was kept; None for any other contact.

    A reason of a later version counts as `excluded`.
    """
    if EXCLUDED not in contact:
        return None
    reason = contact[EXCLUDED]
    if not isinstance(reason, str):
        return None
    return _REASONS.get(reason, SkipReason.EXCLUDED)


def nobody_excluded(_key: str, contact: Json) -> SkipReason | None:
    """An Exclusion for callers that know no settings: it finds what was recorded only."""
    return recorded_exclusion(contact)


def no_more_domains(_key: str) -> frozenset[str]:
    """No own domains besides those of the policy."""
    return frozenset()


def exclusion_by(
    policy: Policy,
    own_domains: Callable[[str], frozenset[str]] = no_more_domains,
    groups: Exclusion | None = None,
) -> Exclusion:
    """Why the settings leave a contact out, whatever the org holds.

    `own_domains` says of a contact key which domains are own ones besides the policy's. `groups`
    says whom the contact groups leave out, of those whom nothing else does. The result raises
    SuppressionError where a suppression list in a file cannot be read.
    """
    suppression, exclusions, sources = policy.suppression, policy.exclusions, policy.sources

    def exclusion(key: str, contact: Mapping[str, Any]) -> SkipReason | None:
        if recorded := recorded_exclusion(contact):
            return recorded
        if suppression.hashes and suppression.holds((key, *addresses(contact))):
            return SkipReason.SUPPRESSED
        if reason := skipped(contact, exclusions, sources):
            return reason
        own = own_domains(key)
        if own and any(in_domains(domain(address), own) for address in valid_addresses(contact)):
            return SkipReason.OWN_DOMAIN
        return groups(key, contact) if groups else None

    return exclusion
