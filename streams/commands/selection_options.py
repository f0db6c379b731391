"""The options by which commands select contacts and records: the same for all of them.

What makes the selection is imported when a command runs, so that `--help` is quick.
"""

import time
from collections.abc import Callable, Sequence
from functools import reduce, wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from streams.selection import Selection

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--since", metavar="TIME", help="At or after 2026-01-31T12:00Z, or 36h ago."),
    click.option("--until", metavar="TIME", help="Before."),
    click.option("--grant", "grants", multiple=True, help="Of this grant ID; may be repeated."),
    click.option("--key", "keys", multiple=True, help="A contact key; may be repeated."),
    click.option("--email", "addresses", multiple=True, help="With this address; may be repeated."),
    click.option(
        "--domain", "domains", multiple=True, help="With an address of it; may be repeated."
    ),
    click.option("--kind", "kinds", multiple=True, help="updated or deleted."),
    click.option(
        "--outcome",
        "outcomes",
        multiple=True,
        help="Whose last outcome is this: failed, or skipped:role_address; may be repeated.",
    ),
    click.option(
        "--reason", "reasons", multiple=True, help="That failed for this reason; may be repeated."
    ),
)


_OFFSETS = click.option(
    "--offsets",
    metavar="PARTITION:FROM-TO",
    multiple=True,
    help="At these offsets of SOURCE, without TO; may be repeated.",
)
_NAMES = (
    *("since", "until", "grants", "keys", "addresses", "domains", "kinds", "outcomes"),
    "reasons",
)

Command = Callable[..., Any]


def selection_options(command: Command) -> Command:
    """Adds the options to a command, which gets them as one argument, `selection`."""
    return _with_options(command, _OPTIONS, _NAMES)


def selection_options_with_offsets(command: Command) -> Command:
    """The same for a command that reads one topic, whose offsets can be given."""
    return _with_options(command, (*_OPTIONS, _OFFSETS), (*_NAMES, "offsets"))


def _with_options(
    command: Command, options: Sequence[Callable[[Any], Any]], names: Sequence[str]
) -> Command:
    @wraps(command)
    def with_selection(**values: Any) -> Any:
        given = {name: values.pop(name) for name in names}
        return command(selection=_selection(given), **values)

    return reduce(lambda wrapped, option: option(wrapped), reversed(options), with_selection)


def _selection(given: dict[str, Any]) -> "Selection":
    """Raises click.UsageError for a value that selects nothing, with the remedy."""
    from streams.commands.plan_input import PlanError, parse_moment
    from streams.selection import UnusableSelection, make_selection

    now = time.time()

    def moment_ms(option: str) -> int | None:
        text = given.pop(option)
        return None if text is None else int(parse_moment(text, now, f"--{option}") * 1000)

    try:
        since_ms, until_ms = moment_ms("since"), moment_ms("until")
        return make_selection(now_ms=int(now * 1000), since_ms=since_ms, until_ms=until_ms, **given)
    except (UnusableSelection, PlanError) as error:
        raise click.UsageError(str(error)) from error
