"""The Prometheus that the demo starts: its configuration is one that promtool accepts."""

import shutil
import subprocess
from pathlib import Path

from streams.demo.watching import RULES, prometheus_config

STAGES = {"bridge": "http://127.0.0.1:1001", "sink": "http://127.0.0.1:1002"}


def test_promtool_accepts_the_configuration_with_the_rules(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not installed; on Debian: apt-get install prometheus"
    file = tmp_path / "prometheus.yml"
    file.write_text(prometheus_config(STAGES, RULES))
    checked = subprocess.run(
        [promtool, "check", "config", str(file)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "rules found" in checked.stdout


def test_every_stage_is_scraped() -> None:
    config = prometheus_config(STAGES, RULES)
    assert "127.0.0.1:1001" in config
    assert "127.0.0.1:1002" in config
