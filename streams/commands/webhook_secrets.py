"""Where the commands of webhooks put a new secret: on the terminal, in a file, or in a Secret.

Nylas shows a secret once. So each place is checked before Nylas is asked for it, and says what to
do when it cannot be delivered.
"""

import base64
import binascii
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import click

from connectors.nylas.administration import Secret


class SecretPlace(Protocol):
    """Where a new secret goes."""

    @property
    def plan(self) -> str:
        """What would be done with it, for a dry run."""

    def check(self) -> None:
        """Raises click.ClickException when no secret could be put there."""

    def deliver(self, secret: Secret, *, only_one: bool) -> bool:
        """Puts it there, and says so on standard error; whether that worked.

        `only_one` says that the application has no other destination; see `with_secret`.
        """


def with_secret(file_text: str, secret: Secret, *, only_one: bool) -> str:
    """The text of a secrets file with a new secret put first, `secret # destination` a line.

    One older secret of the same destination is kept, because Nylas signs with the last two at most,
    and every secret of other destinations. A line without a destination belongs to this one if the
    application has `only_one`; otherwise it is kept.
    """
    ours = secret.destination.id
    lines = [f"{secret.value} # {ours}"]
    kept = 0
    for value, owner in _secret_lines(file_text):
        if value == secret.value:
            continue
        if owner == ours or (not owner and only_one):
            kept += 1
            if kept > 1:
                continue
        lines.append(f"{value} # {owner}" if owner else value)
    return "\n".join(lines) + "\n"


def _secret_lines(file_text: str) -> Iterator[tuple[str, str]]:
    """Each secret of a file, and its destination; empty where the file does not say it."""
    for line in file_text.splitlines():
        values, _, owner = line.partition(" #")
        for value in values.split(","):
            if value.strip():
                yield value.strip(), owner.strip()


@dataclass(frozen=True, slots=True)
class Printed:
    """Standard output, for a person or the next program."""

    plan: str = "printed"

    def check(self) -> None:
        """Nothing can go wrong."""

    def deliver(self, secret: Secret, *, only_one: bool) -> bool:
        """Prints the secret alone on standard output."""
        click.echo(secret.value)
        click.echo("put it first in NYLAS_WEBHOOK_SECRETS; Nylas does not show it again", err=True)
        return True


@dataclass(frozen=True, slots=True)
class SecretFile:
    """The file that NYLAS_WEBHOOK_SECRETS_FILE names."""

    path: Path

    @property
    def plan(self) -> str:
        """What would be done, for a dry run."""
        return f"written to {self.path}, before the old one"

    def check(self) -> None:
        """Refuses a file that cannot be replaced by one of the same owner."""
        file = self.path.resolve()
        if not os.access(file.parent, os.W_OK) or (
            file.exists() and not os.access(file, os.R_OK | os.W_OK)
        ):
            raise click.ClickException(f"{file} cannot be written")
        if not file.exists() or os.geteuid() == 0:
            return
        old = file.stat()
        if old.st_uid != os.geteuid() or old.st_gid not in {os.getegid(), *os.getgroups()}:
            raise click.ClickException(
                f"{file} belongs to user {old.st_uid} and group {old.st_gid}, which would be lost: "
                "run this command as that user, or without --secret-file and put the secret in by "
                "hand"
            )

    def deliver(self, secret: Secret, *, only_one: bool) -> bool:
        """Writes the secret to the file, or prints it as a last resort."""
        try:
            self._write(secret, only_one=only_one)
        except (OSError, UnicodeError) as error:
            click.echo(secret.value)
            click.echo(
                f"{self.path} could not be written ({error}). The line above is the new secret, "
                "and Nylas does not show it again: put it into the file by hand, as its first line",
                err=True,
            )
            return False
        click.echo(self.plan, err=True)
        return True

    def _write(self, secret: Secret, *, only_one: bool) -> None:
        """Puts it first. The file keeps its mode, owner and group; a new one is ours alone."""
        file = self.path.resolve()  # a link stays a link
        old = file.stat() if file.exists() else None
        text = with_secret(file.read_text() if old else "", secret, only_one=only_one)
        new_file = file.with_name(file.name + ".new")
        new_file.unlink(missing_ok=True)
        descriptor = os.open(new_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as out:
            if old is not None:
                made = os.fstat(descriptor)
                if (old.st_uid, old.st_gid) != (made.st_uid, made.st_gid):
                    os.fchown(descriptor, old.st_uid, old.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode))  # after fchown: it may clear bits
            out.write(text)
            out.flush()
            os.fsync(descriptor)  # a full disk may be reported only here
        # Atomic, so that a bridge that reads the file meanwhile finds the old secrets or all.
        new_file.replace(file)


@dataclass(frozen=True, slots=True)
class KubernetesSecret:
    """A Secret of Kubernetes, printed with the new secret for `kubectl replace`.

    The pods have no rights at the API of Kubernetes. So the operator's own kubectl reads the Secret
    and puts it back, and the values pass through pipes alone. The resource version goes along: what
    somebody else changed meanwhile is not overwritten.
    """

    manifest: dict[str, Any]
    """The present Secret, as `kubectl get --output json` prints it."""
    key: str
    """The key whose value is the text of a secrets file."""

    @property
    def plan(self) -> str:
        """What would be done, for a dry run."""
        metadata = self.manifest["metadata"]
        place = f"{metadata.get('namespace', 'default')}/{metadata['name']}"
        return f"printed in the Secret {place}, key {self.key}, before the old one"

    def check(self) -> None:
        """Nothing is left to check: see `present_secret`."""

    def deliver(self, secret: Secret, *, only_one: bool) -> bool:
        """Prints the Secret with the new one put first."""
        data = self.manifest["data"]
        text = with_secret(_decoded(data[self.key]), secret, only_one=only_one)
        value = base64.b64encode(text.encode()).decode()
        rotate = f"contactstream webhooks rotate {secret.destination.id}"
        again = f"{rotate} --kubernetes-secret {self.key}"
        try:
            click.echo(json.dumps(self.manifest | {"data": data | {self.key: value}}))
        except OSError as error:
            click.echo(
                f"the Secret could not be printed ({error}), and Nylas does not show the new "
                f"secret again. For another one run: {again}",
                err=True,
            )
            return False
        click.echo(
            f"{self.plan}. If kubectl does not say `replaced`, the new secret is lost: run {again}",
            err=True,
        )
        return True


def present_secret(text: str, key: str) -> KubernetesSecret:
    """The Secret that `kubectl get secret NAME --output json` printed.

    Raises click.UsageError, with the remedy, for what is none, for a key that it does not have, and
    for a Secret that would not stay as it is put back.
    """
    if not text.strip():
        raise click.UsageError(
            "standard input is empty: pipe `kubectl get secret NAME --output json` into this "
            "command, and run it by `kubectl exec --stdin`"
        )
    try:
        manifest = json.loads(text)
    except json.JSONDecodeError as error:
        raise click.UsageError(
            f"standard input is no JSON ({error}): pipe `kubectl get secret NAME --output json` "
            "into this command"
        ) from None
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    if kind != "Secret":
        raise click.UsageError(
            f"standard input is {kind or 'no object of Kubernetes'}, and not one Secret: pipe "
            "`kubectl get secret NAME --output json` into this command"
        )
    name, data = manifest["metadata"]["name"], manifest.get("data") or {}
    if key not in data:
        close = get_close_matches(key, data, 1)
        hint = f"did you mean {close[0]}?" if close else f"it has: {', '.join(data) or 'none'}"
        raise click.UsageError(f"the Secret {name} has no key {key}; {hint}")
    if manifest.get("immutable"):
        raise click.UsageError(
            f"the Secret {name} is immutable: make one of another name, or use --secret-file"
        )
    owners = manifest["metadata"].get("ownerReferences") or ()
    if owners:
        raise click.UsageError(
            f"the Secret {name} is made by {owners[0]['kind']} {owners[0]['name']}, which would "
            "put the old value back: use --secret-file, and change it where that takes it from"
        )
    try:
        _decoded(data[key])
    except (binascii.Error, UnicodeError) as error:
        raise click.UsageError(f"the key {key} of the Secret {name} is no text: {error}") from None
    return KubernetesSecret(manifest, key)


def _decoded(value: str) -> str:
    return base64.b64decode(value, validate=True).decode()
