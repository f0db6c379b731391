"""The command line: `contactstream COMMAND`, each command a process of its own.

A command imports the code that does its work when it runs, so that `--help` is quick.
"""

from streams.cli import (  # noqa: F401 each adds its commands to `main`
    deployment,
    inspection,
    nylas,
    people,
    reprocessing,
    runs,
    selection,
    simulation,
    stages,
    stops,
)
from streams.cli.loading import UnusableSetting
from streams.cli.root import PROCESSES, STAGES, main

__all__ = ["PROCESSES", "STAGES", "UnusableSetting", "main"]
