"""Who runs a command, for the audit."""

import contextlib
import getpass
import os
import socket

import click


def actor_name(given: str | None) -> str:
    """The name of `--actor`, or else the user of the operating system and the machine's name.

    Raises click.UsageError in a pod, whose user is nobody's name, and where there is no user name.
    """
    if given is not None and given.strip():
        return given.strip()
    if given is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        # A user ID without a name has none here either, and for podman it is its own name.
        with contextlib.suppress(KeyError, OSError):
            user = getpass.getuser()
            if not user.isdecimal():
                return f"{user}@{socket.gethostname()}"
    raise click.UsageError("say who you are with --actor NAME: the operating system does not")
