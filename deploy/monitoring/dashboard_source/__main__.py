"""Writes the dashboards: `python -m deploy.monitoring.dashboard_source --write` (`make docs`).

Without `--write` it prints the files that are out of date and exits with status 1.
"""

import argparse
import json
import sys
from pathlib import Path

from deploy.monitoring.dashboard_source import flow, match_and_coverage, nylas, overview, salesforce
from deploy.monitoring.dashboard_source.grafana import Json, dashboard, exceptions

FOLDER = Path(__file__).resolve().parent.parent / "dashboards"

SOURCES = {
    "overview": overview,
    "match-and-coverage": match_and_coverage,
    "flow": flow,
    "salesforce": salesforce,
    "nylas": nylas,
}

LINTER_FILE = ".lint"
"""Where Grafana's dashboard-linter looks for exceptions."""


def files() -> dict[str, str]:
    """The text of every generated file of deploy/monitoring/dashboards, by its name."""
    found = {
        f"{name}.json": _text(
            dashboard(source.UID, source.TITLE, source.DESCRIPTION, source.rows(), source.SINCE)
        )
        for name, source in SOURCES.items()
    }
    return found | {LINTER_FILE: _text({"exclusions": _exclusions()})}


def _exclusions() -> Json:
    rules: dict[str, Json] = {}
    for source in SOURCES.values():
        for rule, entry in exceptions(source.TITLE, source.rows()):
            rules.setdefault(rule, {"entries": []})["entries"].append(entry)
    return rules


def _text(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def stale() -> list[str]:
    """Names of the files that differ from what the source says."""
    return [
        name
        for name, text in files().items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text() != text
    ]


def main() -> int:
    """The command: writes the dashboards, or says which are out of date."""
    parser = argparse.ArgumentParser(description="Write the dashboards from their source.")
    parser.add_argument("--write", action="store_true", help="write what differs")
    write = parser.parse_args().write
    differing, texts = stale(), files()
    for name in differing:
        print(f"deploy/monitoring/dashboards/{name} {'written' if write else 'is out of date'}")
        if write:
            (FOLDER / name).write_text(texts[name])
    return 1 if differing and not write else 0


if __name__ == "__main__":
    sys.exit(main())
