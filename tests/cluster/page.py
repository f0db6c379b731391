"""The commands of deploy/docs/kubernetes.md, run as they stand there.

What a reader replaces is replaced: the folder of the overlay, the public address, an ID. A command
that the page gains is run without a change here.
"""

import os
import re
import subprocess
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.kubectl import ROLLOUT_SECONDS, ClusterError
from tests.support.paths import ROOT

PAGE = ROOT / "deploy" / "docs" / "kubernetes.md"

FENCE = re.compile(r"^( *)```\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(section: str) -> list[str]:
    """The blocks of commands below a heading of the page, in their order."""
    _, found, rest = PAGE.read_text().partition(f"\n## {section}\n")
    assert found, f"{PAGE.name} has no section {section}"
    text, _, _ = rest.partition("\n## ")
    return [textwrap.dedent(block) for _, block in FENCE.findall(text)]


def block(section: str, words: str) -> str:
    """The only block below a heading that has these words."""
    (found,) = (each for each in blocks(section) if words in each)
    return found


@dataclass(frozen=True, slots=True)
class Desk:
    """The folder in which an operator works: `deploy` of the checkout, and the files of secrets."""

    folder: Path
    replaced: Mapping[str, str]
    """What the reader of the page puts in the place of what."""

    def set_up(self, kubeconfig: str, files: Mapping[str, str]) -> None:
        """Makes the folder. Its kubectl remembers a namespace of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "kubeconfig").write_text(Path(kubeconfig).read_text())
        (self.folder / "kubeconfig").chmod(0o600)
        if not (self.folder / "deploy").is_symlink():
            (self.folder / "deploy").symlink_to(ROOT / "deploy")
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def run(self, commands: str, seconds: float = 3 * ROLLOUT_SECONDS) -> str:
        """Runs a block of the page and returns what it prints. Raises ClusterError."""
        for known, own in self.replaced.items():
            commands = commands.replace(known, own)
        began = time.monotonic()
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=os.environ | {"KUBECONFIG": str(self.folder / "kubeconfig")},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        took = time.monotonic() - began
        print(f"\n[{took:.0f} s, exit code {ended.returncode}]\n{textwrap.indent(commands, '$ ')}")
        if ended.returncode:
            raise ClusterError(f"{commands}\n{ended.stdout}{ended.stderr}")
        return ended.stdout
