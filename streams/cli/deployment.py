"""Commands for what a deployment consists of: its settings, its org and its topics."""

import sys

import click

from streams import settings
from streams.cli.loading import load, report_unusable_settings
from streams.cli.options import ACTOR, DRY_RUN, JSON, WHY
from streams.cli.root import main


@main.command(name="settings")
@click.argument("group", required=False)
@click.option("--given", is_flag=True, help="Leave out what has its default.")
@JSON
def settings_(*, group: str | None, given: bool, as_json: bool) -> None:
    """Lists every setting of this machine, its value and where it comes from.

    Secrets are hidden. GROUP is kafka, nylas, sink and so on; without it all are listed. The mode
    in force stands on top.
    """
    from streams.commands.settings import run

    sys.exit(run(group, given=given, as_json=as_json))


@main.group(invoke_without_command=True)
@JSON
@click.pass_context
def org(context: click.Context, *, as_json: bool) -> None:
    """Shows the Salesforce org that this deployment writes to, and adopts another one.

    The first sink pins the ID of its org. With a login that leads to another org it ends with the
    exit code 88: what the deployment knows is true of one org only. The exit code of this command
    is 1 when the login leads to another org.
    """
    if context.invoked_subcommand is None:
        from streams.commands.org.command import show

        kafka = load(settings.KafkaSettings)
        sys.exit(show(kafka, load(settings.SalesforceSettings), as_json=as_json))


@org.command(name="adopt")
@DRY_RUN
@WHY
@ACTOR
def org_adopt(*, dry_run: bool, why: str, actor: str | None) -> None:
    """Writes to the org that the login leads to from now on, as after the refresh of a sandbox.

    It has every contact offered again, and pins the new org. Sinks that knew the former org end,
    and the next one clears what is known of the records there. If it was interrupted, repeat it.
    """
    from streams.commands.org.command import adopt
    from streams.org import policy

    kafka, target = load(settings.KafkaSettings), load(settings.SalesforceSettings)
    people, sources = load(settings.PeopleSettings), load(settings.NylasSettings).sources
    with report_unusable_settings():
        adopt(
            kafka,
            target,
            lambda: policy(target, people, sources),
            why=why,
            actor=actor,
            dry_run=dry_run,
        )


@main.group()
def topics() -> None:
    """Creates the Kafka topics, checks their policies, or alters them to match."""


@topics.command(name="create")
@click.option("--dry-run", is_flag=True, help="Print what would be created, and create nothing.")
def topics_create(*, dry_run: bool) -> None:
    """Creates the topics that are missing; existing ones stay as they are."""
    from streams.commands.topics import create_topics

    create_topics(load(settings.KafkaSettings), dry_run=dry_run)


@topics.command(name="check")
def topics_check() -> None:
    """Compares the topics with their policies; the exit code is 1 when one differs.

    It is 79 when a topic has a number of partitions with which the stages do not start.
    """
    from streams.commands.topics import check_topics

    sys.exit(check_topics(load(settings.KafkaSettings)))


@topics.command(name="alter")
@click.option("--dry-run", is_flag=True, help="Print what would be changed, and change nothing.")
def topics_alter(*, dry_run: bool) -> None:
    """Changes settings that differ from the policies; each is printed, old value -> new value.

    What may lose records, and partitions, replicas and missing topics, are not changed: they are
    printed with what to do. The exit code is 0 when nothing else is left, else that of `check`.
    --dry-run exits as the same command without it would.
    """
    from streams.commands.topics import alter_topics

    sys.exit(alter_topics(load(settings.KafkaSettings), dry_run=dry_run))


@topics.command(name="acls")
@click.argument("roles", metavar="[ROLE]...", nargs=-1)
@click.option(
    "--format",
    "shape",
    type=click.Choice(["table", "commands", "strimzi"]),
    default="table",
    show_default=True,
    help="A Markdown table, commands of kafka-acls.sh, or Strimzi's KafkaUser in YAML.",
)
@click.option(
    "--user-prefix",
    default="contactstream-",
    show_default=True,
    help="The user of a role is this and the name of the role.",
)
@click.option("--principal", metavar="User:NAME", help="The principal of the one ROLE instead.")
@click.option(
    "--cluster",
    default="kafka",
    show_default=True,
    help="The name of Strimzi's Kafka resource.",
)
@click.option(
    "--authentication",
    type=click.Choice(["scram-sha-512", "tls"]),
    default="scram-sha-512",
    show_default=True,
    help="How Strimzi lets the users log in.",
)
def topics_acls(
    *,
    roles: tuple[str, ...],
    shape: str,
    user_prefix: str,
    principal: str | None,
    cluster: str,
    authentication: str,
) -> None:
    """Prints the least ACLs of each role in Kafka, for the topics of KAFKA_TOPIC_PREFIX.

    ROLE is bridge, reader, dedupe, sink, console, operator (the commands of operators), topics (the
    commands create, check and alter) or dedupe-state; without one all are printed. A name that ends
    with * stands for all names that begin so. No broker is asked.
    """
    from streams.acls import ROLES
    from streams.commands.acls import Users, print_acls

    if unknown := [role for role in roles if role not in ROLES]:
        raise click.UsageError(f"no role {', '.join(unknown)}; the roles are {', '.join(ROLES)}")
    if principal is not None and (len(roles) != 1 or shape != "commands"):
        raise click.UsageError("--principal goes with one ROLE and --format commands")
    users = Users(user_prefix, principal, cluster, authentication)
    print_acls(load(settings.KafkaSettings), roles or tuple(ROLES), shape, users)


@main.group(name="dedupe-state", invoke_without_command=True)
@click.pass_context
def dedupe_state(context: click.Context) -> None:
    """Moves dedupe to another generation: another group with another table.

    Without a subcommand it shows the generations, and which one is live. The steps are in
    deploy/runbooks/dedupe-generation.md.
    """
    if context.invoked_subcommand is None:
        from streams.commands.dedupe_state.command import show

        show(load(settings.KafkaSettings))


_TO = click.option(
    "--to",
    "target",
    type=click.IntRange(1, 99),
    required=True,
    help="The other generation.",
)
_FROM = click.option(
    "--from",
    "made_of",
    type=click.Choice(["changelog", "changes"]),
    default="changelog",
    show_default=True,
    help="Make its table of the old changelog or, if that is lost, of contacts.changes.",
)


@dedupe_state.command(name="prepare")
@_TO
@_FROM
@click.option("--execute", is_flag=True, help="Copy it; otherwise it is only counted.")
def dedupe_state_prepare(*, target: int, made_of: str, execute: bool) -> None:
    """Fills the table of another generation, beside the running one.

    It may be repeated, and then copies what was added since. Nothing is written to
    contacts.changes.
    """
    from streams.commands.dedupe_state.command import TableSource, prepare

    prepare(load(settings.KafkaSettings), target, TableSource(made_of), execute=execute)


@dedupe_state.command(name="switch")
@_TO
@_FROM
@click.option("--execute", is_flag=True, help="Switch; otherwise it says what it would do.")
def dedupe_state_switch(*, target: int, made_of: str, execute: bool) -> None:
    """Makes another generation the live one. The workers of the present one have to be stopped.

    It copies what is missing in the new table, and gives the new group the offsets of the old one.
    Workers of the old generation do not start any more. An interrupted switch is repeated, or
    ended by a switch to the old generation. Nothing is written to contacts.changes.
    """
    from streams.commands.dedupe_state.command import TableSource, switch

    switch(load(settings.KafkaSettings), target, TableSource(made_of), execute=execute)
