"""Commands that show how things are, or what would be written. They change nothing."""

import sys
from pathlib import Path

import click

from streams import settings
from streams.cli.loading import load, mailbox_rule, report_unusable_settings
from streams.cli.options import ACTOR, JSON, WHY
from streams.cli.root import main


@main.command()
@JSON
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
@JSON
def status(*, watch: bool, as_json: bool) -> None:
    """Shows how everything is now: stages, lag, outcomes, calls, dead letters and runs.

    What needs a person comes first, with what to do. The exit code is 1 when something does, so
    that a scheduled job can tell somebody.
    """
    from streams.commands.status.command import run

    org, mailboxes = load(settings.SalesforceSettings), mailbox_rule()
    kafka, sink = load(settings.KafkaSettings), load(settings.SinkSettings)
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
@JSON
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

    org = load(settings.SalesforceSettings)
    kafka = load(settings.KafkaSettings)
    try:
        allowed = policy(org, load(settings.PeopleSettings), load(settings.NylasSettings).sources)
        run(org, allowed, kafka, file, since, as_json=as_json, mode=mode_name)
    except PlanError as error:
        raise click.ClickException(str(error)) from error
    except (settings.SettingsError, SalesforceError, MappingError) as error:
        raise click.ClickException(f"{error}\nSee: contactstream doctor") from error


@main.command()
@JSON
def review(*, as_json: bool) -> None:
    """Lists the contacts about which a person has to decide.

    A covered contact has its primary address on the record of another person. An ambiguous one has
    a name that fits several people. contactstream writes nothing for either.

    Each is listed with its contact key (grant_id/contact_id), the IDs of the records, and the time
    since when it waits. Names and addresses are not printed.
    """
    from streams.commands.review import run

    run(load(settings.KafkaSettings), as_json=as_json)


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
@ACTOR
@WHY
@JSON
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
    run(load(settings.KafkaSettings), wanted, options)


@main.command()
@JSON
def audit(*, as_json: bool) -> None:
    """Lists who did what by a command, when and why. It is kept for 400 days."""
    from streams.commands.audit import run

    run(load(settings.KafkaSettings), as_json=as_json)


@main.command()
@click.argument("subject")
@JSON
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

    org = load(settings.SalesforceSettings)
    with report_unusable_settings():
        allowed = policy(org, load(settings.PeopleSettings), load(settings.NylasSettings).sources)
    sys.exit(run(load(settings.KafkaSettings), allowed, org.login_url, subject, as_json=as_json))
