"""Reads and writes manifests: objects of the Kubernetes API, as YAML."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
"""An object of the Kubernetes API."""

# An overlay takes less than a second; a machine that does other things takes longer.
RENDER_SECONDS = 60

LINE_WIDTH = 80


class NoKustomize(RuntimeError):
    """Neither kubectl nor kustomize is installed, or it is too old. The text has the remedy."""


def kustomize_command() -> list[str]:
    """The command that renders a kustomization. Raises NoKustomize."""
    if program := shutil.which("kustomize"):
        return [program, "build"]
    if program := shutil.which("kubectl"):
        return [program, "kustomize"]
    raise NoKustomize(
        "rendering needs kubectl 1.27 or newer, or kustomize 5: install one of them, or run "
        "`go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1` and put Go's bin folder into PATH"
    )


def render(overlay: Path) -> list[Manifest]:
    """The objects of an overlay. Blocks. Raises NoKustomize, and ValueError for a wrong overlay."""
    command = kustomize_command()
    done = subprocess.run(  # noqa: S603  the program is kubectl or kustomize, the folder is ours
        [*command, str(overlay)],
        capture_output=True,
        text=True,
        check=False,
        timeout=RENDER_SECONDS,
    )
    if done.returncode:
        raise ValueError(f"{' '.join(command)} {overlay}: {done.stderr.strip()}")
    return parse(done.stdout)


def parse(text: str) -> list[Manifest]:
    """The objects of a YAML file with several documents."""
    return [each for each in yaml.safe_load_all(text) if each]


class _Dumper(yaml.SafeDumper):
    """Writes each text of several lines as it is, and everything in full each time."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump(manifests: Iterable[Manifest]) -> str:
    """The objects as YAML, in their order."""
    return "---\n".join(
        yaml.dump(each, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=LINE_WIDTH)
        for each in manifests
    )


_HASH = re.compile(r"-[0-9a-z]{10}$")


def without_hash(name: str) -> str:
    """The name of a ConfigMap or Secret without what kustomize appends for its content."""
    return _HASH.sub("", name)
