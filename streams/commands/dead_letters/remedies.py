"""What an operator does about a dead letter, by its reason."""

from collections.abc import Mapping

from connectors.nylas.errors import UNREADABLE
from connectors.salesforce.api.classification import LONE_ROW_REASONS, ROW_REASONS
from streams.sink.outcomes import EXHAUSTED
from streams.sink.outcomes import STAGE as SINK

_ADDRESS_BOOK = "Correct the contact in its address book; the change is read by itself."
_UNREADABLE = (
    "No stage could read it. If a newer version reads it, redrive it; otherwise report the bug, "
    "and run backfill for the grant."
)
_RULE = "Change the rule in Salesforce, or correct the contact in its address book, then redrive."
_PERMISSION = "Give the integration user the permission (see doctor), then redrive."
_AUTOMATION = "A flow or a trigger in Salesforce failed. Mend it there, then redrive."
_BUSY = "Salesforce was busy for longer than was waited. Redrive."
_FIELD = "Correct the mapping or the field in Salesforce, then redrive."
_TOO_LARGE = "Shorten the contact in its address book; the change is read by itself."

_REMEDIES: Mapping[str, str] = {
    **dict.fromkeys(UNREADABLE, _UNREADABLE),
    "not_a_contact": _UNREADABLE,
    "wrong_key": _UNREADABLE,
    "not_a_change": "Another program wrote to contacts.changes. Find it, then discard.",
    "unsupported_encoding": _UNREADABLE,
    "refused_by_broker": "Raise max.message.bytes of the topic (topics check), then redrive.",
    "too_deep": _TOO_LARGE,
    "too_large": _TOO_LARGE,
    "no_content": "Look at the contact in its address book; a change of it is read again.",
    "refused": "Nylas refused to give the contact for a day. See doctor, then redrive.",
    "required_field_missing": (
        "Salesforce demands a field that the mapping leaves empty. Map it, or make it optional, "
        "then redrive."
    ),
    "invalid_email_address": _ADDRESS_BOOK,
    "string_too_long": "Lengthen the field in Salesforce, or shorten the value, then redrive.",
    "field_custom_validation_exception": _RULE,
    "field_filter_validation_exception": _RULE,
    "field_integrity_exception": _FIELD,
    "invalid_or_null_for_restricted_picklist": (
        "Add the value to the picklist, or take the field out of the mapping, then redrive."
    ),
    "duplicate_external_id": "Two records hold the key: merge them in Salesforce, then redrive.",
    "duplicates_detected": (
        "A duplicate rule found several records. Merge them, or change the rule, then redrive."
    ),
    "malformed_id": _FIELD,
    "missing_argument": _FIELD,
    "number_outside_valid_range": _FIELD,
    "invalid_type_on_field_in_record": _FIELD,
    "invalid_field": _FIELD,
    "invalid_field_for_insert_update": _FIELD,
    "text_data_outside_supported_charset": _ADDRESS_BOOK,
    "json_parser_error": _ADDRESS_BOOK,
    "insufficient_access_on_cross_reference_entity": _PERMISSION,
    "insufficient_access_or_readonly": _PERMISSION,
    "insufficient_access": _PERMISSION,
    "child_share_fails_parent": _PERMISSION,
    "unavailable_recordtype_exception": _PERMISSION,
    "invalid_operation": _PERMISSION,
    "op_with_invalid_user_type_exception": _PERMISSION,
    "transfer_requires_read": _PERMISSION,
    "inactive_owner_or_user": "Give the record an active owner in Salesforce, then redrive.",
    "limit_exceeded": "A limit of the org is reached. Raise it or free some, then redrive.",
    "cannot_insert_update_activate_entity": _AUTOMATION,
    "cannot_execute_flow_trigger": _AUTOMATION,
    "apex_error": _AUTOMATION,
    "apex_limit": _AUTOMATION,
    "unknown_exception": _AUTOMATION,
    "processing_halted": _AUTOMATION,
    "all_or_none_operation_rolled_back": _BUSY,
    "unable_to_lock_row": _BUSY,
    "too_many_apex_requests": _BUSY,
    "txn_security_metering_error": _BUSY,
    "query_timeout": _BUSY,
    "request_running_too_long": _BUSY,
    "operation_too_large": _BUSY,
    "query_too_complicated": _BUSY,
    "duplicate_value": (
        "A record that sharing hides from the integration user may hold the value. Give it "
        "View All (see doctor), then redrive."
    ),
    "entity_is_locked": "An approval locks the record. Redrive once it is over.",
    "entity_is_deleted": "The record, or one that it refers to, was deleted. Redrive.",
    "not_found": "The record, or one that it refers to, was deleted. Redrive.",
    "invalid_cross_reference_key": "The record, or one that it refers to, was deleted. Redrive.",
    "cannot_update_converted_lead": "The Lead was converted. Redrive: the Contact is looked up.",
    "unknown_code": "See the error with `show`. Mend its cause in Salesforce, then redrive.",
    "unexplained": "Salesforce gave no reason. Redrive once; then look for a flow or a trigger.",
}

_LONE_ROW = (
    "Every call with this contact failed while others passed. See the error with `show`, correct "
    "the contact or the org, then redrive."
)
_UNKNOWN = "Another version wrote this reason. See the error with `show`."

REASONS = (
    frozenset(_REMEDIES) | LONE_ROW_REASONS | {f"{EXHAUSTED}{reason}" for reason in ROW_REASONS}
)
"""Every reason that a dead letter may have."""


def remedy(reason: str, stage: str) -> str:
    """What to do about letters of this reason from this stage, in a sentence or two."""
    if stage == SINK and reason in LONE_ROW_REASONS:
        return _LONE_ROW
    return _REMEDIES.get(reason.removeprefix(EXHAUSTED), _UNKNOWN)
