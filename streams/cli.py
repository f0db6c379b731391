"""The command line: one process a command. Each command imports its stage when it runs, so that
`--help` is quick.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

import click
import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams import settings
from streams.kafka.admin import check, create, refusal
from streams.kafka.clients import BrokerUnavailable, client_config, wait_for_broker
from streams.runtime import logs
from streams.topics import topics

GroupT = TypeVar("GroupT", bound=settings.SettingsGroup)
log = structlog.get_logger()

STAGES = ("bridge", "reader", "dedupe", "sink")


class Unusable(click.ClickException):
    """A setting that cannot be used: its line is all that a person needs, and the exit code says
    that no restart helps.
    """

    exit_code = 2  # as click's own for wrong options


@contextmanager
def _settings_told() -> Iterator[None]:
    from connectors.salesforce.field_paths import MappingError
    from connectors.salesforce.suppression import SuppressionError

    try:
        yield
    except (settings.SettingsError, MappingError, SuppressionError) as error:
        raise Unusable(str(error)) from error


def _load(group: type[GroupT]) -> GroupT:
    with _settings_told():
        return settings.load(group)


def _process(stage: str) -> settings.ProcessSettings:
    process = _load(settings.ProcessSettings)
    logs.configure(process, stage)
    for stranger in settings.unknown_variables():
        log.warning("unknown variable", detail=stranger)
    return process


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
    """
    if context.invoked_subcommand not in STAGES:  # they log it
        for stranger in settings.unknown_variables():
            click.echo(f"warning: {stranger}", err=True)


@main.command()
def bridge() -> None:
    """Receives Nylas' notifications and publishes them to contacts.events."""
    from streams.bridge.process import run

    process = _process("bridge")
    with _settings_told():
        sys.exit(
            run(
                _load(settings.KafkaSettings),
                process,
                _load(settings.NylasSettings),
                _load(settings.BridgeSettings),
            )
        )


@main.command()
def reader() -> None:
    """Reads address books: backfills, and contacts that have to be read again."""
    from streams.reader.process import run

    process = _process("reader")
    with _settings_told():
        sys.exit(
            run(
                _load(settings.KafkaSettings),
                process,
                _load(settings.NylasSettings),
                _load(settings.ReaderSettings),
            )
        )


@main.command()
def dedupe() -> None:
    """Drops the events that are not news, and forwards the rest to contacts.changes."""
    from streams.dedupe.process import run

    process = _process("dedupe")
    with _settings_told():
        sys.exit(
            run(
                _load(settings.KafkaSettings),
                process,
                _load(settings.DedupeSettings),
                _load(settings.SalesforceSettings),
            )
        )


@main.command()
def sink() -> None:
    """Makes the Contacts and Leads in Salesforce true."""
    from streams.org import credentials, policy
    from streams.sink.process import run

    process = _process("sink")
    with _settings_told():
        org = _load(settings.SalesforceSettings)
        credentials(org)
        allowed = policy(org, _load(settings.PeopleSettings), _load(settings.NylasSettings).sources)
        sys.exit(
            run(_load(settings.KafkaSettings), process, org, allowed, _load(settings.SinkSettings))
        )


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, for programs.")


@main.command()
@_JSON
def doctor(*, as_json: bool) -> None:
    """Examines everything that a deployment hangs on, and names a remedy for what is wrong. Changes
    nothing.

    The Salesforce org (login, fields, permissions, rules, calls left), Kafka (broker, topics,
    groups), and Nylas where its key is set. Ends with 1 when a check fails; `warn` is for what
    works but could be better, and for what cannot be told.
    """
    from streams.commands.doctor import deployment, run

    sys.exit(run(deployment(), as_json=as_json))


@main.command()
@click.argument(
    "file",
    required=False,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
)
@click.option(
    "--since",
    help="Of contacts.changes, from this moment on: 2026-01-31T12:00Z, or 90m, 36h, 7d ago.",
)
@_JSON
def plan(*, file: Path | None, since: str | None, as_json: bool) -> None:
    """Shows what the sink would do in Salesforce, and writes nothing.

    FILE (- is standard input) holds a JSON object a line: a Nylas contact, or an envelope as in a
    webhook. A contact without an envelope counts as changed now. A line that is neither is named,
    and nothing is planned. --since takes the changes that the dedupe stage has forwarded instead.

    It prints names, addresses and whatever else would be written: personal data, because you ask
    for it. Mind where it goes.

    The changes are planned in batches of 1,000 like the sink's, but since nothing is written, a
    batch does not find what an earlier one would have created.
    """
    from connectors.salesforce.api.errors import SalesforceError
    from connectors.salesforce.field_paths import MappingError
    from streams.commands.plan import PlanError, run
    from streams.org import policy

    org = _load(settings.SalesforceSettings)
    kafka = _load(settings.KafkaSettings)
    try:
        allowed = policy(org, _load(settings.PeopleSettings), _load(settings.NylasSettings).sources)
        run(org, allowed, kafka, file, since, as_json=as_json)
    except PlanError as error:
        raise click.ClickException(str(error)) from error
    except (settings.SettingsError, SalesforceError, MappingError) as error:
        raise click.ClickException(f"{error}\nSee: contactstream doctor") from error


@main.command()
@click.argument("file", type=click.File())
@click.option("--dry-run", is_flag=True, help="Count, and change nothing.")
def suppress(*, file: TextIO, dry_run: bool) -> None:
    """Adds erased people to the suppression list: whoever is listed is never written to Salesforce
    again.

    FILE (- is standard input) holds an email address or a contact key (grant_id/contact_id) a line.
    PEOPLE_SUPPRESSION_LIST names the list, which is made if it is not there and holds salted hashes
    only. The sink sees it within a second. Nothing is printed but counts.
    """
    from connectors.salesforce.suppression import SuppressionError
    from streams.commands.suppress import NotAPerson, add, read

    path = _load(settings.PeopleSettings).suppression_list
    if path is None:
        raise click.ClickException(
            "PEOPLE_SUPPRESSION_LIST is not set: the file that the sink reads"
        )
    try:
        click.echo(add(path, read(file), dry_run=dry_run))
    except (NotAPerson, SuppressionError) as error:
        raise click.ClickException(str(error)) from error


_ALL = click.option("--all", "everything", is_flag=True, help="Every grant of the application.")
_GRANT = click.option(
    "--grant", "grants", multiple=True, help="A grant, by its ID or address; may be repeated."
)
_SOURCE = click.option(
    "--source", "sources", multiple=True, help="address_book, inbox or domain; may be repeated."
)
_WAIT = click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Follow the run until it is over."
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Read and count, and publish nothing.")


@main.command()
@_ALL
@_GRANT
@_SOURCE
@_WAIT
@_DRY_RUN
def backfill(
    *,
    everything: bool,
    grants: tuple[str, ...],
    sources: tuple[str, ...],
    wait: bool,
    dry_run: bool,
) -> None:
    """Has the reader read whole address books. To interrupt this command does not stop the run: see
    `contactstream runs`.
    """
    from streams.commands.follow import command
    from streams.runs import RunKind

    kafka = _load(settings.KafkaSettings)
    sys.exit(
        command(
            kafka,
            RunKind.BACKFILL,
            everything=everything,
            grants=grants,
            sources=sources,
            wait=wait,
            dry_run=dry_run,
        )
    )


@main.command()
@_ALL
@_GRANT
@_SOURCE
@_WAIT
@_DRY_RUN
@click.option(
    "--max-delete-share",
    type=click.FloatRange(0, 1),
    help="What the guard lets a run delete, as a share of the contacts known; READER_MAX_DELETE_SHARE otherwise.",
)
def reconcile(
    *,
    everything: bool,
    grants: tuple[str, ...],
    sources: tuple[str, ...],
    wait: bool,
    dry_run: bool,
    max_delete_share: float | None,
) -> None:
    """Has the reader compare whole address books with what is known: what changed, what is gone,
    what was only filled.
    """
    from streams.commands.follow import command
    from streams.runs import RunKind

    kafka = _load(settings.KafkaSettings)
    sys.exit(
        command(
            kafka,
            RunKind.RECONCILE,
            everything=everything,
            grants=grants,
            sources=sources,
            wait=wait,
            dry_run=dry_run,
            max_delete_share=max_delete_share,
        )
    )


@main.group(invoke_without_command=True)
@click.pass_context
def runs(context: click.Context) -> None:
    """Lists the readings that were asked for in the last two weeks, the newest last; or follows or
    ends one.
    """
    if context.invoked_subcommand is None:
        from streams.commands.runs import list_runs

        list_runs(_load(settings.KafkaSettings))


@runs.command(name="follow")
@click.argument("run_id", metavar="ID")
def runs_follow(*, run_id: str) -> None:
    """Shows one until it is over, as the command that asked for it does."""
    from streams.commands.runs import follow_again

    sys.exit(follow_again(_load(settings.KafkaSettings), run_id))


@runs.command(name="cancel")
@click.argument("run_id", metavar="ID")
def runs_cancel(*, run_id: str) -> None:
    """Ends one: at once if it waits, else after the page at hand. What is read stays read."""
    from streams.commands.runs import cancel

    sys.exit(cancel(_load(settings.KafkaSettings), run_id))


@main.group()
def webhooks() -> None:
    """What Nylas knows of our webhook."""


_SECRET_FILE = click.option(
    "--secret-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the secret here, before the one that is there, instead of printing it (NYLAS_WEBHOOK_SECRETS_FILE).",
)


@webhooks.command(name="list")
def webhooks_list() -> None:
    """Lists the application's webhook destinations."""
    from streams.commands.administration import list_webhooks

    list_webhooks(_load(settings.NylasSettings))


@webhooks.command(name="check")
@click.option("--url", help="Our webhook's URL; without it, whatever listens to contacts is ours.")
def webhooks_check(*, url: str | None) -> None:
    """Shows whether Nylas still sends, and if not what to do; ends with 1 when something is wrong."""
    from streams.commands.administration import check_webhooks

    sys.exit(check_webhooks(_load(settings.NylasSettings), url))


@webhooks.command(name="create")
@click.argument("url")
@click.option("--compressed/--plain", default=True, show_default=True, help="Have Nylas send gzip.")
@click.option("--description", default="contactstream", show_default=True)
@_SECRET_FILE
def webhooks_create(
    *, url: str, compressed: bool, description: str, secret_file: Path | None
) -> None:
    """Creates the destination; the bridge has to run, because Nylas asks it at once. Shows the
    secret, once.
    """
    from streams.commands.administration import create_webhook

    nylas = _load(settings.NylasSettings)
    sys.exit(
        create_webhook(
            nylas, url, compressed=compressed, description=description, secret_file=secret_file
        )
    )


@webhooks.command(name="rotate")
@click.argument("destination_id")
@_SECRET_FILE
@click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")
def webhooks_rotate(*, destination_id: str, secret_file: Path | None, dry_run: bool) -> None:
    """Gives the destination a new secret, with which Nylas signs from that moment on.

    Until the bridges have it they refuse what comes, and Nylas does not send that again: a reading
    of every address book is asked for.
    """
    from streams.commands.administration import rotate_webhook

    nylas, kafka = _load(settings.NylasSettings), _load(settings.KafkaSettings)
    sys.exit(rotate_webhook(nylas, kafka, destination_id, secret_file=secret_file, dry_run=dry_run))


@main.group()
def grants() -> None:
    """Whose address books are connected."""


@grants.command(name="list")
def grants_list() -> None:
    """Lists the application's grants, and why one is left out."""
    from streams.commands.administration import list_grants

    list_grants(_load(settings.NylasSettings))


@main.group(name="topics")
def topics_group() -> None:
    """The topics: create them, or check them against their policies."""


@topics_group.command(name="create")
@click.option("--dry-run", is_flag=True, help="Say what would be created, and create nothing.")
def topics_create(*, dry_run: bool) -> None:
    """Creates the topics that are missing; leaves those that exist as they are."""
    kafka = _load(settings.KafkaSettings)
    with _admin(kafka) as admin:
        if dry_run:
            for finding in check(admin, topics(kafka).all()):
                click.echo(f"{finding.topic}: {finding.problem}")
            return
        for name in create(admin, topics(kafka).all()):
            click.echo(f"created {name}")


@topics_group.command(name="check")
def topics_check() -> None:
    """Compares the topics with their policies; ends with 1 when one differs."""
    kafka = _load(settings.KafkaSettings)
    with _admin(kafka) as admin:
        findings = check(admin, topics(kafka).all())
    for finding in findings:
        click.echo(f"{finding.topic} {finding.problem}\n    {finding.remedy}")
    if findings:
        sys.exit(1)
    click.echo("every topic is as it has to be")


BROKER_SECONDS = 30.0  # a person waits: long enough for a broker that just starts


@contextmanager
def _admin(kafka: settings.KafkaSettings) -> Iterator[AdminClient]:
    """A client of a broker that answers; what the broker refuses within the block ends the command
    with the reason and a remedy.
    """
    try:
        wait_for_broker(
            kafka, [], stopped=lambda: False, waiting=_tell_once(), deadline=BROKER_SECONDS
        )
        yield AdminClient(client_config(kafka))
    except BrokerUnavailable as error:
        remedy = "check KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL and the credentials, and that the broker runs"
        raise click.ClickException(f"{error}\n{remedy}") from None
    except KafkaException as error:
        raise click.ClickException(refusal(error)) from None


def _tell_once() -> "_Teller":
    return _Teller()


class _Teller:
    """Prints a reason for waiting when it changes."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, reason: str) -> None:
        if reason != self._last:
            click.echo(reason, err=True)
            self._last = reason


@main.group()
def simulate() -> None:
    """Stand-ins for Nylas and Salesforce, for a look and for tests."""


_WORLD = click.option(
    "--world",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What it holds at first, as JSON.",
)
_LISTEN = click.option(
    "--listen", default="127.0.0.1:0", show_default=True, help="host:port; port 0 takes a free one."
)


@simulate.command(name="nylas")
@_LISTEN
@_WORLD
def simulate_nylas(listen: str, world: Path | None) -> None:
    """A Nylas with grants, contacts and signed webhooks."""
    from connectors.nylas.simulator.app import serve

    host, _, port = listen.rpartition(":")
    serve(host, int(port), world)


@simulate.command(name="salesforce")
@_LISTEN
@_WORLD
def simulate_salesforce(listen: str, world: Path | None) -> None:
    """A Salesforce org with Accounts, Contacts and Leads."""
    from connectors.salesforce.simulator import serve

    host, _, port = listen.rpartition(":")
    serve(host, int(port), world)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
@click.option("--stay", is_flag=True, help="Stay up afterwards, and print where to look.")
@click.option(
    "--people",
    type=click.IntRange(min=30),  # fewer are not enough for every part of the story
    default=2000,
    show_default=True,
    help="How many people the three address books hold.",
)
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same people.")
def demo(*, as_json: bool, stay: bool, people: int, seed: int) -> None:
    """Runs the whole product on this machine, without an account, and reports what happened at each
    stage.
    """
    from streams.demo.story import run

    sys.exit(asyncio.run(run(people=people, seed=seed, as_json=as_json, stay=stay)))


if __name__ == "__main__":
    main()
