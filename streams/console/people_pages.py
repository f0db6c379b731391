"""Wires the pages that show what the console knows of people, grants and dead letters."""

from collections.abc import Callable

from connectors.salesforce.policy import Policy
from streams.console.audit_trail import AuditTrail
from streams.console.letter_actions import KafkaLetterActions
from streams.console.pages.dead_letters import DeadLettersPage
from streams.console.pages.grants import GrantsPage
from streams.console.pages.people import PeoplePage
from streams.console.pages.person import PersonPage
from streams.console.person_search import PersonSearch, topic_search
from streams.console.shell import Page, Shell
from streams.console.state.known import KnownState
from streams.settings import KafkaSettings
from streams.topics import topics

PEOPLE_ENTRIES = (PeoplePage.entry, GrantsPage.entry, DeadLettersPage.entry, PersonPage.entry)


def people_pages(
    shell: Shell,
    kafka: KafkaSettings,
    known: KnownState,
    policy: Callable[[], Policy],
    org_url: str,
    body_limit: int,
) -> list[Page]:
    """The pages in the order of PEOPLE_ENTRIES. `org_url` is Salesforce's, for links to records.

    `policy` makes the settings' policy about people; `body_limit` is that of the bridge, in bytes.
    """
    audit = AuditTrail(kafka)
    return [
        PeoplePage(shell, known.people, known.outcomes_topic, org_url),
        GrantsPage(
            shell, known.grants, known.people, (known.grants_topic, known.outcomes_topic), audit
        ),
        DeadLettersPage(
            shell,
            known.letters,
            known.people,
            (known.letters_topic, known.outcomes_topic),
            KafkaLetterActions(kafka, body_limit),
            topics(kafka),
        ),
        PersonPage(shell, PersonSearch(topic_search(kafka, policy)), audit, org_url),
    ]
