"""The records of the org, and the rules by which a row is saved.

These rules convert values and check keys, duplicates, locks and versions.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

from .person_accounts import person_contact_refusal, show_on_account
from .schema import PREFIXES, Field, SObject, make_id, normal_id, secured
from .settings import BadValueError, Settings

Row = dict[str, Any]
"""A stored record by field name; a field without a value is absent. Never changed in place: a write
stores a new one.
"""

RowError = dict[str, Any]

# a user with this custom permission passes the version rule
RESTORE_PERMISSION: Final = "Nylas_Restore_Older_Version"
VERSION_RULE_MESSAGE: Final = "The record holds a newer version of this contact."
_SPACE: Final = " \t\n\r\x0b\x0c"
_EMAIL: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+"
)
_MAX_LOCAL_PART: Final = 64


class CallRefused(Exception):
    """The whole request (or subrequest) is answered with this error."""

    def __init__(
        self, status: int, code: str, message: str, fields: Iterable[str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields

    @property
    def body(self) -> list[dict[str, Any]]:
        error: dict[str, Any] = {"message": self.message, "errorCode": self.code}
        if self.fields is not None:
            error["fields"] = list(self.fields)
        return [error]


class _Refused(Exception):
    """A field's value is refused: an error of its row."""

    def __init__(self, code: str, message: str, fields: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.error = row_error(code, message, fields)


class _WrongType(Exception):
    def __init__(self, wanted: str, value: Any) -> None:
        super().__init__(wanted)
        token: dict[Any, str] = {
            str: "VALUE_STRING",
            int: "VALUE_NUMBER_INT",
            float: "VALUE_NUMBER_FLOAT",
            bool: "VALUE_TRUE" if value is True else "VALUE_FALSE",
            dict: "START_OBJECT",
            list: "START_ARRAY",
        }
        found = token.get(type(value), "VALUE_NULL")
        shown = "" if isinstance(value, dict | list) else f" value {value}"
        self.message = (
            f"Cannot deserialize instance of {wanted} from {found}{shown} or request may be "
            "missing a required field "
            "at [line:1, column:1]"
        )


def row_error(code: str, message: str, fields: Iterable[str] = ()) -> RowError:
    return {"statusCode": code, "message": message, "fields": list(fields)}


def failed(errors: list[RowError]) -> dict[str, Any]:
    """The result of a row that was not saved."""
    return {"success": False, "errors": errors}


def length_of(text: str) -> int:
    """The length in UTF-16 units: two for a character beyond the basic plane.

    It is the stricter of the two readings of a limit.
    """
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


Convert = Callable[[Any], Any]


def _converter(item: Field, *, takes_queue: bool = False) -> Convert:
    """How a value of the request becomes the value stored. Raises _WrongType and _Refused."""
    name, label, limit = item.name, item.label, item.length

    def text(value: Any) -> Any:
        if value is None:
            return None
        if type(value) is not str:
            raise _WrongType("string", value)
        value = value.strip(_SPACE)
        if not value:
            return None
        if len(value) > limit or (not value.isascii() and length_of(value) > limit):
            raise _Refused(
                "STRING_TOO_LONG",
                f"{label}: data value too large: {value} (max length={limit})",
                [name],
            )
        return value

    def email(value: Any) -> Any:
        value = text(value)
        if value is None:
            return None
        if _EMAIL.fullmatch(value) is None or value.index("@") > _MAX_LOCAL_PART:
            raise _Refused(
                "INVALID_EMAIL_ADDRESS", f"{label}: invalid email address: {value}", [name]
            )
        return value.lower()

    def picklist(value: Any) -> Any:
        value = text(value)
        if value is not None and item.restricted and value not in item.values:
            raise _Refused(
                "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
                f"{label}: bad value for restricted picklist field: {value}",
                [name],
            )
        return value

    def number(value: Any) -> Any:
        if value is None:
            return None
        if type(value) not in (int, float):
            raise _WrongType("double", value)
        if abs(value) >= 10 ** ((item.precision or 18) - item.scale):
            raise _Refused(
                "NUMBER_OUTSIDE_VALID_RANGE",
                f"{label}: value outside of valid range on numeric field: {value}",
                [name],
            )
        return float(round(value, item.scale))

    def boolean(value: Any) -> Any:
        if type(value) is not bool:
            raise _WrongType("boolean", value)
        return value

    def day(value: Any) -> Any:
        if value is None:
            return None
        try:
            return (
                date.fromisoformat(value).isoformat()
                if len(value) == 10
                else date.fromisoformat("")
            )
        except (TypeError, ValueError):
            raise _WrongType("date", value) from None

    def moment(value: Any) -> Any:
        if value is None:
            return None
        try:
            found = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise _WrongType("datetime", value) from None
        if found.tzinfo is None:
            raise _WrongType("datetime", value)
        return f"{found.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000+0000"

    def reference(value: Any) -> Any:
        if value is None or value == "":
            return None
        if type(value) is not str:
            raise _WrongType("reference", value)
        target = item.reference_to
        normal = normal_id(value, PREFIXES[target]) if target else None
        if normal is None and takes_queue:
            normal = normal_id(value, PREFIXES["Group"])
        if normal is None:
            raise _Refused("MALFORMED_ID", f"{label}: id value of incorrect type: {value}", [name])
        return normal

    kinds: dict[str, Convert] = {
        "email": email,
        "picklist": picklist,
        "double": number,
        "boolean": boolean,
        "date": day,
        "datetime": moment,
        "reference": reference,
    }
    return kinds.get(item.type, text)


def stored_value(table: Table, name: str, value: Any) -> Any:
    """A value as a field stores it, whoever may write the field.

    Raises BadValueError saying why it cannot be stored.
    """
    converter = table.converters.get(name)
    if converter is None:
        raise BadValueError(f"{table.sobject.name} has no such field")
    try:
        return converter(value)
    except _Refused as refusal:
        raise BadValueError(refusal.error["message"]) from None
    except _WrongType as wrong:
        raise BadValueError(wrong.message) from None


class Table:
    """The records of one object, and an index for each indexed field.

    Indexes are folded in the way in which the field compares.
    """

    def __init__(self, definition: SObject) -> None:
        self.rows: dict[str, Row] = {}
        self.bin: dict[str, Row] = {}
        self.serial = 0
        self.define(definition)
        self.indexes: dict[str, dict[str, dict[str, None]]] = {name: {} for name, _ in self._folds}

    def define(self, definition: SObject) -> None:
        """Take a changed field-level security; the fields stay the same."""
        self.sobject = definition
        # a queue owns Leads, and never Contacts [Object Reference: QueueSobject]
        self.converters = {
            name: _converter(item, takes_queue=(definition.name, name) == ("Lead", "OwnerId"))
            for name, item in definition.fields.items()
        }
        self.unique = [item for item in definition.fields.values() if item.unique]
        self.references = [
            item
            for item in definition.fields.values()
            if item.type == "reference" and item.updateable
        ]
        self.required = [item.name for item in definition.fields.values() if item.required]
        self.defaults = {
            item.name: item.default
            for item in definition.fields.values()
            if item.defaulted and item.default is not None
        }
        self._folds = [
            (item.name, item.fold)
            for item in definition.fields.values()
            if item.indexed and item.name != "Id"
        ]

    def new_id(self) -> str:
        self.serial += 1
        while (
            found := make_id(self.sobject.prefix, self.serial)
        ) in self.rows or found in self.bin:
            self.serial += 1
        return found

    def put(self, row: Row) -> Row | None:
        """Store a record in place of what has its Id; what was there is returned."""
        key = row["Id"]
        old = self.rows.get(key)
        for name, fold in self._folds:
            value = row.get(name)
            before = old.get(name) if old is not None else None
            if value == before:
                continue
            if before is not None:
                self._drop(name, fold(before), key)
            if value is not None:
                self.indexes[name].setdefault(fold(value), {})[key] = None
        self.rows[key] = row
        return old

    def remove(self, key: str) -> Row:
        row = self.rows.pop(key)
        for name, fold in self._folds:
            if row.get(name) is not None:
                self._drop(name, fold(row[name]), key)
        return row

    def _drop(self, name: str, value: str, key: str) -> None:
        holders = self.indexes[name][value]
        del holders[key]
        if not holders:
            del self.indexes[name][value]

    def holders(self, item: Field, value: str) -> Iterable[str]:
        """The Ids of the records that hold this value."""
        if item.name == "Id":
            return (value,) if value in self.rows else ()
        return self.indexes[item.name].get(item.fold(value), ())


@dataclass(frozen=True, slots=True)
class DuplicateRule:
    """A rule that finds duplicates by equal fields.

    All of `match_on` equal those of another record of one of `match_objects`, without regard to
    case.
    """

    name: str
    sobject: str
    match_on: tuple[str, ...]
    match_objects: tuple[str, ...]
    block: bool
    on: frozenset[str] = frozenset(("create", "update"))
    message: str = "Use one of these records?"


@dataclass(frozen=True, slots=True)
class Options:
    """What a request's headers ask of the rows that it holds."""

    allow_save: bool = False
    include_details: bool = False
    auto_assign: bool = True


@dataclass(slots=True)
class Scope:
    """One HTTP request: who writes, when, and what other requests in flight hold."""

    user: str
    stamp: str
    version: str = "62.0"
    locked: frozenset[str] = frozenset()  # Accounts that an earlier request in flight holds
    new_keys: frozenset[tuple[str, str, str]] = (
        frozenset()
    )  # keys without a record when the request arrived
    created: set[str] = field(default_factory=set)
    row_fault: Callable[[str], RowError | None] | None = None
    # what fails every row of a collection of records of an sObject
    collection_fault: Callable[[str, list[dict[str, Any]]], RowError | None] | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """An entry of the log of writes: what was stored, in the order in which it was."""

    seq: int
    sobject: str
    id: str
    key: str | None
    version: float | None
    fields: Mapping[str, Any]
    created: bool
    at: str
    by: str
    stored_at: float  # seconds since the epoch, by the clock of the machine


@dataclass(slots=True)
class Draft:
    """A row of a request with its values converted: its errors so far, and what to store."""

    values: Row
    errors: list[RowError]


class Org:
    """The tables, the log of writes and the rules."""

    def __init__(self, objects: Mapping[str, SObject], settings: Settings, user: str) -> None:
        self.settings = settings
        self.user = user
        self.tables = {name: Table(definition) for name, definition in objects.items()}
        self.hidden: set[str] = set()
        self.duplicate_rules: list[DuplicateRule] = []
        self.writes: list[Write] = []
        self.sequence = 0
        self.rows: Counter[str] = Counter()
        self.auto_assigned: Counter[str] = Counter()
        self.regressions = 0
        self._journal: list[tuple[Table, Row, Row | None, Mapping[str, Any]]] = []

    def secure(self) -> None:
        """Take over the settings' field-level security. Raises BadValueError naming the field."""
        names: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in self.tables}
        for position, entries in enumerate(
            (self.settings.hidden_fields, self.settings.read_only_fields)
        ):
            for entry in entries:
                table, _, name = entry.partition(".")
                if table not in names or not name:
                    raise BadValueError(f"{entry!r} is not Object.Field")
                names[table][position].append(name)
        definitions = {
            name: secured(self.tables[name].sobject, *lists) for name, lists in names.items()
        }
        for name, definition in definitions.items():
            self.tables[name].define(definition)

    # A request's writes are a journal, so that allOrNone can take them back.

    def savepoint(self) -> int:
        return len(self._journal)

    def rollback(self, savepoint: int) -> None:
        while len(self._journal) > savepoint:
            table, row, old, _ = self._journal.pop()
            if old is None:
                table.remove(row["Id"])
            else:
                table.put(old)

    def commit(self, scope: Scope) -> None:
        """Make the journal's writes part of the log."""
        stored_at = time.time()
        for table, row, old, fields in self._journal:
            self.sequence += 1
            self.rows["created" if old is None else "updated"] += 1
            if self.settings.write_log:
                self.writes.append(
                    Write(
                        self.sequence,
                        table.sobject.name,
                        row["Id"],
                        row.get("Nylas_Contact_Id__c"),
                        row.get("Nylas_Version__c"),
                        fields,
                        old is None,
                        scope.stamp,
                        scope.user,
                        stored_at,
                    )
                )
        self._journal.clear()

    def draft(self, table: Table, record: Mapping[str, Any], *, creates: bool | None) -> Draft:
        """Convert a row's values. `creates` is None where the key decides (upsert).

        Raises CallRefused for a value of a wrong JSON type, where the settings say so.
        """
        values: Row = {}
        errors: list[RowError] = []
        fields = table.sobject.fields
        converters = table.converters
        for name, value in record.items():
            if name == "attributes" or name == "Id":
                continue
            item = fields.get(name)
            if item is None or item.hidden:
                item = table.sobject.find(name)
                if item is None:
                    message = f"No such column '{name}' on sobject of type {table.sobject.name}"
                    errors.append(row_error("INVALID_FIELD", message))
                    continue
                if item.name == "Id":
                    continue
                name = item.name
            if item.read_only or not (
                item.updateable or (item.createable and creates is not False)
            ):
                errors.append(_not_writable(name))
                continue
            try:
                values[name] = converters[name](value)
            except _Refused as refusal:
                errors.append(refusal.error)
            except _WrongType as wrong:
                if self.settings.type_errors == "call":
                    raise CallRefused(400, "JSON_PARSER_ERROR", wrong.message) from None
                errors.append(row_error("INVALID_TYPE_ON_FIELD_IN_RECORD", wrong.message, [name]))
        return Draft(values, errors)

    def save(
        self, table: Table, draft: Draft, existing: Row | None, options: Options, scope: Scope
    ) -> tuple[Row | None, list[RowError]]:
        """Create or update a record by the org's rules: what was stored, or why not."""
        errors = self._assignment_refusal(table, draft.values) or self._refusals(
            table, draft, existing, options, scope
        )
        if errors:
            return None, errors
        values = draft.values
        if existing is None:
            row: Row = {"Id": table.new_id(), **table.defaults, "OwnerId": scope.user}
            row["CreatedById"] = scope.user
            row["CreatedDate"] = scope.stamp
        else:
            row = existing.copy()
        for name, value in values.items():
            if value is None:
                row.pop(name, None)
            else:
                row[name] = value
        if options.auto_assign:
            self.auto_assigned[table.sobject.name] += 1
            if table.sobject.name == "Lead" and self.settings.assignment_owner:
                row["OwnerId"] = self.settings.assignment_owner
        self.store(table, row, values, scope)
        return row, []

    def store(self, table: Table, row: Row, changed: Mapping[str, Any], scope: Scope) -> None:
        """Store a record as it is, stamped and logged."""
        row["LastModifiedById"] = scope.user
        row["LastModifiedDate"] = row["SystemModstamp"] = scope.stamp
        set_name(table, row)
        show_on_account(self, table, row)
        old = table.put(row)
        if old is None:
            scope.created.add(row["Id"])
        elif _is_older(row, old):
            self.regressions += 1
        self._journal.append((table, row, old, changed))

    def delete(self, table: Table, key: str, scope: Scope, merged_into: str | None = None) -> None:
        """Move a record to the recycle bin, where its unique values bind nobody.

        `merged_into` is the Id of the record that a merge kept in its place.
        """
        row = table.remove(key)
        table.bin[key] = {
            **row,
            "IsDeleted": True,
            "SystemModstamp": scope.stamp,
            "LastModifiedDate": scope.stamp,
        }
        if merged_into is not None:
            table.bin[key]["MasterRecordId"] = merged_into

    def undelete(self, table: Table, key: str, scope: Scope) -> Row:
        """Bring a record back from the recycle bin. The trace of its merge goes.

        Raises BadValueError where another record holds one of its unique values by now.
        """
        row = {name: value for name, value in table.bin[key].items() if name != "MasterRecordId"}
        for item in table.unique:
            value = row.get(item.name)
            if value is not None and (holders := list(table.holders(item, value))):
                raise BadValueError(duplicate_value(item.name, holders[0])["message"])
        del table.bin[key]
        row |= {
            "IsDeleted": False,
            "SystemModstamp": scope.stamp,
            "LastModifiedDate": scope.stamp,
        }
        table.put(row)
        return row

    def _refusals(
        self, table: Table, draft: Draft, existing: Row | None, options: Options, scope: Scope
    ) -> list[RowError]:
        if draft.errors:
            return draft.errors
        values = draft.values
        if existing is not None and existing.get("IsConverted"):
            return [row_error("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")]
        if scope.locked:
            for account in (
                values.get("AccountId"),
                existing.get("AccountId") if existing is not None else None,
            ):
                if account in scope.locked:
                    return [lock_error(account)]
        if existing is not None and not self.may_edit(existing, scope.user):
            message = "insufficient access rights on object id"
            return [row_error("INSUFFICIENT_ACCESS_OR_READONLY", message)]
        if (
            scope.row_fault is not None
            and (fault := scope.row_fault(table.sobject.name)) is not None
        ):
            return [fault]
        if table.sobject.name == "Contact" and (
            error := person_contact_refusal(self, values, existing)
        ):
            return [error]
        for item in table.references:
            target = values.get(item.name)
            if (
                target is not None
                and (error := self._cross_reference(table.sobject.name, item, target)) is not None
            ):
                return [error]
        if existing is None:
            missing = [name for name in table.required if values.get(name) is None]
        else:
            missing = [
                name
                for name, value in values.items()
                if value is None and not table.sobject.fields[name].nillable
            ]
        if missing:
            return [
                row_error(
                    "REQUIRED_FIELD_MISSING",
                    f"Required fields are missing: [{', '.join(missing)}]",
                    missing,
                )
            ]
        if (
            existing is not None
            and self.settings.version_rule
            and RESTORE_PERMISSION not in self.settings.custom_permissions
            and _is_older({**existing, **values}, existing)
        ):
            return [
                row_error(
                    "FIELD_CUSTOM_VALIDATION_EXCEPTION", VERSION_RULE_MESSAGE, ["Nylas_Version__c"]
                )
            ]
        if (
            self.duplicate_rules
            and (error := self._duplicate(table, values, existing, options, scope)) is not None
        ):
            return [error]
        own = existing["Id"] if existing is not None else None
        for item in table.unique:
            value = values.get(item.name)
            if value is None:
                continue
            for holder in table.holders(item, value):
                if holder != own:
                    return [duplicate_value(item.name, holder)]
        return []

    def _assignment_refusal(self, table: Table, values: Row) -> list[RowError]:
        """Why a permission set may not be assigned; its user has it once at most."""
        if table.sobject.name != "PermissionSetAssignment":
            return []
        if not self.settings.assigns_permission_sets:
            message = "insufficient access rights on cross-reference id"
            return [row_error("INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", message)]
        if any(values.items() <= row.items() for row in table.rows.values()):
            return [row_error("DUPLICATE_VALUE", "Duplicate PermissionSetAssignment.")]
        return []

    def may_edit(self, row: Row, user: str) -> bool:
        """Whether sharing lets the user of the client edit a record."""
        owners = (user, self.settings.shared_owner)
        return not self.settings.edits_own_records_only or row.get("OwnerId") in owners

    def refresh_record_access(self, user: str) -> None:
        """Fills UserRecordAccess, which an org works out for the records that a query names."""
        access = self.tables["UserRecordAccess"]
        for name in ("Contact", "Lead"):
            for record_id, row in self.tables[name].rows.items():
                access.put(
                    {
                        "Id": PREFIXES["UserRecordAccess"] + record_id[3:],
                        "UserId": user,
                        "RecordId": record_id,
                        "HasEditAccess": self.may_edit(row, user),
                    }
                )

    def _owner_refusal(self, sobject: str, owner: str) -> RowError | None:
        """Why a user or queue cannot own a record of the object.

        The codes are those of messages in public issue trackers.
        """
        if owner.startswith(PREFIXES["Group"]):
            served = (
                row.get("SobjectType")
                for row in self.tables["QueueSobject"].rows.values()
                if row.get("QueueId") == owner
            )
            if sobject in served:
                return None
            message = "Queue not associated with this SObject type"
            return row_error("INVALID_OPERATION", message)
        user = self.tables["User"].rows.get(owner)
        if user is None:
            return row_error("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
        if not user.get("IsActive", True):
            message = (
                f"operation performed with inactive user [{owner[:15]}] as owner of "
                f"{sobject.lower()}"
            )
            return row_error("INACTIVE_OWNER_OR_USER", message)
        if user.get("UserType", "Standard") != "Standard":
            message = "Operation not valid for this user type"
            return row_error("OP_WITH_INVALID_USER_TYPE_EXCEPTION", message)
        return None

    def _cross_reference(self, sobject: str, item: Field, target: str) -> RowError | None:
        if item.name == "OwnerId":
            return self._owner_refusal(sobject, target)
        other = self.tables[item.reference_to or ""]
        if target in self.hidden:
            message = f"insufficient access rights on cross-reference id: {target[:15]}"
            return row_error("INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", message)
        if target in other.rows:
            return None
        if target in other.bin:
            return row_error("ENTITY_IS_DELETED", "entity is deleted")
        return row_error("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")

    def _duplicate(
        self, table: Table, values: Row, existing: Row | None, options: Options, scope: Scope
    ) -> RowError | None:
        action = "create" if existing is None else "update"
        merged = {**existing, **values} if existing is not None else values
        for rule in self.duplicate_rules:
            if (
                rule.sobject != table.sobject.name
                or action not in rule.on
                or (options.allow_save and not rule.block)
            ):
                continue
            found = [
                (other, row)
                for other in rule.match_objects
                for row in self._equal(self.tables[other], rule, merged)
                if existing is None or row["Id"] != existing["Id"]
            ]
            if found:
                return {
                    **row_error("DUPLICATES_DETECTED", rule.message),
                    "duplicateResult": _duplicate_result(rule, found, options, scope),
                }
        return None

    def _equal(self, table: Table, rule: DuplicateRule, values: Row) -> list[Row]:
        wanted = {name: values.get(name) for name in rule.match_on}
        if not all(wanted.values()):
            return []
        ids: Iterable[str] = table.rows
        for name, value in wanted.items():
            item = table.sobject.fields.get(name)
            if item is None:
                return []
            if item.indexed and isinstance(value, str):
                ids = table.holders(item, value)
                break
        rows = (table.rows[key] for key in list(ids) if key not in self.hidden)
        return [
            row
            for row in rows
            if all(_same(row.get(name), value) for name, value in wanted.items())
        ]


def set_name(table: Table, row: Row) -> None:
    """Compute the read-only Name of a person."""
    if table.sobject.name in ("Contact", "Lead"):
        first = row.get("FirstName")
        row["Name"] = f"{first} {row['LastName']}" if first else row["LastName"]


def lock_error(record: str) -> RowError:
    return row_error(
        "UNABLE_TO_LOCK_ROW",
        f"unable to obtain exclusive access to this record or 1 records: {record[:15]}",
    )


def duplicate_value(name: str, holder: str) -> RowError:
    return row_error(
        "DUPLICATE_VALUE",
        f"duplicate value found: {name} duplicates value on record with id: {holder[:15]}",
    )


def _not_writable(name: str) -> RowError:
    message = (
        f"Unable to create/update fields: {name}. Please check the security settings of this "
        "field and verify that it "
        "is read/write for your profile or permission set."
    )
    return row_error("INVALID_FIELD_FOR_INSERT_UPDATE", message, [name])


def _is_older(row: Row, prior: Row) -> bool:
    """The validation rule of the product: same key or none, and a lower version than before.

    As the formula language has it: a comparison with a blank number is not true. A blank text field
    does not equal another reliably, so that the rule asks ISBLANK of both.
    """
    version, before = row.get("Nylas_Version__c"), prior.get("Nylas_Version__c")
    key, key_before = row.get("Nylas_Contact_Id__c"), prior.get("Nylas_Contact_Id__c")
    same_key = (not key and not key_before) or key == key_before
    return version is not None and before is not None and version < before and same_key


def _same(left: Any, right: Any) -> bool:
    return (
        left.lower() == right.lower()
        if isinstance(left, str) and isinstance(right, str)
        else left == right
    )


def _duplicate_result(
    rule: DuplicateRule, found: list[tuple[str, Row]], options: Options, scope: Scope
) -> dict[str, Any]:
    results = []
    for entity in dict.fromkeys(entity for entity, _ in found):
        records = []
        for other, row in found:
            if other == entity:
                url = f"/services/data/v{scope.version}/sobjects/{entity}/{row['Id']}"
                shown = row if options.include_details else {"Id": row["Id"]}
                records.append(
                    {
                        "additionalInformation": [],
                        "fieldDiffs": [],
                        "matchConfidence": 100.0,
                        "record": {"attributes": {"type": entity, "url": url}, **shown},
                    }
                )
        results.append(
            {
                "entityType": entity,
                "errors": [],
                "matchEngine": "ExactMatchEngine",
                "matchRecords": records,
                "rule": f"{rule.name}_{entity}_MR",
                "size": len(records),
                "success": True,
            }
        )
    return {
        "allowSave": not rule.block,
        "duplicateRule": rule.name,
        "duplicateRuleEntityType": rule.sobject,
        "errorMessage": rule.message,
        "matchResults": results,
    }
