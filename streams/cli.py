"""The command line: `contactstream COMMAND`, each command a process of its own.

A command imports the code that does its work when it runs, so that `--help` is quick.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

import click
import structlog

from streams import settings
from streams.commands.selection_options import (
    selection_options,
    selection_options_with_offsets,
)
from streams.contact_groups import GroupRule
from streams.mailboxes import MailboxRule
from streams.runtime import logs

if TYPE_CHECKING:
    from streams.commands.left_out import WantedSelection
    from streams.commands.webhook_secrets import SecretPlace
    from streams.selection import Selection

GroupT = TypeVar("GroupT", bound=settings.SettingsGroup)
log = structlog.get_logger()

STAGES = ("bridge", "reader", "dedupe", "sink")

# Processes that log instead of printing: the stages, and the console.
PROCESSES = (*STAGES, "console")


class UnusableSetting(click.ClickException):
    """A setting that cannot be used: printed as one line, without a traceback.

    Its exit code, which is click's own for wrong options, says that a restart does not help.
    """

    exit_code = 2


@contextmanager
def _report_unusable_settings() -> Iterator[None]:
    from connectors.salesforce.field_paths import MappingError
    from connectors.salesforce.suppression import SuppressionError

    try:
        yield
    except (settings.SettingsError, MappingError, SuppressionError) as error:
        raise UnusableSetting(str(error)) from error


def _load(group: type[GroupT]) -> GroupT:
    with _report_unusable_settings():
        return settings.load(group)


def _mailboxes() -> MailboxRule:
    """Which mailboxes the settings select."""
    return MailboxRule(_load(settings.PeopleSettings).mailboxes)


def _groups(people: settings.PeopleSettings) -> GroupRule:
    """Which contact groups the settings select."""
    return GroupRule(people.groups, people.excluded_groups)


def _load_nylas() -> settings.NylasSettings:
    """The settings of a process that calls Nylas, which needs an API key."""
    nylas = _load(settings.NylasSettings)
    with _report_unusable_settings():
        settings.require_api_key(nylas)
    return nylas


def _start_stage(stage: str) -> settings.ProcessSettings:
    """Configures the log of a stage, and returns the settings that every stage has."""
    process = _load(settings.ProcessSettings)
    logs.configure(process, stage)
    for unknown in settings.unknown_variables():
        log.warning("unknown variable", detail=unknown)
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
    See it:       contactstream status, or contactstream console for a browser
    """
    if context.invoked_subcommand not in PROCESSES:  # a stage logs it instead
        logs.configure_command()
        for unknown in settings.unknown_variables():
            click.echo(f"warning: {unknown}", err=True)


@main.command()
def bridge() -> None:
    """Receives webhooks and publishes them to contacts.events."""
    from streams.bridge.process import run

    process = _start_stage("bridge")
    with _report_unusable_settings():
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
    """Reads address books and single contacts from Nylas."""
    from streams.org import exclusions
    from streams.reader.process import run

    process = _start_stage("reader")
    people = _load(settings.PeopleSettings)
    with _report_unusable_settings():
        nylas = _load_nylas()
        sys.exit(
            run(
                _load(settings.KafkaSettings),
                process,
                nylas,
                _load(settings.ReaderSettings),
                MailboxRule(people.mailboxes),
                people.derives_own_domains,
                _groups(people),
                exclusions(people).digest(nylas.sources),
            )
        )


@main.command()
def dedupe() -> None:
    """Drops stale and repeated events; forwards real changes."""
    from streams.dedupe.mailbox_filter import MailboxFilter
    from streams.dedupe.process import run
    from streams.org import policy

    process = _start_stage("dedupe")
    with _report_unusable_settings():
        people, sources = _load(settings.PeopleSettings), _load(settings.NylasSettings).sources
        allowed = policy(_load(settings.SalesforceSettings), people, sources)
        sys.exit(
            run(
                _load(settings.KafkaSettings),
                process,
                _load(settings.DedupeSettings),
                allowed,
                MailboxFilter(
                    MailboxRule(people.mailboxes),
                    people.derives_own_domains,
                    _groups(people),
                ),
                releases_leavers=people.on_group_leave == "release",
            )
        )


@main.command()
def sink() -> None:
    """Writes the changes to Contacts and Leads in Salesforce."""
    from streams.org import credentials, policy
    from streams.sink.process import run

    process = _start_stage("sink")
    with _report_unusable_settings():
        org = _load(settings.SalesforceSettings)
        credentials(org)
        people = _load(settings.PeopleSettings)
        allowed = policy(org, people, _load(settings.NylasSettings).sources)
        sys.exit(
            run(
                _load(settings.KafkaSettings),
                process,
                org,
                allowed,
                _load(settings.SinkSettings),
                MailboxRule(people.mailboxes),
            )
        )


@main.command()
def console() -> None:
    """Shows what happens in a browser, and lets operators act there.

    \b
    contactstream console              then open http://127.0.0.1:8765/

    Only this machine can open it. To let others in, set CONSOLE_LISTEN and a token
    (CONSOLE_TOKEN_FILE, or CONSOLE_TOKEN=generate), or the proxy that knows who they are.
    CONSOLE_STAGES or CONSOLE_PROMETHEUS_URL gives the last hours. Ctrl-C ends it.
    """
    from streams.console.process import run

    process = _start_stage("console")
    with _report_unusable_settings():
        sys.exit(run(_load(settings.KafkaSettings), process, _load(settings.ConsoleSettings)))


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, for programs.")


@main.command()
@_JSON
def doctor(*, as_json: bool) -> None:
    """Checks everything that a deployment depends on. Changes nothing.

    It checks the Salesforce org (login, fields, permissions, rules, calls left), Kafka (broker,
    topics, groups), and Nylas when its API key is set. Each problem comes with a remedy.

    The exit code is 1 when a check fails. `warn` marks what works but could be better, and what
    could not be checked.
    """
    from streams.commands.doctor.command import run
    from streams.commands.doctor.deployment import load_deployment

    sys.exit(run(load_deployment(), as_json=as_json))


@main.command()
@click.option("--watch", is_flag=True, help="Show it again every few seconds, until Ctrl-C.")
@_JSON
def status(*, watch: bool, as_json: bool) -> None:
    """Shows how everything is now: stages, lag, outcomes, calls, dead letters and runs.

    What needs a person comes first, with what to do. The exit code is 1 when something does, so
    that a scheduled job can tell somebody.
    """
    from streams.commands.status.command import run

    org, mailboxes = _load(settings.SalesforceSettings), _mailboxes()
    kafka, sink = _load(settings.KafkaSettings), _load(settings.SinkSettings)
    sys.exit(run(kafka, org, mailboxes, sink, watch=watch, json_lines=as_json))


@main.command()
@click.argument(
    "file",
    required=False,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
)
@click.option(
    "--since",
    help="Plan the records of contacts.changes that were received from this time on "
    "(2026-01-31T12:00Z), or from so long ago (90m, 36h, 7d).",
)
@click.option(
    "--mode",
    "mode_name",
    metavar="MODE",
    help="Plan in this mode instead of the one in force; see contactstream mode.",
)
@_JSON
def plan(*, file: Path | None, since: str | None, mode_name: str | None, as_json: bool) -> None:
    """Shows what the sink would do in Salesforce, and writes nothing.

    It plans in the mode in force, and says on top which one that is. Where Kafka cannot be read,
    SALESFORCE_MODE counts. Limits and pauses are left out: nothing is held in a plan. Nor are
    PEOPLE_MAILBOXES and PEOPLE_GROUPS looked at, which decide before the sink.

    FILE (- is standard input) holds one JSON object a line: a Nylas contact, or a notification as
    Nylas sends it to a webhook. A contact alone counts as changed now. A line that is neither is
    reported by its number, and nothing is planned. --since plans the changes that dedupe has
    forwarded instead.

    The output contains personal data: names, addresses and every other value that would be
    written.

    The changes are planned in batches of 1,000, as in the sink. Since nothing is written, a batch
    does not find records that an earlier batch would have created.
    """
    from connectors.salesforce.api.errors import SalesforceError
    from connectors.salesforce.field_paths import MappingError
    from streams.commands.plan import run
    from streams.commands.plan_input import PlanError
    from streams.org import policy

    org = _load(settings.SalesforceSettings)
    kafka = _load(settings.KafkaSettings)
    try:
        allowed = policy(org, _load(settings.PeopleSettings), _load(settings.NylasSettings).sources)
        run(org, allowed, kafka, file, since, as_json=as_json, mode=mode_name)
    except PlanError as error:
        raise click.ClickException(str(error)) from error
    except (settings.SettingsError, SalesforceError, MappingError) as error:
        raise click.ClickException(f"{error}\nSee: contactstream doctor") from error


@main.command()
@_JSON
def review(*, as_json: bool) -> None:
    """Lists the contacts about which a person has to decide.

    A covered contact has its primary address on the record of another person. An ambiguous one has
    a name that fits several people. contactstream writes nothing for either.

    Each is listed with its contact key (grant_id/contact_id), the IDs of the records, and the time
    since when it waits. Names and addresses are not printed.
    """
    from streams.commands.review import run

    run(_load(settings.KafkaSettings), as_json=as_json)


_ALL = click.option("--all", "everything", is_flag=True, help="Every grant of the application.")
_GRANT = click.option(
    "--grant", "grants", multiple=True, help="A grant, by its ID or address; may be repeated."
)
_SOURCE = click.option(
    "--source", "sources", multiple=True, help="address_book, inbox or domain; may be repeated."
)
_WAIT = click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Show the progress until the run is over.",
)
_ACTOR = click.option("--actor", metavar="NAME", help="Who you are, for the audit.")
_WHY = click.option("--why", default="", metavar="TEXT", help="Why you do it, for the audit.")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Read and count only, and publish nothing.")


@main.command()
@click.argument("source", type=click.Choice(["events", "changes"]))
@selection_options_with_offsets
@click.option(
    "--restore",
    metavar="FIELDS",
    multiple=True,
    help="Write these mapped fields over anybody's value: Title,Phone. Only with `changes`.",
)
@click.option(
    "--to-prefix",
    metavar="PREFIX",
    help="Publish to the deployment with this KAFKA_TOPIC_PREFIX, in the same cluster.",
)
@click.option(
    "--sandbox/--production",
    "is_sandbox",
    default=None,
    help="What the org of --to-prefix is; one of them must be given.",
)
@click.option("--execute", is_flag=True, help="Publish it; otherwise it is only counted.")
@click.option("--yes", "agreed", is_flag=True, help="Replay everything, where nothing limits it.")
@click.option(
    "--expect",
    "expected",
    type=click.IntRange(min=0),
    help="The records of the preview; more than --growth above it are refused.",
)
@click.option(
    "--growth",
    type=click.FloatRange(min=0),
    default=0.05,
    show_default=True,
    help="Share by which the selection may have grown since the preview.",
)
@click.option("--rate", type=click.FloatRange(min=0.1), help="Records a second at most.")
@_ACTOR
@_WHY
@_WAIT
@_JSON
def replay(
    *,
    source: str,
    selection: "Selection",
    restore: tuple[str, ...],
    to_prefix: str | None,
    is_sandbox: bool | None,
    execute: bool,
    agreed: bool,
    expected: int | None,
    growth: float,
    rate: float | None,
    actor: str | None,
    why: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Publishes records of a topic to contacts.events again.

    SOURCE is `events`, what Nylas said in the last two weeks, or `changes`, the newest state of
    every contact. Without --execute it only counts. Dedupe drops what is older than the newest
    that it knows of a contact, so that a replay never makes Salesforce older.

    --restore claims fields after a bad import, also where somebody else's value stands; without
    --execute it counts these values, and asks the org for that once for each 1,000 contacts.

    The reader carries it out: see `contactstream runs`. Live changes go first.
    """
    from streams.commands.replay.command import ReplayOptions, run
    from streams.commands.replay.restore import parse_restore
    from streams.org import mapping, policy
    from streams.runs import ReplaySource
    from streams.selection import UnusableSelection

    org = _load(settings.SalesforceSettings)
    with _report_unusable_settings():
        rules = mapping(org)
    if restore and (source != ReplaySource.CHANGES or to_prefix is not None):
        raise click.UsageError(
            "--restore goes with `replay changes`, which holds the newest state of each contact, "
            "and in the deployment whose org is restored: without --to-prefix"
        )
    if is_sandbox is not None and to_prefix is None:
        raise click.UsageError("--sandbox and --production say what the org of --to-prefix is")
    try:
        options = ReplayOptions(
            source=ReplaySource(source),
            restore=parse_restore(restore, rules),
            to_prefix=to_prefix,
            is_sandbox=is_sandbox,
            rate=rate,
            execute=execute,
            agreed=agreed,
            expected=expected,
            growth=growth,
            wait=wait,
            as_json=as_json,
            actor=actor,
            why=why,
        )
    except UnusableSelection as error:
        raise click.UsageError(str(error)) from error
    kafka, people = _load(settings.KafkaSettings), _load(settings.PeopleSettings)
    sources = _load(settings.NylasSettings).sources
    with _report_unusable_settings():
        sys.exit(run(kafka, org, rules, lambda: policy(org, people, sources), selection, options))


_EXECUTE = click.option("--execute", is_flag=True, help="Do it; otherwise it is only shown.")
_YES = click.option("--yes", "agreed", is_flag=True, help="All of them, where nothing limits it.")
_EXPECT = click.option(
    "--expect", "expected", type=int, help="Refuse more letters than this, plus 5 %."
)


@main.group(name="dead-letters", invoke_without_command=True)
@selection_options
@_JSON
@click.pass_context
def dead_letters(context: click.Context, *, selection: "Selection", as_json: bool) -> None:
    """Shows what could not be processed, and redrives or discards it.

    Without a subcommand it groups the open dead letters by their reason, with an example and what
    to do. No name and no address is printed.
    """
    if context.invoked_subcommand is None:
        from streams.commands.dead_letters.command import Choice, summary

        summary(_load(settings.KafkaSettings), Choice(selection, as_json))
    elif not selection.takes_everything or as_json:
        subcommand = context.invoked_subcommand
        raise click.UsageError(f"give the options after `{subcommand}`, not before it")


@dead_letters.command(name="list")
@selection_options
@_JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV on stdout.")
def dead_letters_list(*, selection: "Selection", as_json: bool, as_csv: bool) -> None:
    """Lists open dead letters one by one, with their IDs."""
    from streams.commands.dead_letters.command import Choice, list_letters

    list_letters(_load(settings.KafkaSettings), Choice(selection, as_json, as_csv))


@dead_letters.command(name="show")
@click.argument("letter_id", metavar="ID")
@click.option("--reveal", is_flag=True, help="Print the contact and the error; the audit notes it.")
@_ACTOR
@_JSON
def dead_letters_show(*, letter_id: str, reveal: bool, actor: str | None, as_json: bool) -> None:
    """Shows everything about one dead letter."""
    from streams.commands.dead_letters.command import show

    show(
        _load(settings.KafkaSettings),
        letter_id,
        reveal=reveal,
        given_actor=actor,
        as_json=as_json,
    )


@dead_letters.command(name="redrive")
@selection_options
@_EXECUTE
@_YES
@_EXPECT
@_ACTOR
@_WHY
@_JSON
def dead_letters_redrive(
    *,
    selection: "Selection",
    execute: bool,
    agreed: bool,
    expected: int | None,
    actor: str | None,
    why: str,
    as_json: bool,
) -> None:
    """Publishes dead letters to contacts.events again, and closes them.

    Dedupe decides about each as about any other event, so that nothing becomes older. A letter
    whose contact has a newer outcome is left open: see `discard --superseded`.

    The exit code is 1 when a letter could not be redriven; it stays open.
    """
    from streams.commands.dead_letters.command import Choice, Order, redrive

    bridge = _load(settings.BridgeSettings)
    order = Order(execute, agreed, expected, actor, why)
    kafka = _load(settings.KafkaSettings)
    sys.exit(redrive(kafka, Choice(selection, as_json), order, bridge.body_limit))


@dead_letters.command(name="discard")
@selection_options
@click.option("--superseded", is_flag=True, help="Only those whose contact has a newer outcome.")
@_EXECUTE
@_YES
@_EXPECT
@_ACTOR
@_WHY
@_JSON
def dead_letters_discard(
    *,
    selection: "Selection",
    superseded: bool,
    execute: bool,
    agreed: bool,
    expected: int | None,
    actor: str | None,
    why: str,
    as_json: bool,
) -> None:
    """Closes dead letters for good: also those of a person who is to be erased (--email)."""
    from streams.commands.dead_letters.command import Choice, Order, discard

    order = Order(execute, agreed, expected, actor, why)
    kafka = _load(settings.KafkaSettings)
    discard(kafka, Choice(selection, as_json), order, only_superseded=superseded)


@main.command()
@click.option(
    "--outcome", "outcomes", multiple=True, help="failed, or skipped:role_address; may be repeated."
)
@click.option("--reason", "reasons", multiple=True, help="For this reason; may be repeated.")
@click.option(
    "--object",
    "sobjects",
    multiple=True,
    type=click.Choice(["Contact", "Lead", "Account"], case_sensitive=False),
    help="Of this object; may be repeated.",
)
@click.option(
    "--grant", "grants", multiple=True, help="Of this grant, by ID or address; may be repeated."
)
@click.option("--key", "keys", multiple=True, help="A contact key; may be repeated.")
@click.option("--since", metavar="TIME", help="At or after 2026-01-31T12:00Z, or 36h ago.")
@click.option("--until", metavar="TIME", help="Before.")
@click.option("--count", is_flag=True, help="Only numbers by outcome, reason and object.")
@click.option("--addresses", is_flag=True, help="Show whole addresses; the audit notes it.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV on stdout.")
@_ACTOR
@_WHY
@_JSON
def outcomes(
    *,
    outcomes: tuple[str, ...],
    reasons: tuple[str, ...],
    sobjects: tuple[str, ...],
    grants: tuple[str, ...],
    keys: tuple[str, ...],
    since: str | None,
    until: str | None,
    count: bool,
    addresses: bool,
    as_csv: bool,
    as_json: bool,
    actor: str | None,
    why: str,
) -> None:
    """Lists what contactstream did with each contact.

    A row is the last outcome of a contact: created, updated, filled, unchanged, covered, ambiguous,
    held, planned, skipped, failed and so on, with the reason and the record. All conditions must
    hold. Addresses are masked unless --addresses is given.
    """
    from streams.commands.outcomes.command import OutcomesOptions, RowFormat, make_filter, run

    wanted = make_filter(
        outcomes=outcomes,
        reasons=reasons,
        sobjects=sobjects,
        grants=grants,
        keys=keys,
        since=since,
        until=until,
    )
    if as_csv and as_json:
        raise click.UsageError("--csv and --json: choose one of them")
    form = RowFormat.CSV if as_csv else RowFormat.JSON if as_json else RowFormat.TEXT
    options = OutcomesOptions(form, count, addresses, actor, why)
    run(_load(settings.KafkaSettings), wanted, options)


@main.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option(
    "--grant", "grants", multiple=True, help="Of this grant, by ID or address; may be repeated."
)
@click.option("--field", "fields", multiple=True, help="Title, or Lead.Title; may be repeated.")
@click.option(
    "--since", metavar="TIME", help="Replaced at 2026-01-31T12:00Z, or 36h ago, or later."
)
@click.option("--until", metavar="TIME", help="Replaced before.")
@click.option(
    "--created",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="List the created records that nobody has touched, as CSV.",
)
@click.option(
    "--values",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="List every value, as CSV; the audit notes it.",
)
@_EXECUTE
@_YES
@_ACTOR
@_WHY
@_JSON
def undo(
    *,
    run_id: str | None,
    grants: tuple[str, ...],
    fields: tuple[str, ...],
    since: str | None,
    until: str | None,
    created: Path | None,
    values: Path | None,
    execute: bool,
    agreed: bool,
    actor: str | None,
    why: str,
    as_json: bool,
) -> None:
    """Puts back what contactstream replaced in Salesforce.

    RUN is a backfill, reconcile, replay or redrive. All conditions must hold. Without --execute it
    only shows what would be restored, for two calls of the org for each 1,000 records.

    Only a field that still holds contactstream's value is restored. From then on the value counts
    as people's: contactstream writes the field again only where the mapping says `always`. An undo
    runs while writing is paused (contactstream pause writes), and cannot be undone.

    It deletes nothing. --created lists the records that contactstream created and that nobody has
    touched: no task, event or campaign, not converted, and modified by contactstream alone.
    """
    from streams.commands.undo.command import UndoOptions, run
    from streams.commands.undo.selected import make_choice

    choice = make_choice(run_id, grants, fields, since, until)
    options = UndoOptions(execute, agreed, created, values, actor, why, as_json)
    kafka = _load(settings.KafkaSettings)
    with _report_unusable_settings():
        sys.exit(run(kafka, _load(settings.SalesforceSettings), choice, options))


@main.command()
@_JSON
def audit(*, as_json: bool) -> None:
    """Lists who did what by a command, when and why. It is kept for 400 days."""
    from streams.commands.audit import run

    run(_load(settings.KafkaSettings), as_json=as_json)


@main.command()
@click.argument("subject")
@_JSON
def explain(*, subject: str, as_json: bool) -> None:
    """Shows what became of a contact, an address or a record.

    SUBJECT is a contact key (grant_id/contact_id), an email address, or the ID of a Salesforce
    record. The timeline comes from the topics: each event and why it was forwarded or not, each
    change, outcome and dead letter, and the runs of the grant. For an address it shows every
    contact that carries it, and which of them owns the record.

    The exit code is 1 when no topic holds anything of it; then it says why that may be.
    """
    from streams.commands.explain.command import run
    from streams.org import policy

    org = _load(settings.SalesforceSettings)
    with _report_unusable_settings():
        allowed = policy(org, _load(settings.PeopleSettings), _load(settings.NylasSettings).sources)
    sys.exit(run(_load(settings.KafkaSettings), allowed, org.login_url, subject, as_json=as_json))


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
@_JSON
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

    chosen, people_settings = _people(people, file), _load(settings.PeopleSettings)
    if not chosen and (lift or people_settings.suppression_list is None):
        raise click.UsageError("nobody is named: give an address, or --file")
    if why and not lift:
        raise click.UsageError("--why is for --lift: an erasure needs no reason")
    kafka = _load(settings.KafkaSettings)
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
    sys.exit(run(_load(settings.KafkaSettings), chosen))


@main.group(invoke_without_command=True)
@click.pass_context
def deletions(context: click.Context) -> None:
    """Shows what people deleted or merged in Salesforce, and lifts a deletion.

    The sink does not create such a contact again. Without a subcommand it lists what is remembered,
    with counts. The list names contact keys and records, and no addresses.
    """
    if context.invoked_subcommand is None:
        from streams.commands.deletions import list_deletions

        list_deletions(_load(settings.KafkaSettings))


@deletions.command(name="list")
def deletions_list() -> None:
    """Lists what is remembered, the newest last, with counts."""
    from streams.commands.deletions import list_deletions

    list_deletions(_load(settings.KafkaSettings))


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

    lift(_load(settings.KafkaSettings), key, email, execute=execute)


@main.command()
@_ALL
@_GRANT
@_SOURCE
@_WAIT
@_DRY_RUN
@click.option(
    "--wave",
    type=click.IntRange(min=1),
    default=None,
    help="Read so many address books, then wait for `contactstream runs continue ID`.",
)
def backfill(
    *,
    everything: bool,
    grants: tuple[str, ...],
    sources: tuple[str, ...],
    wait: bool,
    dry_run: bool,
    wave: int | None,
) -> None:
    """Has the reader read whole address books.

    With --wave it reads some of them and waits, so that a person can look at the result first.
    Interrupting this command does not stop the run: see `contactstream runs`.
    """
    from streams.commands.runs import start_run
    from streams.runs import RunKind

    kafka = _load(settings.KafkaSettings)
    sys.exit(
        start_run(
            kafka,
            RunKind.BACKFILL,
            everything=everything,
            grants=grants,
            sources=sources,
            wait=wait,
            dry_run=dry_run,
            wave=wave or 0,
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
    help="Stop when more than this share (0 to 1) of the known contacts would be deleted; "
    "the default is READER_MAX_DELETE_SHARE.",
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
    """Has the reader compare address books with what was synced.

    It publishes what changed, deletes what is missing, and offers contacts again that have no
    record of their own: those that filled another contact's record, and those that
    `contactstream review` lists.
    """
    from streams.commands.runs import start_run
    from streams.runs import RunKind

    kafka = _load(settings.KafkaSettings)
    sys.exit(
        start_run(
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
    """Lists, follows, continues and cancels backfills and reconciles.

    Without a subcommand it lists the runs of the last two weeks, the newest last.
    """
    if context.invoked_subcommand is None:
        from streams.commands.runs import list_runs

        list_runs(_load(settings.KafkaSettings))


@runs.command(name="follow")
@click.argument("run_id", metavar="ID")
def runs_follow(*, run_id: str) -> None:
    """Shows the progress of a run until it is over."""
    from streams.commands.runs import follow_run

    sys.exit(follow_run(_load(settings.KafkaSettings), run_id))


@runs.command(name="cancel")
@click.argument("run_id", metavar="ID")
def runs_cancel(*, run_id: str) -> None:
    """Ends a run: at once if it waits, else after the page being read.

    Contacts that were already read stay published.
    """
    from streams.commands.runs import cancel_run

    sys.exit(cancel_run(_load(settings.KafkaSettings), run_id))


@runs.command(name="continue")
@click.argument("run_id", metavar="ID")
@_ACTOR
@click.option("--dry-run", is_flag=True, help="Say how many address books it would read.")
def runs_continue(*, run_id: str, actor: str | None, dry_run: bool) -> None:
    """Lets a backfill in waves read its next wave. It says how many address books are left."""
    from streams.commands.runs import continue_run

    continue_run(_load(settings.KafkaSettings), run_id, actor, dry_run=dry_run)


@main.group(invoke_without_command=True)
@_JSON
@click.pass_context
def breakers(context: click.Context, *, as_json: bool) -> None:
    """Lists the failure breakers that are open, and releases one.

    A breaker opens when too many contacts fail for one reason, so that a bad deploy or a new rule
    in Salesforce does not turn every change into a dead letter. It stops bulk runs (backfill,
    reconcile, replay), or all writing. Nothing is lost: what was not written waits in Kafka.
    """
    if context.invoked_subcommand is None:
        from streams.commands.breakers import list_breakers

        list_breakers(_load(settings.KafkaSettings), as_json=as_json)


@breakers.command(name="release")
@click.argument("reason", metavar="REASON")
@click.option(
    "--for",
    "accepted_for",
    default="1h",
    show_default=True,
    help="How long bulk runs may fail for this reason without being stopped again: 30m, 6h, 2d.",
)
@click.option("--actor", help="Who releases it; the default is the user of the operating system.")
def breakers_release(*, reason: str, accepted_for: str, actor: str | None) -> None:
    """Lets go on what the breaker of REASON stops, within 5 seconds.

    Correct the cause first. Counting starts anew; the limit for all changes counts at once, and the
    limit for bulk runs after the time of --for.
    """
    from streams.commands.breakers import release

    release(_load(settings.KafkaSettings), reason, accepted_for, actor)


@main.group(invoke_without_command=True)
@_JSON
@click.pass_context
def pause(context: click.Context, *, as_json: bool) -> None:
    """Pauses a part of the flow until a given time; alone, lists what is paused.

    The pause survives restarts and takeovers. Nothing is lost: what is not done waits in Kafka.
    """
    if context.invoked_subcommand is None:
        from streams.commands.pauses import list_pauses

        list_pauses(_load(settings.KafkaSettings), as_json=as_json)


def _pause_options(command: Callable[..., None]) -> Callable[..., None]:
    options = (
        click.option(
            "--until",
            required=True,
            help="When the pause ends by itself: 2026-01-31T18:00Z, or 2h from now.",
        ),
        click.option("--why", required=True, help="Why, for the others and for the audit."),
        click.option("--actor", help="Who pauses; the default is the user of the system."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@pause.command(name="writes")
@_pause_options
def pause_writes(*, until: str, why: str, actor: str | None) -> None:
    """Nothing is written to Salesforce, within 5 seconds. Calls in flight end."""
    from streams.commands.pauses import pause as begin
    from streams.control import PausedPart

    begin(_load(settings.KafkaSettings), PausedPart.WRITES, until, why, actor)


@pause.command(name="creations")
@_pause_options
def pause_creations(*, until: str, why: str, actor: str | None) -> None:
    """Nobody is created, within 5 seconds; existing records are updated on.

    Who would be created is held, and offered again by resume creations.
    """
    from streams.commands.pauses import pause as begin
    from streams.control import PausedPart

    begin(_load(settings.KafkaSettings), PausedPart.CREATIONS, until, why, actor)


@pause.command(name="reading")
@_pause_options
def pause_reading(*, until: str, why: str, actor: str | None) -> None:
    """Nylas is asked for nothing, and replays wait. Webhooks are received and written on."""
    from streams.commands.pauses import pause as begin
    from streams.control import PausedPart

    begin(_load(settings.KafkaSettings), PausedPart.READING, until, why, actor)


@main.command()
@click.argument("part", type=click.Choice(["writes", "creations", "reading"]))
@click.option("--actor", help="Who resumes; the default is the user of the system.")
def resume(*, part: str, actor: str | None) -> None:
    """Ends a pause before its time, within 5 seconds."""
    from streams.commands.pauses import resume as end
    from streams.control import PausedPart

    end(_load(settings.KafkaSettings), PausedPart(part), actor)


_HELD_BY = (
    click.option(
        "--grant", "grants", multiple=True, help="Of this grant, by ID or address; may be repeated."
    ),
    click.option("--limit", "limits", multiple=True, help="Only by this limit; several times."),
)


def _held_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_HELD_BY):
        command = option(command)
    return command


@main.group(invoke_without_command=True)
@_held_options
@click.option("--people", is_flag=True, help="List contacts one by one, with masked addresses.")
@_JSON
@click.pass_context
def held(
    context: click.Context,
    *,
    grants: tuple[str, ...],
    limits: tuple[str, ...],
    people: bool,
    as_json: bool,
) -> None:
    """Lists the people whom a limit holds, and releases them.

    Nothing was written for them. A limit is one of creations for each day, or for each day and
    mailbox, of replaced values for each hour, or of the org's storage; or creations are paused.
    """
    if context.invoked_subcommand is None:
        from streams.commands.held import list_held

        kafka = _load(settings.KafkaSettings)
        list_held(kafka, grants, limits, people=people, as_json=as_json)


@held.command(name="release")
@click.option("--all", "everybody", is_flag=True, help="Everybody who is held.")
@_held_options
@click.option("--why", required=True, help="Why, for the others and for the audit.")
@click.option("--dry-run", is_flag=True, help="Only say how many would be released.")
@click.option("--actor", help="Who releases them; the default is the user of the system.")
def held_release(
    *,
    everybody: bool,
    grants: tuple[str, ...],
    limits: tuple[str, ...],
    why: str,
    dry_run: bool,
    actor: str | None,
) -> None:
    """Has held people written, whatever the limits say; the limits stay as they are.

    The reader offers them to the sink again, without asking Nylas.
    """
    from streams.commands.held import release, release_selection

    selection = release_selection(grants, limits, everybody=everybody)
    release(_load(settings.KafkaSettings), selection, why, actor, dry_run=dry_run)


@main.command(name="settings")
@click.argument("group", required=False)
@click.option("--given", is_flag=True, help="Leave out what has its default.")
@_JSON
def settings_(*, group: str | None, given: bool, as_json: bool) -> None:
    """Lists every setting of this machine, its value and where it comes from.

    Secrets are hidden. GROUP is kafka, nylas, sink and so on; without it all are listed. The mode
    in force stands on top.
    """
    from streams.commands.settings import run

    sys.exit(run(group, given=given, as_json=as_json))


@main.group(invoke_without_command=True)
@_JSON
@click.pass_context
def mode(context: click.Context, *, as_json: bool) -> None:
    """Shows what may be written to Salesforce, and changes it.

    A mode that is set here survives restarts and takeovers, and wins over SALESFORCE_MODE.
    """
    if context.invoked_subcommand is None:
        from streams.commands.mode import show

        show(_load(settings.KafkaSettings), _load(settings.SalesforceSettings), as_json=as_json)


@mode.command(name="show")
@_JSON
def mode_show(*, as_json: bool) -> None:
    """Shows the mode in force, where it comes from, and what each mode means."""
    from streams.commands.mode import show

    show(_load(settings.KafkaSettings), _load(settings.SalesforceSettings), as_json=as_json)


@mode.command(name="set")
@click.argument("name", metavar="MODE")
@click.option("--why", required=True, help="Why, for the others and for the audit.")
@click.option("--dry-run", is_flag=True, help="Only say what would be set and offered again.")
@click.option("--actor", help="Who sets it; the default is the user of the system.")
def mode_set(*, name: str, why: str, dry_run: bool, actor: str | None) -> None:
    """Sets the mode: report-only, fill-blanks, enrich-only, create-only or mirror.

    The sink obeys within 5 seconds, without a restart. Contacts that the new mode does more for are
    offered to the sink again, without asking Nylas.
    """
    from streams.commands.mode import set_mode

    set_mode(_load(settings.KafkaSettings), name, why, actor, dry_run=dry_run)


@main.group()
def webhooks() -> None:
    """The webhook destinations at Nylas, and their secrets."""


_SECRET_FILE = click.option(
    "--secret-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the secret as the first line of this file (NYLAS_WEBHOOK_SECRETS_FILE) "
    "instead of printing it.",
)
_KUBERNETES_SECRET = click.option(
    "--kubernetes-secret",
    metavar="KEY",
    help="Read a Secret from standard input, as kubectl get secret NAME --output json prints it, "
    "and print it for kubectl replace --filename -, with the new secret first in this key.",
)


def _secret_place(
    secret_file: Path | None, kubernetes_secret: str | None, *, dry_run: bool = False
) -> "SecretPlace":
    """Where the options want a new secret. Reads standard input for a Secret of Kubernetes."""
    from streams.commands.webhook_secrets import Printed, SecretFile, present_secret

    if kubernetes_secret is None:
        return SecretFile(secret_file) if secret_file else Printed()
    if secret_file is not None:
        raise click.UsageError("--secret-file and --kubernetes-secret exclude each other")
    if sys.stdin.isatty():
        raise click.UsageError(
            "--kubernetes-secret reads the present Secret: pipe `kubectl get secret NAME --output "
            "json` into this command"
        )
    if sys.stdout.isatty() and not dry_run:
        raise click.UsageError(
            "--kubernetes-secret would print secrets on the terminal: pipe the output into "
            "`kubectl replace --filename -`"
        )
    return present_secret(sys.stdin.read(), kubernetes_secret)


@webhooks.command(name="list")
def webhooks_list() -> None:
    """Lists the application's webhook destinations."""
    from streams.commands.webhooks import list_webhooks

    list_webhooks(_load_nylas())


@webhooks.command(name="check")
@click.option(
    "--url",
    help="The URL of our webhook; the default is every destination with a contact trigger.",
)
def webhooks_check(*, url: str | None) -> None:
    """Checks that Nylas still sends to our webhook, and says what to do if not.

    The exit code is 1 when something is wrong.
    """
    from streams.commands.webhooks import check_webhooks

    sys.exit(check_webhooks(_load_nylas(), url))


@webhooks.command(name="create")
@click.argument("url")
@click.option("--compressed/--plain", default=True, show_default=True, help="Have Nylas send gzip.")
@click.option("--description", default="contactstream", show_default=True)
@click.option("--second", is_flag=True, help="Create it although Nylas already sends to URL.")
@_SECRET_FILE
@_KUBERNETES_SECRET
def webhooks_create(
    *,
    url: str,
    compressed: bool,
    description: str,
    secret_file: Path | None,
    kubernetes_secret: str | None,
    second: bool,
) -> None:
    """Creates a destination that sends to URL, and shows its secret once.

    The bridge has to be running, because Nylas sends it a challenge at once.
    """
    from streams.commands.webhooks import create_webhook

    nylas, place = _load_nylas(), _secret_place(secret_file, kubernetes_secret)
    sys.exit(
        create_webhook(
            nylas,
            url,
            compressed=compressed,
            description=description,
            place=place,
            second=second,
        )
    )


@webhooks.command(name="rotate")
@click.argument("destination_id")
@_SECRET_FILE
@_KUBERNETES_SECRET
@click.option("--dry-run", is_flag=True, help="Print what would happen, and change nothing.")
def webhooks_rotate(
    *, destination_id: str, secret_file: Path | None, kubernetes_secret: str | None, dry_run: bool
) -> None:
    """Gives a destination a new secret, with which Nylas signs from then on.

    Until a bridge has the new secret it refuses notifications, and Nylas does not repeat those. So
    the command also requests a reconcile of every address book, 15 minutes later.
    """
    from streams.commands.webhooks import rotate_webhook

    nylas, kafka = _load_nylas(), _load(settings.KafkaSettings)
    place = _secret_place(secret_file, kubernetes_secret, dry_run=dry_run)
    sys.exit(rotate_webhook(nylas, kafka, destination_id, place=place, dry_run=dry_run))


@main.group()
def selection() -> None:
    """Shows and settles what becomes of the records of people who are left out by now."""


_REASON = click.option(
    "--reason",
    "reasons",
    multiple=True,
    metavar="REASON",
    help="Only contacts that are left out for this reason, such as not_selected or excluded; may "
    "be repeated.",
)


def _wanted_selection(reasons: tuple[str, ...]) -> "WantedSelection":
    from streams.commands.left_out import WantedSelection
    from streams.commands.selection_changes import checked_reasons
    from streams.org import policy

    people = _load(settings.PeopleSettings)
    sources = _load(settings.NylasSettings).sources
    with _report_unusable_settings():
        allowed = policy(_load(settings.SalesforceSettings), people, sources)
    return WantedSelection(
        MailboxRule(people.mailboxes), allowed, _groups(people), checked_reasons(reasons)
    )


@selection.command(name="preview")
@_REASON
def selection_preview(*, reasons: tuple[str, ...]) -> None:
    """Counts the contacts that the settings leave out by now, and writes nothing.

    It counts the contacts of mailboxes that PEOPLE_MAILBOXES leaves out, and then the people who
    were synced and whom the exclusions leave out. The exclusions are those of this command, so that
    a changed one can be looked at before the processes get it.
    """
    from streams.commands.selection_changes import preview

    preview(_load(settings.KafkaSettings), _wanted_selection(reasons))


@selection.command(name="apply")
@_REASON
@_WHY
@_ACTOR
@_DRY_RUN
def selection_apply(
    *, reasons: tuple[str, ...], why: str, actor: str | None, dry_run: bool
) -> None:
    """Publishes these contacts as deleted, so that PEOPLE_ON_DELETE settles their records.

    `contactstream selection preview` shows the same as --dry-run. An interrupted command may be
    repeated.
    """
    from streams.commands.selection_changes import apply, preview

    wanted, kafka = _wanted_selection(reasons), _load(settings.KafkaSettings)
    if dry_run:
        preview(kafka, wanted)
    else:
        apply(kafka, wanted, why, actor)


@main.group()
def grants() -> None:
    """Shows the grants, and confirms the deletion of many at once."""


@grants.command(name="list")
@click.option("--expired", is_flag=True, help="Those whose owners have to sign in again.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV on stdout.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def grants_list(*, expired: bool, as_csv: bool, as_json: bool) -> None:
    """Lists the application's grants, and why a grant is left out.

    The column `mailbox` says whether PEOPLE_MAILBOXES selects it, and by which entry.

    With --expired it says since when, and has for each mailbox the link by which its owner signs in
    again. The links need NYLAS_CLIENT_ID and NYLAS_REDIRECT_URI.
    """
    from streams.commands.grants import Format, list_expired, list_grants

    if as_csv and as_json:
        raise click.UsageError("--csv and --json: choose one")
    form = Format.CSV if as_csv else Format.JSON if as_json else Format.TABLE
    if expired:
        list_expired(_load_nylas(), _load(settings.KafkaSettings), form)
    else:
        list_grants(_load_nylas(), _load(settings.KafkaSettings), _mailboxes(), form)


@main.group(invoke_without_command=True)
@_JSON
@click.pass_context
def org(context: click.Context, *, as_json: bool) -> None:
    """Shows the Salesforce org that this deployment writes to, and adopts another one.

    The first sink pins the ID of its org. With a login that leads to another org it ends with the
    exit code 88: what the deployment knows is true of one org only. The exit code of this command
    is 1 when the login leads to another org.
    """
    if context.invoked_subcommand is None:
        from streams.commands.org.command import show

        kafka = _load(settings.KafkaSettings)
        sys.exit(show(kafka, _load(settings.SalesforceSettings), as_json=as_json))


@org.command(name="adopt")
@_DRY_RUN
@_WHY
@_ACTOR
def org_adopt(*, dry_run: bool, why: str, actor: str | None) -> None:
    """Writes to the org that the login leads to from now on, as after the refresh of a sandbox.

    It has every contact offered again, and pins the new org. Sinks that knew the former org end,
    and the next one clears what is known of the records there. If it was interrupted, repeat it.
    """
    from streams.commands.org.command import adopt
    from streams.org import policy

    kafka, target = _load(settings.KafkaSettings), _load(settings.SalesforceSettings)
    people, sources = _load(settings.PeopleSettings), _load(settings.NylasSettings).sources
    with _report_unusable_settings():
        adopt(
            kafka,
            target,
            lambda: policy(target, people, sources),
            why=why,
            actor=actor,
            dry_run=dry_run,
        )


@grants.command(name="confirm")
@_WHY
@_ACTOR
@click.option("--dry-run", is_flag=True, help="List the grants that wait, and confirm nothing.")
def grants_confirm(*, why: str, actor: str | None, dry_run: bool) -> None:
    """Lets the contacts of deleted grants go that wait for a person.

    They wait when more grants were deleted within a day than the share READER_MAX_DELETE_SHARE.
    """
    from streams.commands.grants import confirm_deletions

    confirm_deletions(_load(settings.KafkaSettings), why, actor, dry_run=dry_run)


@main.group()
def topics() -> None:
    """Creates the Kafka topics, checks their policies, or alters them to match."""


@topics.command(name="create")
@click.option("--dry-run", is_flag=True, help="Print what would be created, and create nothing.")
def topics_create(*, dry_run: bool) -> None:
    """Creates the topics that are missing; existing ones stay as they are."""
    from streams.commands.topics import create_topics

    create_topics(_load(settings.KafkaSettings), dry_run=dry_run)


@topics.command(name="check")
def topics_check() -> None:
    """Compares the topics with their policies; the exit code is 1 when one differs.

    It is 79 when a topic has a number of partitions with which the stages do not start.
    """
    from streams.commands.topics import check_topics

    sys.exit(check_topics(_load(settings.KafkaSettings)))


@topics.command(name="alter")
@click.option("--dry-run", is_flag=True, help="Print what would be changed, and change nothing.")
def topics_alter(*, dry_run: bool) -> None:
    """Changes settings that differ from the policies; each is printed, old value -> new value.

    What may lose records, and partitions, replicas and missing topics, are not changed: they are
    printed with what to do. The exit code is 0 when nothing else is left, else that of `check`.
    --dry-run exits as the same command without it would.
    """
    from streams.commands.topics import alter_topics

    sys.exit(alter_topics(_load(settings.KafkaSettings), dry_run=dry_run))


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
    print_acls(_load(settings.KafkaSettings), roles or tuple(ROLES), shape, users)


@main.group(name="dedupe-state", invoke_without_command=True)
@click.pass_context
def dedupe_state(context: click.Context) -> None:
    """Moves dedupe to another generation: another group with another table.

    Without a subcommand it shows the generations, and which one is live. The steps are in
    deploy/runbooks/dedupe-generation.md.
    """
    if context.invoked_subcommand is None:
        from streams.commands.dedupe_state.command import show

        show(_load(settings.KafkaSettings))


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

    prepare(_load(settings.KafkaSettings), target, TableSource(made_of), execute=execute)


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

    switch(_load(settings.KafkaSettings), target, TableSource(made_of), execute=execute)


@main.group()
def simulate() -> None:
    """Simulators of Nylas and Salesforce, for demos and tests."""


_INITIAL_STATE = click.option(
    "--world",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON file with the initial state.",
)
_LISTEN = click.option(
    "--listen",
    default="127.0.0.1:0",
    show_default=True,
    help="host:port; port 0 takes a free port.",
)
_FEWEST_PEOPLE = click.IntRange(min=30)  # fewer are not enough for every kind of notification
_PEOPLE = click.option(
    "--people",
    type=_FEWEST_PEOPLE,
    help="Start with the data of the demo, with so many people, instead of a file.",
)
_SEED = click.option(
    "--seed", default=1, show_default=True, help="The same seed makes the same people."
)


def _refuse_two_states(world: Path | None, people: int | None) -> None:
    if world is not None and people is not None:
        raise click.UsageError("--world and --people are two initial states; give one of them")


@simulate.command(name="nylas")
@_LISTEN
@_INITIAL_STATE
@_PEOPLE
@_SEED
@click.option(
    "--webhook", "webhook_url", help="Send notifications to this URL. Only with --people."
)
@click.option(
    "--webhook-secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file with the secret that signs them, which the bridge has as well.",
)
def simulate_nylas(
    *,
    listen: str,
    world: Path | None,
    people: int | None,
    seed: int,
    webhook_url: str | None,
    webhook_secret_file: Path | None,
) -> None:
    """Simulates Nylas with grants, contacts and signed webhooks."""
    from connectors.nylas.simulator.app import serve
    from streams.demo.scenario import initial_data, webhook

    _refuse_two_states(world, people)
    host, _, port = listen.rpartition(":")
    if people is None:
        if webhook_url is not None:
            raise click.UsageError("--webhook goes with --people; a file of --world has its own")
        serve(host, int(port), world)
        return
    books, _org = initial_data(people, seed)
    if webhook_url is not None:
        if webhook_secret_file is None:
            raise click.UsageError("--webhook needs --webhook-secret-file")
        books |= webhook(webhook_url, webhook_secret_file.read_text().strip())
    serve(host, int(port), books)


@simulate.command(name="salesforce")
@_LISTEN
@_INITIAL_STATE
@_PEOPLE
@_SEED
def simulate_salesforce(*, listen: str, world: Path | None, people: int | None, seed: int) -> None:
    """Simulates a Salesforce org with Accounts, Contacts and Leads."""
    from connectors.salesforce.simulator.server import serve
    from streams.demo.scenario import initial_data

    _refuse_two_states(world, people)
    host, _, port = listen.rpartition(":")
    if people is None:
        serve(host, int(port), world)
        return
    _books, org = initial_data(people, seed)
    serve(host, int(port), org)


@simulate.command(name="notifications")
@click.option("--people", type=_FEWEST_PEOPLE, required=True, help="As for `simulate nylas`.")
@_SEED
def simulate_notifications(*, people: int, seed: int) -> None:
    """Has the simulated Nylas send the demo's live notifications.

    NYLAS_API_URL is the simulator's address. It was started with the same --people and --seed, and
    with --webhook. The command returns when every notification has been answered.
    """
    from streams.demo.notifications import send

    nylas = _load_nylas()
    sent = asyncio.run(send(nylas.api_url, nylas.api_key.get_secret_value(), people, seed))
    click.echo(f"{sent} notifications sent")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
@click.option("--stay", is_flag=True, help="Keep everything running, and print where to look.")
@click.option(
    "--people",
    type=_FEWEST_PEOPLE,
    default=2000,
    show_default=True,
    help="How many people the three address books hold.",
)
@_SEED
def demo(*, as_json: bool, stay: bool, people: int, seed: int) -> None:
    """Runs the whole product on this machine, without an account.

    Nylas and Salesforce are simulated. It reports what each stage did.
    """
    from streams.demo.runner import run

    sys.exit(asyncio.run(run(people=people, seed=seed, as_json=as_json, stay=stay)))


if __name__ == "__main__":
    main()
