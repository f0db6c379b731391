"""Commands for people who ask: to be left out or erased, or for a copy of what is known."""

import sys
from typing import TextIO

import click

from streams import settings
from streams.cli.loading import load
from streams.cli.options import JSON
from streams.cli.root import main

_PEOPLE_FILE = click.option(
    "--file", type=click.File(), help="Addresses and contact keys, one a line; - is standard input."
)


def _people(named: tuple[str, ...], file: TextIO | None) -> list[str]:
    """The people that a command is about, as they are stored."""
    from streams.commands.suppress import people

    try:
        return list(dict.fromkeys([*people.named(named), *people.read(file or ())]))
    except people.NotAPerson as error:
        raise click.UsageError(str(error)) from error


@main.command()
@click.argument("people", metavar="[EMAIL]...", nargs=-1)
@_PEOPLE_FILE
@click.option("--dry-run", is_flag=True, help="Show the receipt only, and change nothing.")
@click.option("--lift", is_flag=True, help="Take people off the list: they may be written again.")
@click.option("--why", default="", metavar="TEXT", help="Why they come back; needed for --lift.")
@click.option("--actor", metavar="NAME", help="Who you are, for the audit.")
@JSON
def suppress(
    *,
    people: tuple[str, ...],
    file: TextIO | None,
    dry_run: bool,
    lift: bool,
    why: str,
    actor: str | None,
    as_json: bool,
) -> None:
    """Erases people who asked for it, and never writes them to Salesforce again.

    EMAIL is an address, or a contact key (grant_id/contact_id). contactstream.suppression keeps
    salted hashes of both, which every stage obeys within 5 seconds. What the topics and the table
    of dedupe hold of them is erased, and in Salesforce the fields that only contactstream uses are
    cleared: key, version, hashes and further addresses. No record is deleted there.

    The receipt says what was found, when each topic is clean at the latest, and which records are
    left for a person. No name and no address is printed, except with `export`.

    With --lift they are taken off the list again, with a reason. What was erased stays erased; they
    come back with the next reading of an address book that holds them.

    The file of PEOPLE_SUPPRESSION_LIST is taken into the topic once; without EMAIL only that.
    """
    from connectors.salesforce.suppression import SuppressionError
    from streams.commands.suppress.command import suppress as run
    from streams.commands.suppress.lift import lift as lift_people

    chosen, people_settings = _people(people, file), load(settings.PeopleSettings)
    if not chosen and (lift or people_settings.suppression_list is None):
        raise click.UsageError("nobody is named: give an address, or --file")
    if why and not lift:
        raise click.UsageError("--why is for --lift: an erasure needs no reason")
    kafka = load(settings.KafkaSettings)
    try:
        if lift:
            lift_people(
                kafka,
                people_settings,
                chosen,
                why,
                actor=actor,
                dry_run=dry_run,
                json_output=as_json,
            )
            return
        run(
            kafka,
            people_settings,
            chosen,
            actor=actor,
            dry_run=dry_run,
            json_output=as_json,
        )
    except SuppressionError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("people", metavar="[EMAIL]...", nargs=-1)
@_PEOPLE_FILE
def export(*, people: tuple[str, ...], file: TextIO | None) -> None:
    """Prints everything that is held of a person as JSON, for a request for access.

    EMAIL is an address, or a contact key (grant_id/contact_id). The topics and the table of dedupe
    are searched, and the IDs of the records in Salesforce are named. The output is personal data.
    The exit code is 1 when nothing is held.
    """
    from streams.commands.suppress.export import export as run

    chosen = _people(people, file)
    if not chosen:
        raise click.UsageError("nobody is named: give an address, or --file")
    sys.exit(run(load(settings.KafkaSettings), chosen))


@main.group(invoke_without_command=True)
@click.pass_context
def deletions(context: click.Context) -> None:
    """Shows what people deleted or merged in Salesforce, and lifts a deletion.

    The sink does not create such a contact again. Without a subcommand it lists what is remembered,
    with counts. The list names contact keys and records, and no addresses.
    """
    if context.invoked_subcommand is None:
        from streams.commands.deletions import list_deletions

        list_deletions(load(settings.KafkaSettings))


@deletions.command(name="list")
def deletions_list() -> None:
    """Lists what is remembered, the newest last, with counts."""
    from streams.commands.deletions import list_deletions

    list_deletions(load(settings.KafkaSettings))


@deletions.command(name="lift")
@click.option("--key", help="A contact key (grant_id/contact_id).")
@click.option("--email", help="An address: of every deleted record that held it.")
@click.option("--execute", is_flag=True, help="Write it; otherwise it is only printed.")
def deletions_lift(*, key: str | None, email: str | None, execute: bool) -> None:
    """Lets a contact be created again whose record people deleted.

    It says what it would lift, and writes only with --execute. Later deletions count again. The
    running sink knows a lift within a minute.
    """
    from streams.commands.deletions import lift

    lift(load(settings.KafkaSettings), key, email, execute=execute)
