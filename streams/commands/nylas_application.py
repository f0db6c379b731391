"""The Nylas application of the settings, as the webhook and grant commands call it."""

from collections.abc import Callable
from typing import TypeVar

import click

from connectors.nylas.administration import Administration
from connectors.nylas.errors import NylasError
from streams.settings import NylasSettings

AnswerT = TypeVar("AnswerT")


def administration(nylas: NylasSettings) -> Administration:
    """A client for the application whose API key the settings hold."""
    return Administration(nylas.api_url, nylas.api_key.get_secret_value())


def call(request: Callable[[], AnswerT]) -> AnswerT:
    """The answer to a request. Blocks. Raises click.ClickException when Nylas refuses it."""
    try:
        return request()
    except NylasError as error:
        raise click.ClickException(str(error)) from error
