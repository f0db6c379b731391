"""Wires the pages that show what the console knows of people, grants and dead letters."""

import click

from connectors.salesforce.field_paths import MappingError
from connectors.salesforce.policy import Policy
from connectors.salesforce.suppression import SuppressionError
from streams.console.audit_trail import AuditTrail
from streams.console.letter_actions import KafkaLetterActions
from streams.console.pages.dead_letters import DeadLettersPage
from streams.console.pages.grants import GrantsPage
from streams.console.pages.people import PeoplePage
from streams.console.pages.person import PersonPage
from streams.console.person_search import PersonSearch, topic_search
from streams.console.releasing import KafkaReleasing
from streams.console.shell import Page, Shell
from streams.console.state.known import KnownState
from streams.mailboxes import MailboxRule
from streams.org import policy
from streams.settings import (
    BridgeSettings,
    KafkaSettings,
    NylasSettings,
    PeopleSettings,
    SalesforceSettings,
    SettingsError,
    load,
)
from streams.topics import topics

PEOPLE_ENTRIES = (PeoplePage.entry, GrantsPage.entry, DeadLettersPage.entry, PersonPage.entry)


def people_pages(shell: Shell, kafka: KafkaSettings, known: KnownState) -> list[Page]:
    """The pages in the order of PEOPLE_ENTRIES. Raises SettingsError."""
    org_url, body_limit = load(SalesforceSettings).login_url, load(BridgeSettings).body_limit
    audit = AuditTrail(kafka)
    return [
        PeoplePage(shell, known.people, known.outcomes_topic, org_url, KafkaReleasing(kafka)),
        GrantsPage(
            shell,
            known.grants,
            known.people,
            known.control,
            (known.grants_topic, known.outcomes_topic, known.control_topic),
            audit,
            load(NylasSettings),
            MailboxRule(load(PeopleSettings).mailboxes),
        ),
        DeadLettersPage(
            shell,
            known.letters,
            known.people,
            (known.letters_topic, known.outcomes_topic),
            KafkaLetterActions(kafka, body_limit),
            topics(kafka),
        ),
        PersonPage(shell, PersonSearch(topic_search(kafka, people_policy)), audit, org_url),
    ]


def people_policy() -> Policy:
    """Whom the settings leave out. Raises click.ClickException where they cannot be used."""
    try:
        return policy(load(SalesforceSettings), load(PeopleSettings), load(NylasSettings).sources)
    except (SettingsError, MappingError, SuppressionError) as error:
        raise click.ClickException(str(error)) from error
