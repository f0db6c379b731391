"""What is wrong with the selection by contact groups, for commands: plain data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from connectors.nylas.contact_groups import WITHOUT_GROUPS
from streams.contact_groups import GroupRule
from streams.control_selection import SelectionRecords


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """The contact groups that are selected, and what a person has to look at."""

    rule: GroupRule
    """The rule in force."""
    read: int
    """Of how many mailboxes the groups are known."""
    mailboxes: int
    """How many are connected and have groups."""
    problems: tuple[tuple[str, str], ...]
    """What is wrong, and what to do about it."""

    def __str__(self) -> str:
        """In words, for a person."""
        named = [*self.rule.included, *(f"not {name}" for name in self.rule.excluded)]
        return (
            f"{', '.join(named)}; the groups of {self.read} of {self.mailboxes} connected "
            "mailboxes are known"
        )


def group_figures(
    selection: SelectionRecords, providers: Mapping[str, str], setting: GroupRule | None = None
) -> GroupFigures:
    """The figures of connected mailboxes. `providers` is by grant ID; empty where it is not known.

    `setting` is the rule of this process, which is compared with the one in force; None if it has
    not loaded any.
    """
    rule = selection.groups_in_force(setting or GroupRule())
    with_groups = [grant for grant, name in providers.items() if name not in WITHOUT_GROUPS]
    return GroupFigures(
        rule,
        sum(grant in selection.group_names for grant in with_groups),
        len(with_groups),
        tuple(_problems(selection, rule, providers, setting)),
    )


def groups_read(selection: SelectionRecords, grant: str, provider: str) -> str:
    """Which groups of a mailbox the entries of the rule in force name, in words; empty without."""
    rule = selection.groups
    if rule is None or not rule.reads_groups:
        return ""
    if provider in WITHOUT_GROUPS:
        return f"none: {provider} has no contact groups"
    if grant not in selection.group_names:
        return "not read yet"
    names = {name for name in selection.names_of_groups(grant).values() if rule.reads(name)}
    return ", ".join(sorted(names)) or "none of the named ones"


def _problems(
    selection: SelectionRecords,
    rule: GroupRule,
    providers: Mapping[str, str],
    setting: GroupRule | None,
) -> Iterable[tuple[str, str]]:
    if setting is not None and rule != setting:
        yield (
            "PEOPLE_GROUPS or PEOPLE_EXCLUDED_GROUPS of this process is not what is in force",
            "start the reader anew with it: contactstream reader puts it in force",
        )
    without = sorted(grant for grant, name in providers.items() if name in WITHOUT_GROUPS)
    if rule.included and without:
        yield (
            f"PEOPLE_GROUPS selects nobody of {len(without)} connected mailboxes, because EWS has "
            f"no contact groups: {', '.join(without[:5])}{' ...' if len(without) > 5 else ''}",
            "leave them out by PEOPLE_MAILBOXES, or move them to Microsoft 365 (Graph)",
        )
    names = {
        name for known in selection.group_names.values() for name in known.names.values() if name
    }
    if not selection.group_names:
        return
    for entry in rule.without_group(names):
        close = get_close_matches(entry, sorted(names), 1)
        hint = f"did you mean {close[0]}?" if close else "correct the entry, or create the group"
        yield f"PEOPLE_GROUPS or PEOPLE_EXCLUDED_GROUPS names {entry!r}, which no mailbox has", hint
