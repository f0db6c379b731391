"""A simulated org with all that it counts, and how it is read from a world document."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from .faults import Faults
from .field_definitions import add_field_definitions
from .person_accounts import show_on_account
from .rest import Services
from .schema import (
    altered,
    make_id,
    normal_id,
    record_type_field,
    sobject,
    standard,
    with_person_accounts,
)
from .settings import BadValueError, Settings, apply_settings
from .soql import stamp
from .store import DuplicateRule, Org, Row, Scope, Table, set_name, stored_value

INTEGRATION_USER: Final = make_id("005", 1)
HUMAN_USER: Final = make_id("005", 2)
ORG_ID: Final = make_id("00D", 1)
_KEYS: Final = (
    "org_id",
    "settings",
    "auth",
    "user",
    "fields",
    "record_types",
    "person_accounts",
    "duplicate_rules",
    "permission_sets",
    "automation",
    "users",
    "queues",
    "accounts",
    "contacts",
    "leads",
)
_LISTS: Final = {"accounts": "Account", "contacts": "Contact", "leads": "Lead"}
# The keys of `automation`: objects of the REST API, and of the Tooling API with the prefix of IDs.
_AUTOMATION_TABLES: Final = {"flows": "FlowDefinitionView", "assignment_rules": "AssignmentRule"}
_AUTOMATION_TOOLING: Final = {
    "triggers": ("01q", "ApexTrigger"),
    "workflow_rules": ("01Q", "WorkflowRule"),
}
# Records that can be merged, and the references of other records that go over to the master. A
# converted Lead keeps its ConvertedContactId: no page says that a merge moves it.
_MERGED_FIELDS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "Account": (("AccountId", "Contact"), ("ParentId", "Account")),
    "Contact": (("ReportsToId", "Contact"),),
    "Lead": (),
}
_MOST_LOSERS: Final = 2  # "up to three records" in one merge, the master among them
_VERSION_RULE: Final = (
    "AND(NOT(ISNEW()), NOT($Permission.Nylas_Restore_Older_Version), "
    "OR(Nylas_Contact_Id__c = PRIORVALUE(Nylas_Contact_Id__c), "
    "AND(ISBLANK(Nylas_Contact_Id__c), ISBLANK(PRIORVALUE(Nylas_Contact_Id__c)))), "
    "Nylas_Version__c < PRIORVALUE(Nylas_Version__c))"
)


@dataclass(slots=True)
class Auth:
    """Who may log in. What is empty is not checked."""

    client_id: str = ""
    client_secret: str = ""
    username: str = ""
    public_key: str = ""  # PEM, RS256
    audiences: list[str] = field(
        default_factory=lambda: ["https://login.salesforce.com", "https://test.salesforce.com"]
    )
    refresh_token: str = ""
    rotate_refresh_token: bool = False  # each login by one voids it and issues another
    void_refresh_tokens: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Traffic:
    """What is under way, and what it holds."""

    in_flight: int = 0
    most_in_flight: int = 0
    long_in_flight: int = 0
    accounts: Counter[str] = field(default_factory=Counter)
    people: Counter[str] = field(default_factory=Counter)
    overlaps: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Token:
    issued: float
    calls: int = 0


class World:
    """The org and its surroundings.

    `replace` turns it into another org under a running server.
    """

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        """Raises BadValueError naming what the document gets wrong."""
        document = document or {}
        _known("world", document, _KEYS)
        self.org_id = _org_id(document.get("org_id", ORG_ID))
        self.settings = Settings()
        apply_settings(self.settings, _object("settings", document.get("settings", {})))
        self.auth = _auth(_object("auth", document.get("auth", {})))
        self.faults = Faults()
        self.traffic = Traffic()
        self.calls: Counter[str] = Counter()
        self.tokens: dict[str, Token] = {}
        self.tokens_issued = 0
        self.api_calls = 0
        self.gzipped_requests = 0
        self.bytes_received = 0
        self.clock_offset = 0.0
        self.frozen_at: float | None = None
        objects = standard()
        person_accounts = document.get("person_accounts", False)
        if not isinstance(person_accounts, bool):
            raise BadValueError(
                f"person_accounts: true or false is expected, not {person_accounts!r}"
            )
        if person_accounts:
            objects = with_person_accounts(objects)
        types = _object("record_types", document.get("record_types", {}))
        for name, kinds in types.items():
            if (
                name not in objects
                or not isinstance(kinds, list)
                or not all(_named(kind) for kind in kinds)
            ):
                raise BadValueError(
                    f"record_types.{name}: a list of objects with a name is expected for a known "
                    "object"
                )
            more = [record_type_field()] if name == "Account" else []
            objects[name] = sobject(name, [*objects[name].fields.values(), *more], kinds)
        for name, changes in _object("fields", document.get("fields", {})).items():
            if name not in objects:
                raise BadValueError(f"fields.{name}: no such object; known: {', '.join(objects)}")
            objects[name] = altered(objects[name], _object(f"fields.{name}", changes))
        self.org = Org(objects, self.settings, INTEGRATION_USER)
        try:
            self.org.secure()
        except BadValueError as error:
            raise BadValueError(f"settings: {error}") from None
        self.services = Services(self.org, limits=self.limits)
        self.services.validation_rules = [
            {
                "attributes": {"type": "ValidationRule"},
                "Id": make_id("03d", number),
                "ValidationName": "Nylas_Version_Never_Goes_Back",
                "Active": True,
                "EntityDefinition": {"QualifiedApiName": name},
                "Metadata": {"active": True, "errorConditionFormula": _VERSION_RULE},
            }
            for number, name in enumerate(("Contact", "Lead"), 1)
        ]
        self._set_up(_object("user", document.get("user", {})))
        add_field_definitions(self.org)
        for name, kinds in types.items():
            for number, kind in enumerate(kinds, 1):
                self._add_record_type(name, number, str(kind["name"]))
        for rule in _list("duplicate_rules", document.get("duplicate_rules", [])):
            self._add_rule(rule)
        sets = _object("permission_sets", document.get("permission_sets", {}))
        for name, addresses in sets.items():
            self.assign(name, _list(f"permission_sets.{name}", addresses))
        self._add_automation(_object("automation", document.get("automation", {})))
        self._add_users(_list("users", document.get("users", [])))
        self._add_queues(_list("queues", document.get("queues", [])))
        for key, name in _LISTS.items():
            for position, record in enumerate(_list(key, document.get(key, []))):
                self.add(name, record, f"{key}[{position}]")
        shared = {"Account": "Edit", "Contact": "ControlledByParent", "Lead": "ReadEditTransfer"}
        organization = self.org.tables["Organization"].rows[self.org_id]
        organization |= {
            f"Default{name}Access": "None"
            if self.org.hidden
            else "Read"
            if self.settings.edits_own_records_only
            else how
            for name, how in shared.items()
        }
        access = self.org.tables["UserPermissionAccess"]
        access.put(
            {
                "Id": make_id("0PX", 1),
                "PermissionsViewAllData": not self.org.hidden,
                "PermissionsModifyAllData": False,
                "PermissionsViewSetup": True,
            }
        )

    def replace(self, document: Mapping[str, Any]) -> None:
        """Become the world of this document, counters and faults included.

        Raises BadValueError and stays as it is.
        """
        self.__dict__ = World(document).__dict__
        self.services.limits = self.limits

    def now(self) -> datetime:
        """The org's clock, in whole seconds as its time stamps have them."""
        moment = self.frozen_at if self.frozen_at is not None else time.time() + self.clock_offset
        return datetime.fromtimestamp(int(moment), UTC)

    def scope(self, user: str = INTEGRATION_USER) -> Scope:
        return Scope(user, stamp(self.now()))

    def limits(self) -> dict[str, Any]:
        most = self.settings.daily_limit
        return {
            "ConcurrentAsyncGetReportInstances": {"Max": 200, "Remaining": 200},
            "DailyApiRequests": {"Max": most, "Remaining": max(0, most - self.used_today)},
            "DataStorageMB": {"Max": 1024, "Remaining": 1000},
        }

    def limit_info(self) -> dict[str, str]:
        """The header of an answer, in the form that the settings give it."""
        used = self.used_today
        if self.settings.limit_info_noise:
            used -= Random(self.settings.seed + used).randint(0, self.settings.limit_info_noise)
        text = self.settings.limit_info.format(used=max(0, used), max=self.settings.daily_limit)
        return {"Sforce-Limit-Info": text} if text else {}

    @property
    def used_today(self) -> int:
        return self.settings.daily_used + self.api_calls

    def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Change settings while running. Raises BadValueError and changes nothing."""
        before = {
            name: getattr(self.settings, name) for name in changes if hasattr(self.settings, name)
        }
        apply_settings(self.settings, changes)
        try:
            self.org.secure()
        except BadValueError as error:
            apply_settings(self.settings, before)
            raise BadValueError(f"settings: {error}") from None

    def add(self, name: str, record: Any, where: str) -> Row:
        """Store a record as it already stands in the org, past every rule but the unique key.

        Raises BadValueError.
        """
        table = self.org.tables[name]
        values = dict(_object(where, record))
        hidden = values.pop("_hidden", False)
        given = values.pop("Id", None)
        key = table.new_id() if given is None else normal_id(str(given), table.sobject.prefix)
        if key is None:
            raise BadValueError(f"{where}.Id: {given!r} is not an Id of {name}")
        if key in table.rows or key in table.bin:
            raise BadValueError(f"{where}.Id: {given!r} is there twice")
        now = stamp(self.now())
        row: Row = {"Id": key, **table.defaults, "OwnerId": HUMAN_USER, "CreatedById": HUMAN_USER}
        row |= {
            "LastModifiedById": HUMAN_USER,
            "CreatedDate": now,
            "LastModifiedDate": now,
            "SystemModstamp": now,
        }
        for field_name, value in values.items():
            stored = self._stored(table, field_name, value, f"{where}.{field_name}")
            if stored is None:
                row.pop(field_name, None)
            else:
                row[field_name] = stored
        for item in () if row.get("IsDeleted") else table.unique:
            if item.name in row and (holders := list(table.holders(item, row[item.name]))):
                raise BadValueError(
                    f"{where}.{item.name}: {row[item.name]!r} is held by {holders[0]} already"
                )
        missing = [required for required in table.required if required not in row]
        if missing:
            raise BadValueError(f"{where}: {', '.join(missing)} is missing")
        set_name(table, row)
        show_on_account(self.org, table, row)
        table.put(row)
        if row.get("IsDeleted"):
            table.bin[key] = table.remove(key)
        if hidden:
            self.org.hidden.add(key)
        return row

    def _stored(self, table: Table, name: str, value: Any, where: str) -> Any:
        item = table.sobject.fields.get(name)
        if item is None:
            raise BadValueError(f"{where}: {table.sobject.name} has no such field")
        if item.reference_to == "User" and value in ("integration", "human"):
            return INTEGRATION_USER if value == "integration" else HUMAN_USER
        if item.type == "datetime":
            try:
                return stamp(datetime.fromisoformat(value).astimezone(UTC))
            except (TypeError, ValueError):
                raise BadValueError(
                    f"{where}: an ISO date and time is expected, not {value!r}"
                ) from None
        try:
            return stored_value(table, name, value)
        except ValueError as error:
            raise BadValueError(f"{where}: {error}") from None

    def edit(self, name: str, key: str, values: Mapping[str, Any], user: str = HUMAN_USER) -> Row:
        """Change a record as somebody else in the org does, past the version rule.

        Raises BadValueError.
        """
        table, row = self._found(name, key)
        changed = {
            field: self._stored(table, field, value, field)
            for field, value in values.items()
            if field != "Id"
        }
        merged = {field: value for field, value in {**row, **changed}.items() if value is not None}
        scope = self.scope(user)
        self.org.store(table, merged, changed, scope)
        self.org.commit(scope)
        return merged

    def delete(self, name: str, key: str) -> None:
        """Move a record to the recycle bin. Raises BadValueError."""
        table, row = self._found(name, key)
        self.org.delete(table, row["Id"], self.scope(HUMAN_USER))

    def undelete(self, name: str, key: str) -> Row:
        """Bring a record back from the recycle bin, as a user would. Raises BadValueError."""
        table = self._table(name)
        normal = normal_id(key, table.sobject.prefix) or ""
        if normal not in table.bin:
            raise BadValueError(f"there is no deleted {name} {key!r}")
        return self.org.undelete(table, normal, self.scope(HUMAN_USER))

    def empty_recycle_bin(self) -> None:
        """Purge what is deleted, as the org does 15 days after the deletion."""
        for table in self.org.tables.values():
            table.bin.clear()

    def merge(
        self,
        name: str,
        master_id: str,
        loser_ids: Sequence[str],
        values: Mapping[str, Any] | None = None,
    ) -> Row:
        """Merge one or two records into another, as a user would. What it returns is the master.

        The master keeps its values, except for `values`, which the user took over from a loser. The
        losers' unique values are free by then. Raises BadValueError.
        """
        if name not in _MERGED_FIELDS:
            raise BadValueError(f"{name}: only {', '.join(_MERGED_FIELDS)} can be merged")
        table, master = self._found(name, master_id)
        losers = [self._found(name, key)[1] for key in loser_ids]
        ids = {row["Id"] for row in losers}
        if not 1 <= len(losers) <= _MOST_LOSERS or len(ids) < len(losers) or master["Id"] in ids:
            raise BadValueError(
                f"losers: one to {_MOST_LOSERS} other records of {name}, each once, are expected"
            )
        states = {row.get("IsConverted", False) for row in (master, *losers)}
        if len(states) > 1:
            raise BadValueError("a converted Lead and an open one cannot be merged")
        changed = {
            field: self._stored(table, field, value, field)
            for field, value in (values or {}).items()
        }
        scope = self.scope(HUMAN_USER)
        for row in losers:
            self.org.delete(table, row["Id"], scope, master["Id"])
        for reference, children in _MERGED_FIELDS[name]:
            self._reparent(children, reference, ids, master["Id"], scope)
        return self.edit(name, master["Id"], changed)

    def _reparent(
        self, name: str, reference: str, losers: set[str], master: str, scope: Scope
    ) -> None:
        """Give the living children of merged records to the record that was kept."""
        table = self.org.tables[name]
        for row in [row for row in table.rows.values() if row.get(reference) in losers]:
            changed = {reference: master}
            self.org.store(table, {**row, **changed}, changed, scope)

    def convert(self, lead: str, contact: str | None) -> Row:
        """Convert a Lead as a user would, into a Contact that is there or a new one.

        What it returns is the Contact.

        Only empty fields of a Contact that is there are filled; the key moves along where
        `lead_mapping` is set. Raises BadValueError.
        """
        leads, row = self._found("Lead", lead)
        if row.get("IsConverted"):
            raise BadValueError(f"{lead} is converted already")
        carried = [
            "FirstName",
            "LastName",
            "Title",
            "Email",
            "Phone",
            "MobilePhone",
            "Fax",
            "LeadSource",
        ]
        if self.settings.lead_mapping:
            carried += [
                "Nylas_Contact_Id__c",
                "Nylas_Version__c",
                "Nylas_Field_Hashes__c",
                "Nylas_Email_2__c",
                "Nylas_Email_3__c",
            ]
        values = {name: row[name] for name in carried if name in row}
        if contact is None:
            # without a Company, which only Person Accounts allow, it becomes a Person Account
            person = {} if "Company" in row else {"IsPersonAccount": True}
            account = self.add(
                "Account", {"Name": row.get("Company", row["Name"]), **person}, "account"
            )
            link = {"AccountId": account["Id"], **person}
            found = self.add("Contact", {**values, **link}, "contact")
        else:
            _, before = self._found("Contact", contact)
            blank = {name: value for name, value in values.items() if before.get(name) is None}
            found = self.edit("Contact", contact, blank)
        scope = self.scope(HUMAN_USER)
        changes = {
            "IsConverted": True,
            "Status": "Closed - Converted",
            "ConvertedContactId": found["Id"],
            "ConvertedDate": f"{self.now():%Y-%m-%d}",
        }
        if "AccountId" in found:
            changes["ConvertedAccountId"] = found["AccountId"]
        self.org.store(leads, {**row, **changes}, changes, scope)
        self.org.commit(scope)
        return found

    def _table(self, name: str) -> Table:
        table = self.org.tables.get(name)
        if table is None:
            raise BadValueError(f"{name!r} is not one of {', '.join(self.org.tables)}")
        return table

    def _found(self, name: str, key: str) -> tuple[Table, Row]:
        table = self._table(name)
        row = table.rows.get(normal_id(key, table.sobject.prefix) or "")
        if row is None:
            raise BadValueError(f"there is no {name} {key!r}")
        return table, row

    def _set_up(self, user: Mapping[str, Any]) -> None:
        username = user.get("Username") or self.auth.username or "integration@example.com"
        people = (
            (
                INTEGRATION_USER,
                {
                    "Username": username,
                    "LastName": "Integration",
                    "Email": "integration@example.com",
                }
                | dict(user),
            ),
            (
                HUMAN_USER,
                {
                    "Username": "sales@example.com",
                    "LastName": "Sales",
                    "Email": "sales@example.com",
                },
            ),
        )
        table = self.org.tables["User"]
        for key, values in people:
            row: Row = {
                "Id": key,
                "IsActive": True,
                "UserType": "Standard",
                "CreatedById": HUMAN_USER,
                "LastModifiedById": HUMAN_USER,
            }
            row |= {
                name: stamp(self.now())
                for name in ("CreatedDate", "LastModifiedDate", "SystemModstamp")
            }
            for name, value in values.items():
                row[name] = self._stored(table, name, value, f"user.{name}")
            row["Name"] = row["LastName"]
            table.put(row)
        organization = {
            "Id": self.org_id,
            "Name": "Simulated",
            "OrganizationType": "Developer Edition",
            "IsSandbox": False,
        }
        self.org.tables["Organization"].put(organization)

    def assign(self, permission_set: str, addresses: Sequence[Any]) -> None:
        """Give a permission set, which is made if need be, to users with these addresses.

        They are made too. An address in a list of its own is that of an inactive user.
        """
        sets = self.org.tables["PermissionSet"]
        assignments = self.org.tables["PermissionSetAssignment"]
        made = next((row for row in sets.rows.values() if row["Name"] == permission_set), None)
        if made is None:
            made = {"Id": sets.new_id(), "Name": permission_set, "Label": permission_set}
            sets.put(made)
        for entry in addresses:
            active = not isinstance(entry, list)
            (address,) = (entry,) if active else entry
            users = self.org.tables["User"]
            user: Row = {"Id": users.new_id(), "IsActive": active, "LastName": address}
            user |= {"Name": address, "Username": address, "Email": address}
            users.put(user)
            given = {"Id": assignments.new_id(), "AssigneeId": user["Id"], "IsActive": True}
            assignments.put(given | {"PermissionSetId": made["Id"]})

    def unassign(self, permission_set: str, address: str) -> None:
        """Take a permission set from the user of an address."""
        sets, users = self.org.tables["PermissionSet"].rows, self.org.tables["User"].rows
        rows = self.org.tables["PermissionSetAssignment"].rows
        for key, row in list(rows.items()):
            named = sets[row["PermissionSetId"]]["Name"] == permission_set
            if named and users[row["AssigneeId"]]["Email"] == address:
                del rows[key]

    def _add_users(self, listed: Sequence[Any]) -> None:
        table = self.org.tables["User"]
        for position, given in enumerate(listed):
            where = f"users[{position}]"
            row: Row = {"IsActive": True, "UserType": "Standard", "LastName": "User"}
            row |= dict.fromkeys(("CreatedDate", "SystemModstamp"), stamp(self.now()))
            for name, value in _object(where, given).items():
                row[name] = self._stored(table, name, value, f"{where}.{name}")
            table.put({"Id": row.pop("Id", None) or make_id("005", 100 + position), **row})

    def _add_queues(self, listed: Sequence[Any]) -> None:
        groups, served = self.org.tables["Group"], self.org.tables["QueueSobject"]
        for position, given in enumerate(listed):
            where = f"queues[{position}]"
            queue = _object(where, given)
            _known(where, queue, ("Id", "Name", "sobjects"))
            key = normal_id(str(queue.get("Id")), "00G")
            if key is None:
                raise BadValueError(f"{where}.Id: {queue.get('Id')!r} is not an Id of Group")
            groups.put({"Id": key, "Name": str(queue.get("Name", "Queue")), "Type": "Queue"})
            for name in _list(f"{where}.sobjects", queue.get("sobjects", [])):
                served.put({"Id": served.new_id(), "QueueId": key, "SobjectType": str(name)})

    def _add_automation(self, document: Mapping[str, Any]) -> None:
        """The set-up of flows, triggers and rules: it is read only, and nothing of it runs."""
        _known("automation", document, (*_AUTOMATION_TABLES, *_AUTOMATION_TOOLING))
        for key, rows in document.items():
            where = f"automation.{key}"
            listed = [_object(where, row) for row in _list(where, rows)]
            if key in _AUTOMATION_TOOLING:
                prefix, name = _AUTOMATION_TOOLING[key]
                numbered = [
                    {"Id": make_id(prefix, number), **row} for number, row in enumerate(listed, 1)
                ]
                self.services.tooling.add(name, numbered, where)
                continue
            table = self.org.tables[_AUTOMATION_TABLES[key]]
            for position, row in enumerate(listed):
                stored = {
                    name: self._stored(table, name, value, f"{where}[{position}].{name}")
                    for name, value in row.items()
                }
                table.put({"Id": table.new_id(), **stored})

    def _add_record_type(self, sobject: str, number: int, name: str) -> None:
        """Stores a record type under the ID that the describe gives it."""
        self.org.tables["RecordType"].put(
            {
                "Id": make_id("012", number),
                "Name": name,
                "DeveloperName": name.replace(" ", "_"),
                "SobjectType": sobject,
            }
        )

    def _add_rule(self, document: Any) -> None:
        rule = _object("duplicate_rules", document)
        where = f"duplicate_rules.{rule.get('name', '?')}"
        _known(
            where, rule, ("name", "sobject", "match_on", "match_objects", "action", "on", "message")
        )
        name = str(rule.get("sobject"))
        objects = rule.get("match_objects", [name])
        action, on = rule.get("action"), rule.get("on", ["create", "update"])
        match_on = rule.get("match_on", ["Email"])
        if (
            name not in _LISTS.values()
            or not isinstance(objects, list)
            or not set(objects) <= set(_LISTS.values())
        ):
            raise BadValueError(
                f"{where}: sobject and match_objects are of {', '.join(_LISTS.values())}"
            )
        if action not in ("Alert", "Block"):
            raise BadValueError(f"{where}.action: 'Alert' or 'Block' is expected, not {action!r}")
        if not isinstance(on, list) or not set(on) <= {"create", "update"}:
            raise BadValueError(f"{where}.on: a list of create and update is expected, not {on!r}")
        fields = self.org.tables[name].sobject.fields
        if not isinstance(match_on, list) or not match_on or not set(match_on) <= fields.keys():
            raise BadValueError(
                f"{where}.match_on: a list of fields of {name} is expected, not {match_on!r}"
            )
        made = DuplicateRule(
            str(rule.get("name", f"{name}_Rule")),
            name,
            tuple(match_on),
            tuple(objects),
            action == "Block",
            frozenset(on),
            str(rule.get("message", "Use one of these records?")),
        )
        self.org.duplicate_rules.append(made)
        table = self.org.tables["DuplicateRule"]
        row: Row = {"Id": table.new_id(), "DeveloperName": made.name, "MasterLabel": made.name}
        table.put(row | {"SobjectType": name, "IsActive": True})


def _org_id(value: Any) -> str:
    if not isinstance(value, str) or len(value) != len(ORG_ID) or not value.startswith("00D"):
        raise BadValueError(
            f"org_id: 18 characters that begin with 00D are expected, not {value!r}"
        )
    return value


def _auth(document: Mapping[str, Any]) -> Auth:
    auth = Auth()
    for name, value in document.items():
        if name == "audiences":
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise BadValueError(f"auth.audiences: a list of strings is expected, not {value!r}")
            auth.audiences = list(value)
        elif name == "rotate_refresh_token":
            if not isinstance(value, bool):
                raise BadValueError(f"auth.{name}: true or false is expected")
            auth.rotate_refresh_token = value
        elif name in ("client_id", "client_secret", "username", "public_key", "refresh_token"):
            if not isinstance(value, str):
                raise BadValueError(f"auth.{name}: a string is expected")
            setattr(auth, name, value)
        else:
            raise BadValueError(f"auth.{name}: no such option")
    return auth


def _named(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str)


def _known(where: str, document: Any, keys: tuple[str, ...]) -> None:
    unknown = _object(where, document).keys() - set(keys)
    if unknown:
        raise BadValueError(f"{where}.{min(unknown)}: no such key; known: {', '.join(keys)}")


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadValueError(f"{where}: an object is expected, not {value!r}")
    return value


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadValueError(f"{where}: a list is expected, not {value!r}")
    return value
