"""Starts what `contactstream demo --stay` is watched with: the console and Prometheus."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from streams.demo.processes import REPOSITORY, START_SECONDS, ProcessGroup

RULES = REPOSITORY / "deploy" / "monitoring" / "rules"

# A demo is watched from its first minute on; 15 s is usual.
SCRAPE_SECONDS = 5


def prometheus_config(stages: Mapping[str, str], rules: Path) -> str:
    """The configuration of a Prometheus that scrapes these stages, by the URL of each.

    JSON, which every reader of YAML reads.
    """
    targets = [
        {"targets": [urlsplit(url).netloc], "labels": {"stage_process": name}}
        for name, url in stages.items()
    ]
    interval = f"{SCRAPE_SECONDS}s"
    return json.dumps(
        {
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": [str(rules / "*.yml")],
            "scrape_configs": [{"job_name": "contactstream", "static_configs": targets}],
        },
        indent=2,
    )


async def start_watching(processes: ProcessGroup) -> Mapping[str, str]:
    """Starts the console, and Prometheus where it is installed; returns the URL of each.

    Raises DemoFailed when one of them does not start.
    """
    from deploy.local.broker import free_ports

    console_port, console_ops, prometheus_port = free_ports(3)
    stages = dict(processes.ops_urls)
    found = {"console": f"http://127.0.0.1:{console_port}"}
    if program := shutil.which("prometheus"):
        found["prometheus"] = f"http://127.0.0.1:{prometheus_port}"
        config = processes.folder / "prometheus.yml"
        console_url = f"http://127.0.0.1:{console_ops}"
        config.write_text(prometheus_config({**stages, "console": console_url}, RULES))
        await processes.start(
            "prometheus",
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={processes.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{prometheus_port}",
        )
        await _wait_answered(processes, f"{found['prometheus']}/-/ready", "prometheus")
    environ = {
        "CONSOLE_LISTEN": f"127.0.0.1:{console_port}",
        "CONSOLE_STAGES": ",".join(_addresses(stages.values())),
        "CONSOLE_PROMETHEUS_URL": found.get("prometheus", ""),
    }
    await processes.start_stage("console", console_ops, environ)
    await processes.wait_ready()
    return found


def _addresses(urls: Iterable[str]) -> Iterable[str]:
    return (urlsplit(url).netloc for url in urls)


async def _wait_answered(processes: ProcessGroup, url: str, name: str) -> None:
    await processes.wait_until(
        lambda: processes.answers(url), START_SECONDS, f"{name} does not answer"
    )
