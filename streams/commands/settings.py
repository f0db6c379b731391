"""The command settings: every setting with its value and where it comes from. Secrets are hidden.

The mode stands on top, because what a person has set by a command wins over its setting.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from textwrap import wrap

import click

from streams.commands.mode import current_mode, mode_entry, mode_line
from streams.settings import (
    GROUPS,
    KafkaSettings,
    SalesforceSettings,
    SettingsError,
    ShownSetting,
    load,
    shown_settings,
)

# Of a terminal that nobody made wider.
COLUMNS = 80
INDENT = 4


def run(group: str | None, *, given: bool, as_json: bool) -> int:
    """Prints the settings of one group or of all; returns the exit code.

    `given` leaves the defaults out. Blocks for a request to Kafka, for the mode. The code is 2 when
    a setting cannot be used: its group is left out, and the fault is named. Raises click.UsageError
    for a group that does not exist.
    """
    wanted = None if group is None else known_group(group)
    shown = [
        one
        for one in shown_settings()
        if wanted in (None, one.variable.partition("_")[0])
        and not (given and one.origin == "default")
    ]
    faults = list(_faults(wanted))
    mode, entry = _mode()
    if as_json:
        body = {"mode": entry, "settings": [asdict(one) for one in shown], "unusable": faults}
        click.echo(json.dumps(body, indent=2, ensure_ascii=False))
    else:
        for line in text(mode, shown):
            click.echo(line)
    for fault in faults:
        click.echo(f"cannot be used: {fault}", err=True)
    return 2 if faults else 0


def known_group(text: str) -> str:
    """The prefix of a group. Raises click.UsageError, with the closest one or all of them."""
    prefixes = [group.prefix for group in GROUPS]
    if text.upper() in prefixes:
        return text.upper()
    close = get_close_matches(text.upper(), prefixes, 1)
    known = ", ".join(prefix.lower() for prefix in prefixes)
    hint = f"did you mean {close[0].lower()}?" if close else f"it may be {known}"
    raise click.UsageError(f"group {text!r}: unknown; {hint}")


def _faults(wanted: str | None) -> Iterable[str]:
    """What keeps groups from being used."""
    for group in GROUPS:
        if wanted in (None, group.prefix):
            try:
                load(group)
            except SettingsError as error:
                yield str(error)


def _mode() -> tuple[str, dict[str, str | None]]:
    """The mode in force, for a person and for a program; why it is not known otherwise."""
    try:
        found = current_mode(load(KafkaSettings), load(SalesforceSettings))
    except (click.ClickException, SettingsError) as error:
        reason = error.message if isinstance(error, click.ClickException) else str(error)
        return f"not known: {reason}", {"mode": None, "origin": f"not known: {reason}"}
    return mode_line(found), mode_entry(found)


def text(mode: str, shown: Sequence[ShownSetting]) -> list[str]:
    """The lines for a terminal of 80 columns: the mode, and each setting with its origin.

    A value that does not fit beside its name goes on in the next lines, so that it can be copied.
    """
    lines = wrap(f"mode: {mode}", COLUMNS, subsequent_indent=" " * INDENT, break_on_hyphens=False)
    width = max((len(one.variable) for one in shown), default=0)
    for one in shown:
        origin = "" if one.origin == "default" else f"  ({one.origin})"
        line = f"{one.variable:<{width}}  {one.value}{origin}".rstrip()
        if len(line) <= COLUMNS:
            lines.append(line)
            continue
        lines.append(one.variable)
        lines += wrap(
            f"{one.value}{origin}",
            COLUMNS,
            initial_indent=" " * INDENT,
            subsequent_indent=" " * INDENT,
            break_on_hyphens=False,
        )
    return lines
