"""What can be set of the simulated org, and how its answers are disturbed by load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final


class BadValueError(ValueError):
    """A world document or a request to the control plane is wrong; the text names the value."""


@dataclass(slots=True)
class Settings:
    """Each name is a key of `settings` in a world, and of `POST /_sim/settings`."""

    latency_ms_call: float = 0.0  # half before the work is done, half after
    latency_ms_row: float = 0.0  # for each row written, before it is
    latency_jitter: float = 0.0  # share of the latency that varies, 0 to 1, drawn with `seed`
    seed: int = 0
    page_size: int = 2_000  # rows of a query answer before nextRecordsUrl
    bulk_api: bool = True  # whether query jobs may be created
    bulk_polls: int = 1  # questions about a query job before it is complete
    daily_limit: int = 100_000
    daily_used: int = 0  # calls already used today by others
    limit_info: str = "api-usage={used}/{max}"  # the header's form; "" leaves it out
    limit_info_noise: int = 0  # up to so many calls less than used, as the real header jumps
    version_rule: bool = True  # the validation rule against older versions
    custom_permissions: list[str] = field(default_factory=list)  # of the user that is logged in
    # whether the user that is logged in may assign permission sets
    assigns_permission_sets: bool = False
    row_locks: bool = True  # an Account in two requests at once fails the rows of the later
    governor_rows: int | None = None  # a collection of more rows fails in a trigger
    governor_error: str = "soql"  # soql | cpu
    statement_limit: int = 100_000  # characters of a SOQL statement
    query_uri_limit: int | None = None  # characters of a query's encoded statement, also inside a
    query_uri_status: int = 414  # Composite; a longer one is answered with this status
    query_value_limit: int | None = None  # texts in a statement before it is too complicated
    concurrent_limit: int = 25
    long_request_seconds: float = 20.0  # only requests this long count against concurrent_limit
    token_max_calls: int | None = None
    token_max_seconds: float | None = None
    type_errors: str = "call"  # a value of a wrong JSON type refuses the whole call, or its "row"
    duplicate_result_key: str = ""  # "" = duplicateResut in single records, duplicateResult in rows
    assignment_owner: str = ""  # the user to whom the lead assignment rule gives what it gets
    # records of other owners are refused, as by private sharing without a role above their owners
    edits_own_records_only: bool = False
    # but for those of this owner: a sharing rule gives the user Read/Write on them
    shared_owner: str = ""
    lead_mapping: bool = True  # conversion carries the key to the Contact
    person_accounts_editable: bool = True  # whether the user may edit Person Accounts
    # queryAll shows the fields of a parent that is deleted itself. No page of the documentation
    # promises that it does, so a client has to work without.
    deleted_parents: bool = False
    write_log: bool = True
    instance_url: str = ""  # "" = the address that was asked for the token
    hidden_fields: list[str] = field(default_factory=list)  # Object.Field
    read_only_fields: list[str] = field(default_factory=list)


_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "governor_error": ("soql", "cpu"),
    "type_errors": ("call", "row"),
    "duplicate_result_key": ("", "duplicateResut", "duplicateResult"),
}


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _optional_whole(value: Any) -> bool:
    return value is None or _whole(value)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def _optional_number(value: Any) -> bool:
    return value is None or _number(value)


def _boolean(value: Any) -> bool:
    return type(value) is bool


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_CHECKS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "float": (_number, "a number from 0 up"),
    "float | None": (_optional_number, "a number from 0 up, or null"),
    "int": (_whole, "a whole number from 0 up"),
    "int | None": (_optional_whole, "a whole number from 0 up, or null"),
    "bool": (_boolean, "true or false"),
    "str": (_text, "a string"),
    "list[str]": (_texts, "a list of strings"),
}


def apply_settings(settings: Settings, changes: Mapping[str, Any]) -> None:
    """Change several settings, or none. Raises BadValueError naming the setting and the value."""
    kinds = {item.name: str(item.type) for item in fields(Settings)}
    for name, value in changes.items():
        if name not in kinds:
            raise BadValueError(f"settings.{name}: no such setting; known: {', '.join(kinds)}")
        holds, wanted = _CHECKS[kinds[name]]
        if not holds(value):
            raise BadValueError(f"settings.{name}: {wanted} is expected, not {value!r}")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise BadValueError(
                f"settings.{name}: {value!r} is not one of {', '.join(map(repr, _CHOICES[name]))}"
            )
    if not changes.get("page_size", 1) >= 1:
        raise BadValueError("settings.page_size: at least 1 is expected, not 0")
    if not 0 <= changes.get("latency_jitter", 0) <= 1:
        raise BadValueError(
            f"settings.latency_jitter: 0 to 1 is expected, not {changes['latency_jitter']!r}"
        )
    try:
        changes.get("limit_info", "").format(used=1, max=1)
    except (LookupError, ValueError):
        message = (
            "settings.limit_info: only {used} and {max} can be filled in, not "
            f"{changes['limit_info']!r}"
        )
        raise BadValueError(message) from None
    for name, value in changes.items():
        setattr(settings, name, value)
