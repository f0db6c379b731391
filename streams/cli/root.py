"""The command `contactstream`, under which every other command is."""

import click

from streams import settings
from streams.runtime import logs

STAGES = ("bridge", "reader", "dedupe", "sink")

# Processes that log instead of printing: the stages, and the console.
PROCESSES = (*STAGES, "console")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="contactstream")
@click.pass_context
def main(context: click.Context) -> None:
    """Keeps Salesforce populated with the people in a company's address books.

    \b
    Try it:       contactstream demo
    Set it up:    contactstream topics create, then contactstream doctor
    Look ahead:   contactstream plan FILE
    Run it:       contactstream bridge | reader | dedupe | sink     (one process each)
    Fill it:      contactstream backfill --all
    See it:       contactstream status, or contactstream console for a browser
    """
    if context.invoked_subcommand not in PROCESSES:  # a stage logs it instead
        logs.configure_command()
        for unknown in settings.unknown_variables():
            click.echo(f"warning: {unknown}", err=True)
