"""Options that several commands have."""

import click

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, for programs.")
ALL = click.option("--all", "everything", is_flag=True, help="Every grant of the application.")
GRANT = click.option(
    "--grant", "grants", multiple=True, help="A grant, by its ID or address; may be repeated."
)
SOURCE = click.option(
    "--source", "sources", multiple=True, help="address_book, inbox or domain; may be repeated."
)
WAIT = click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Show the progress until the run is over.",
)
ACTOR = click.option("--actor", metavar="NAME", help="Who you are, for the audit.")
WHY = click.option("--why", default="", metavar="TEXT", help="Why you do it, for the audit.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Read and count only, and publish nothing.")
EXECUTE = click.option("--execute", is_flag=True, help="Do it; otherwise it is only shown.")
YES = click.option("--yes", "agreed", is_flag=True, help="All of them, where nothing limits it.")
EXPECT = click.option(
    "--expect", "expected", type=int, help="Refuse more letters than this, plus 5 %."
)
