"""The Nylas application of the settings, as the webhook and grant commands call it."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import click

from connectors.nylas.administration import Administration
from connectors.nylas.errors import NylasError
from connectors.nylas.sign_in import sign_in_link
from streams.settings import NylasSettings

AnswerT = TypeVar("AnswerT")


def administration(nylas: NylasSettings) -> Administration:
    """A client for the application whose API key the settings hold."""
    return Administration(nylas.api_url, nylas.api_key.get_secret_value())


def missing_for_links(nylas: NylasSettings) -> list[str]:
    """The settings that links for a new sign-in need and that are not set."""
    needed = {"NYLAS_CLIENT_ID": nylas.client_id, "NYLAS_REDIRECT_URI": nylas.redirect_uri}
    return [setting for setting, value in needed.items() if not value]


def sign_in_links(nylas: NylasSettings) -> Callable[[str, str], str]:
    """The link for a new sign-in, by provider and address; empty while a setting is missing."""
    if missing_for_links(nylas):
        return lambda _provider, _address: ""
    return partial(sign_in_link, nylas.api_url, nylas.client_id, nylas.redirect_uri)


def call(request: Callable[[], AnswerT]) -> AnswerT:
    """The answer to a request. Blocks. Raises click.ClickException when Nylas refuses it."""
    try:
        return request()
    except NylasError as error:
        raise click.ClickException(str(error)) from error
