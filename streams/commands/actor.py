"""Who runs a command, for the audit."""

import getpass
import os
import socket

import click


def actor(given: str | None) -> str:
    """The name of `--actor`, or else the user of the operating system and the machine's name.

    Raises click.UsageError in a pod, whose user is nobody's name, and where there is no user name.
    """
    if given and given.strip():
        return given.strip()
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        raise click.UsageError("in a pod nobody knows who you are: give --actor YOUR_NAME")
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError) as error:
        raise click.UsageError("this user has no name: give --actor YOUR_NAME") from error
