"""What a run of the benchmarks ran on: the machine and the versions."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import confluent_kafka
import psutil

from deploy.local.broker import KAFKA
from tests.support.paths import ROOT

# Those of which the stages and their baselines are made.
PACKAGES = ("aiohttp", "uvloop", "confluent-kafka", "faust-streaming", "aiokafka", "orjson")

# A short-lived program that prints its version.
VERSION_SECONDS = 30.0


def machine() -> dict[str, str]:
    """The processor, the memory, the system, and how busy they were just now."""
    busy = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return {
        "processor": f"{_processor()}, {psutil.cpu_count()} cores for everything",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "load average before (1, 5, 15 minutes)": busy,
    }


def versions() -> dict[str, str]:
    """The versions of the code, of its packages, of Kafka and of wrk."""
    return {
        "contactstream": _printed("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "Python": platform.python_version(),
        "Apache Kafka": KAFKA,
        "librdkafka": confluent_kafka.libversion()[0],
        **{name: version(name) for name in PACKAGES},
        "wrk": _printed("wrk", "--version").removeprefix("wrk ").split(" ")[0],
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _printed(*command: str) -> str:
    """The first line that a program prints; wrk prints its version with an exit status of 1."""
    if shutil.which(command[0]) is None:
        return "not installed"
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=VERSION_SECONDS
    )
    return (ran.stdout or ran.stderr).partition("\n")[0].strip() or "unknown"
