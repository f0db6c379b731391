"""The commands that are processes of a deployment: the four stages and the console."""

import sys

import structlog

from streams import settings
from streams.cli.loading import group_rule, load, load_nylas, report_unusable_settings
from streams.cli.root import main
from streams.mailboxes import MailboxRule
from streams.runtime import logs

log = structlog.get_logger()


def _start_stage(stage: str) -> settings.ProcessSettings:
    """Configures the log of a stage, and returns the settings that every stage has."""
    process = load(settings.ProcessSettings)
    logs.configure(process, stage)
    for unknown in settings.unknown_variables():
        log.warning("unknown variable", detail=unknown)
    return process


@main.command()
def bridge() -> None:
    """Receives webhooks and publishes them to contacts.events."""
    from streams.bridge.process import run

    process = _start_stage("bridge")
    with report_unusable_settings():
        sys.exit(
            run(
                load(settings.KafkaSettings),
                process,
                load(settings.NylasSettings),
                load(settings.BridgeSettings),
            )
        )


@main.command()
def reader() -> None:
    """Reads address books and single contacts from Nylas."""
    from streams.org import exclusions
    from streams.reader.process import run

    process = _start_stage("reader")
    people = load(settings.PeopleSettings)
    with report_unusable_settings():
        nylas = load_nylas()
        sys.exit(
            run(
                load(settings.KafkaSettings),
                process,
                nylas,
                load(settings.ReaderSettings),
                MailboxRule(people.mailboxes),
                people.derives_own_domains,
                group_rule(people),
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
    with report_unusable_settings():
        people, sources = load(settings.PeopleSettings), load(settings.NylasSettings).sources
        allowed = policy(load(settings.SalesforceSettings), people, sources)
        sys.exit(
            run(
                load(settings.KafkaSettings),
                process,
                load(settings.DedupeSettings),
                allowed,
                MailboxFilter(
                    MailboxRule(people.mailboxes),
                    people.derives_own_domains,
                    group_rule(people),
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
    with report_unusable_settings():
        org = load(settings.SalesforceSettings)
        credentials(org)
        people = load(settings.PeopleSettings)
        allowed = policy(org, people, load(settings.NylasSettings).sources)
        sys.exit(
            run(
                load(settings.KafkaSettings),
                process,
                org,
                allowed,
                load(settings.SinkSettings),
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
    with report_unusable_settings():
        sys.exit(run(load(settings.KafkaSettings), process, load(settings.ConsoleSettings)))
