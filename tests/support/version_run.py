"""Runs `contactstream` as if another version were installed: `version_run.py 0.9.0 reader`."""

import importlib.metadata
import sys

from click import Command


def main() -> None:
    """Takes the version off the arguments, and hands the others to the command."""
    pretended = sys.argv.pop(1)
    installed = importlib.metadata.version

    def version(distribution_name: str) -> str:
        return pretended if distribution_name == "contactstream" else installed(distribution_name)

    # Before the modules are imported that take the function from there.
    importlib.metadata.version = version
    from streams.cli import main as command

    assert isinstance(command, Command)
    command()


if __name__ == "__main__":
    main()
