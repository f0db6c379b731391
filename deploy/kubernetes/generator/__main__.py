"""Writes the generated manifests: `python -m deploy.kubernetes.generator --write` (`make docs`).

Without `--write` it prints the files that are out of date and exits with status 1.
"""

import argparse
import sys
from pathlib import Path

from deploy.kubernetes.generator.chart import KUBERNETES, templates
from deploy.kubernetes.generator.manifests import NoKustomize, dump
from deploy.kubernetes.generator.rules import prometheus_rule
from deploy.kubernetes.generator.topics import kafka_topics
from deploy.kubernetes.generator.users import kafka_users

CHART = KUBERNETES.parent / "helm" / "templates"
RULES = KUBERNETES / "components" / "prometheus-operator" / "rules.yaml"
TOPICS = KUBERNETES / "components" / "strimzi" / "topics.yaml"
USERS = KUBERNETES / "components" / "strimzi" / "users.yaml"

HEADER = "# Written by `make docs` from {source}.\n"


def objects() -> dict[Path, str]:
    """The text of each file with objects of an operator."""
    return {
        RULES: HEADER.format(source="deploy/monitoring/rules") + dump([prometheus_rule()]),
        TOPICS: HEADER.format(source="streams/topics.py") + dump(kafka_topics()),
        USERS: HEADER.format(source="streams/acls.py") + dump(kafka_users()),
    }


def chart() -> dict[Path, str]:
    """The text of each template of the chart. The files of `objects` have to be up to date."""
    return {CHART / name: text for name, text in templates().items()}


def stale(files: dict[Path, str]) -> list[Path]:
    """The files that differ from what they should be."""
    return [path for path, text in files.items() if not path.is_file() or path.read_text() != text]


def main() -> int:
    """The command: writes the files, or says which are out of date."""
    parser = argparse.ArgumentParser(description="Write the generated manifests.")
    parser.add_argument("--write", action="store_true", help="write what differs")
    write = parser.parse_args().write
    differing = False
    for make in (objects, chart):
        try:
            files = make()
        except NoKustomize as error:
            print(error, file=sys.stderr)
            return 1
        for path in stale(files):
            differing = True
            shown = path.relative_to(KUBERNETES.parents[1])
            print(f"{shown} {'written' if write else 'is out of date'}")
            if write:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(files[path])
    return 1 if differing and not write else 0


if __name__ == "__main__":
    sys.exit(main())
