"""Shows what an undo would do and what it did, and writes the list of untouched records."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from connectors.salesforce.restoration import Standing, ValueToRestore
from connectors.salesforce.untouched_records import Touch
from streams.commands.dead_letters.report import moment
from streams.commands.tables import harmless
from streams.commands.undo.selected import CreatedRecord, UndoPlan

_STAYS: Mapping[Standing, str] = {
    Standing.RESTORED: "have their former value already",
    Standing.CHANGED: "hold a value of people or of other systems, which stays",
    Standing.RECORD_GONE: "are on records that were deleted or merged",
    Standing.CONVERTED: "are on converted Leads, which take no writes",
    Standing.NOT_WRITABLE: "are in fields that are gone, or that our user may not write",
}
_TOUCHED: Mapping[Touch, str] = {
    Touch.GONE: "were deleted or merged",
    Touch.CONVERTED: "were converted",
    Touch.MODIFIED: "were modified by others",
    Touch.ACTIVITY: "have a task or an event",
    Touch.CAMPAIGN: "are members of a campaign",
}


@dataclass(slots=True)
class UndoResult:
    """What an undo found in the org, and what it restored; of a dry run, what it would restore."""

    standings: Counter[tuple[str, Standing]] = field(default_factory=Counter)
    """By `Lead.Title` and what stands there."""
    refused: Counter[str] = field(default_factory=Counter)
    """Values that the org refused, by reason."""
    touched: Counter[Touch] = field(default_factory=Counter)
    untouched: list[CreatedRecord] = field(default_factory=list)
    found: dict[ValueToRestore, Standing] = field(default_factory=dict)
    """What stood in the field of each value."""
    calls: int = 0
    """Calls of the org."""

    @property
    def restored(self) -> int:
        """How many values our own value stood for, without those that were refused."""
        ours = sum(
            number for (_, found), number in self.standings.items() if found is Standing.OURS
        )
        return ours - self.refused.total()


def print_text(plan: UndoPlan, result: UndoResult, *, executed: bool) -> None:
    """Prints the result for a person."""
    fields = Counter(
        {
            name: number
            for (name, found), number in result.standings.items()
            if found is Standing.OURS
        }
    )
    verb = "restored" if executed else "would be restored"
    for name, number in fields.most_common():
        click.echo(f"  {name:<34} {number:>9,}")
    click.echo(f"{result.restored:,} values {verb}")
    for standing, text in _STAYS.items():
        if number := sum(
            count for (_, found), count in result.standings.items() if found is standing
        ):
            click.echo(f"{number:,} {text}")
    if plan.written_since:
        click.echo(
            f"{plan.written_since:,} were written again later, by a change that is not to be "
            "undone; they stay"
        )
    if plan.undone:
        click.echo(f"{plan.undone:,} were restored by an earlier undo")
    for reason, number in result.refused.most_common():
        click.echo(f"{number:,} were refused by the org: {reason}; run the command again")
    if plan.created:
        click.echo(
            f"{len(plan.created):,} records were created; {len(result.untouched):,} of them nobody "
            "has touched. Nothing is deleted"
        )
        for touch, number in result.touched.most_common():
            click.echo(f"  {number:,} {_TOUCHED[touch]}")


def print_json(plan: UndoPlan, result: UndoResult, undo_id: str, *, executed: bool) -> None:
    """Prints the result as one JSON object, without any value."""
    fields: dict[str, dict[str, int]] = {}
    for (name, found), number in result.standings.items():
        fields.setdefault(name, {})[found.value] = number
    body: dict[str, Any] = {
        "undo": undo_id if executed else None,
        "executed": executed,
        "restored": result.restored,
        "fields": fields,
        "refused": dict(result.refused),
        "written_since": plan.written_since,
        "undone_before": plan.undone,
        "created": len(plan.created),
        "untouched": len(result.untouched),
        "touched": {touch.value: number for touch, number in result.touched.items()},
        "calls": result.calls,
    }
    click.echo(json.dumps(body, indent=2))


def write_untouched(path: Path, records: Iterable[CreatedRecord]) -> None:
    """Writes the records to a new file; see `_write_csv`."""
    names = ("Id", "Object", "Contact", "Run", "Created")
    _write_csv(
        "--created",
        path,
        names,
        (
            (one.record_id, one.sobject, one.contact_key, one.run, moment(one.at_ms))
            for one in records
        ),
    )


def write_values(path: Path, plan: UndoPlan, found: Mapping[ValueToRestore, Standing]) -> None:
    """Writes every value with what stood in its field to a new file; see `_write_csv`."""
    names = ("Id", "Field", "Before", "Written", "Stands", "Contact")
    _write_csv(
        "--values",
        path,
        names,
        (
            (
                value.record_id,
                f"{value.sobject}.{value.field}",
                _text(value.wanted),
                _text(value.ours),
                stands.value,
                plan.values[value],
            )
            for value, stands in found.items()
        ),
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _write_csv(
    option: str, path: Path, names: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """Writes CSV to a new file that only its owner may read.

    Raises click.ClickException, also where the file is there already.
    """
    try:
        with path.open("x", newline="") as file:
            path.chmod(0o600)
            writer = csv.writer(file)
            writer.writerow(names)
            for cells in rows:
                writer.writerow([harmless(cell) for cell in cells])
    except OSError as error:
        raise click.ClickException(f"{option} {path}: {error.strerror}") from error
