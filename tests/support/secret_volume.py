"""A folder that changes as the volume of a Kubernetes Secret does: all files at one instant.

As the kubelet does it: https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/volume/util/
atomic_writer.go. Each key is a link to `..data/KEY`, `..data` is a link to a folder of its own for
each version, and a new version replaces that link by a rename.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


class SecretVolume:
    """The mounted volume of a Secret."""

    def __init__(self, folder: Path, values: Mapping[str, str]) -> None:
        self.folder = folder
        self._versions = 0
        folder.mkdir()
        self.write(values)

    def path(self, key: str) -> str:
        """The file of a key, as a setting names it."""
        return str(self.folder / key)

    def write(self, values: Mapping[str, str]) -> None:
        """Replaces the whole Secret. The keys stay the same."""
        data = self.folder / "..data"
        before = data.resolve() if data.is_symlink() else None
        self._versions += 1
        version = self.folder / f"..2026_11_30_12_00_00.{self._versions:09}"
        version.mkdir()
        for key, value in values.items():
            (version / key).write_text(value)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        os.replace(link, data)
        for key in values:
            file = self.folder / key
            if not file.is_symlink():
                file.symlink_to(Path("..data") / key)
        if before is not None:
            shutil.rmtree(before)
