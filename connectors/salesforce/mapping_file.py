"""Reads the mapping from a TOML file: changes to the standard rules of Contact and Lead."""

import tomllib
from pathlib import Path

from connectors.salesforce.field_paths import MappingError, getter
from connectors.salesforce.mapping_rules import (
    STANDARD_CONTACT,
    STANDARD_LEAD,
    FieldMapping,
    FieldPolicy,
    Rule,
    Scalar,
)


def load_mapping(path: Path) -> FieldMapping:
    """The mapping in a TOML file. Raises MappingError."""
    try:
        return parse_mapping(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise MappingError(f"cannot read the mapping file {path}: {error}") from error


def parse_mapping(text: str) -> FieldMapping:
    """The standard rules, changed by a TOML text with the tables `contact` and `lead`.

    Raises MappingError.

    ```toml
    [contact]
    MailingCity = "physical_addresses[work].city"
    Birthdate = { from = "birthday", policy = "fill" }
    Department = { from = ["office_location", "company_name"] }
    LeadSource = { constant = "Address book" }
    Title = false                                     # not this one
    Email = { policy = "always" }                     # a mirror, whatever people type there
    ```

    A policy is one of FieldPolicy: `overwrite` (the default), `always`, `fill` or `create`.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"the mapping file is not TOML: {error}") from error
    if unknown := sorted(set(tables) - {"contact", "lead"}):
        raise MappingError(
            f"unknown table {unknown[0]!r} in the mapping file: expected contact and lead"
        )
    return FieldMapping(
        contact=_changed(STANDARD_CONTACT, tables.get("contact", {})),
        lead=_changed(STANDARD_LEAD, tables.get("lead", {})),
    )


def _changed(standard: tuple[Rule, ...], table: object) -> tuple[Rule, ...]:
    if not isinstance(table, dict):
        raise MappingError("contact and lead in the mapping file must be tables")
    rules = {rule.field: rule for rule in standard}
    for name, entry in table.items():
        if entry is False:
            rules.pop(name, None)
        else:
            rules[name] = _rule(name, entry, rules.get(name))
    return tuple(rules.values())


def _rule(name: str, entry: object, standard: Rule | None) -> Rule:
    if isinstance(entry, str | list):
        entry = {"from": entry}
    if not isinstance(entry, dict) or set(entry) - {"from", "policy", "constant"}:
        raise MappingError(
            f"{name}: expected a path, false, or a table of from, policy and constant"
        )
    constant, paths = entry.get("constant"), entry.get("from")
    if constant is not None and paths is not None:
        raise MappingError(f"{name}: has both from and constant, expected one of them")
    if constant is None and paths is None and not standard:
        raise MappingError(f"{name}: has neither from nor constant, expected one of them")
    if constant is not None and not isinstance(constant, Scalar):
        raise MappingError(f"{name}: a constant is text, a number, true or false")
    if paths is None:
        paths = standard.paths if standard and constant is None else ()
    elif isinstance(paths, str):
        paths = (paths,)
    elif not isinstance(paths, list) or not paths:
        raise MappingError(f"{name}: from is a path, or a list of paths")
    checked = _checked(name, tuple(paths))
    default = FieldPolicy.OVERWRITE if constant is None else FieldPolicy.CREATE
    try:
        policy = FieldPolicy(entry.get("policy", default))
    except ValueError:
        raise MappingError(f"{name}: policy must be one of {', '.join(FieldPolicy)}") from None
    return Rule(name, checked, policy, constant)


def _checked(name: str, paths: tuple[object, ...]) -> tuple[str, ...]:
    checked = []
    for path in paths:
        if not isinstance(path, str):
            raise MappingError(f"{name}: a path is text")
        getter(path)  # raises MappingError
        checked.append(path)
    return tuple(checked)
