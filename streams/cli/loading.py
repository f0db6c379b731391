"""Settings for the commands. What cannot be used is printed as one line, with exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import click

from streams import settings
from streams.contact_groups import GroupRule
from streams.mailboxes import MailboxRule

GroupT = TypeVar("GroupT", bound=settings.SettingsGroup)


class UnusableSetting(click.ClickException):
    """A setting that cannot be used: printed as one line, without a traceback.

    Its exit code, which is click's own for wrong options, says that a restart does not help.
    """

    exit_code = 2


@contextmanager
def report_unusable_settings() -> Iterator[None]:
    from connectors.salesforce.field_paths import MappingError
    from connectors.salesforce.suppression import SuppressionError

    try:
        yield
    except (settings.SettingsError, MappingError, SuppressionError) as error:
        raise UnusableSetting(str(error)) from error


def load(group: type[GroupT]) -> GroupT:
    with report_unusable_settings():
        return settings.load(group)


def mailbox_rule() -> MailboxRule:
    """Which mailboxes the settings select."""
    return MailboxRule(load(settings.PeopleSettings).mailboxes)


def group_rule(people: settings.PeopleSettings) -> GroupRule:
    """Which contact groups the settings select."""
    return GroupRule(people.groups, people.excluded_groups)


def load_nylas() -> settings.NylasSettings:
    """The settings of a process that calls Nylas, which needs an API key."""
    nylas = load(settings.NylasSettings)
    with report_unusable_settings():
        settings.require_api_key(nylas)
    return nylas
