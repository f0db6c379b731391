"""Generates the tables of the documents from the code, and reads documents for the tests.

`python -m tests.support.docs --write` (`make docs`) writes every generated table into its document.
Without `--write` it prints the documents that are out of date and exits with status 1.
"""

import argparse
import ast
import io
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from rich.console import Console

from streams.acls import ROLES
from streams.commands.acls import Users, table_lines
from streams.demo.report import table
from streams.metrics import (
    BridgeMetrics,
    ConsoleMetrics,
    DedupeMetrics,
    ProcessMetrics,
    ReaderMetrics,
    SinkMetrics,
)
from streams.runtime.ops import Health
from streams.settings import KafkaSettings, load, reference
from streams.topics import topics
from tests.support.data_map import data_fields, data_places, nylas_scopes, salesforce_permissions
from tests.support.paths import ROOT
from tests.support.stop_bounds import grace_periods

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class GeneratedBlock:
    """A part of a document between `<!-- mark -->` and `<!-- /mark -->` that is generated."""

    document: str
    """Path of the document, relative to the repository."""
    mark: str
    text: Callable[[], str]


def block(document: str, mark: str) -> str:
    """The text of a document between its two marks. Raises ValueError when a mark is missing."""
    text = (ROOT / document).read_text()
    _, opening, rest = text.partition(f"<!-- {mark} -->")
    found, closing, _ = rest.partition(f"<!-- /{mark} -->")
    if not (opening and closing):
        raise ValueError(f"{document} has no block <!-- {mark} --> ... <!-- /{mark} -->")
    return found.strip()


def write_block(document: str, mark: str, new: str) -> None:
    """Replaces the text of a document between its two marks."""
    path = ROOT / document
    block(document, mark)  # raises when a mark is missing
    before, _, rest = path.read_text().partition(f"<!-- {mark} -->")
    _, _, after = rest.partition(f"<!-- /{mark} -->")
    path.write_text(f"{before}<!-- {mark} -->\n{new}\n<!-- /{mark} -->{after}")


def topic_policies() -> str:
    """The table of the topics' policies, with the default settings."""
    lines = [
        "| topic | partitions | policy | kept for | a replaced record stays | `segment.ms` | "
        "largest record | `min.insync.replicas` |",
        "|---|---|---|---|---|---|---|---|",
    ]
    kafka = load(KafkaSettings, {})
    for topic in topics(kafka).all():
        config = topic.config
        many = topic.partitions == kafka.events_partitions
        if config["cleanup.policy"] == "delete":
            kept, replaced = _duration(config["retention.ms"]), ""
        else:
            kept = "the newest record of each key"
            if "delete" in config["cleanup.policy"]:
                kept += f", for {_duration(config['retention.ms'])}"
            shortest, longest = config["min.compaction.lag.ms"], config["max.compaction.lag.ms"]
            from_then = "up" if shortest == "0" else _duration(shortest)
            replaced = f"{from_then} to {_duration(longest)}"
        largest = config.get("max.message.bytes")
        cells = (
            f"`{topic.name}`",
            "`KAFKA_EVENTS_PARTITIONS`" if many else str(topic.partitions),
            config["cleanup.policy"],
            kept,
            replaced,
            _duration(config["segment.ms"]),
            f"{int(largest) // 1024**2} MB" if largest else "the cluster's default",
            config["min.insync.replicas"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _duration(milliseconds: str) -> str:
    """A setting in milliseconds in days, or in hours if it is less than a day."""
    days, rest = divmod(int(milliseconds), DAY_MS)
    number, unit = (int(milliseconds) // HOUR_MS, "hour") if rest else (days, "day")
    return f"{number} {unit}{'' if number == 1 else 's'}"


def metrics_reference() -> str:
    """The tables of every metric, one for each stage."""
    stages: dict[str, Callable[[CollectorRegistry], object]] = {
        "every process": lambda registry: ProcessMetrics(registry, "sink", Health(1.0)),
        "bridge": BridgeMetrics,
        "reader": ReaderMetrics,
        "dedupe": DedupeMetrics,
        "sink": SinkMetrics,
        "console": ConsoleMetrics,
    }
    parts = []
    for stage, metrics in stages.items():
        declared = vars(metrics(CollectorRegistry())).values()
        lines = [f"## {stage}", "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
        lines += sorted(_metric(each) for each in declared if isinstance(each, MetricWrapperBase))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _metric(metric: Any) -> str:
    name = metric._name + ("_total" if metric._type == "counter" else "")
    labels = []
    for label in metric._labelnames:
        values = list(metric._metrics) if len(metric._labelnames) == 1 else []
        known = ", ".join(f"`{value}`" for (value,) in values if len(values) > 1)
        labels.append(f"`{label}`" + (f": {known}" if known else ""))
    return f"| `{name}` | {metric._type} | {'; '.join(labels)} | {metric._documentation} |"


def module_map(package: str) -> str:
    """A table of every module of a package with the first sentence of its docstring."""
    lines = ["| module | what it holds |", "|---|---|"]
    folder = ROOT / package
    for path in sorted(folder.rglob("*.py"), key=lambda path: _order(path.relative_to(folder))):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        name = path.relative_to(folder)
        if name.name != "__init__.py":
            lines.append(f"| `{name.as_posix()}` | {first_sentence(docstring)} |")
        elif name.parent != Path():
            lines.append(f"| **`{name.parent.as_posix()}/`** | {first_sentence(docstring)} |")
    return "\n".join(lines)


def _order(path: Path) -> tuple[tuple[str, ...], bool, str]:
    """Folders after the files beside them, and of a folder its `__init__` first."""
    return path.parts[:-1], path.name != "__init__.py", path.name


def first_sentence(docstring: str) -> str:
    """The first sentence of a docstring on one line, without what would end a table's cell."""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0].replace("|", r"\|")


def kafka_acls() -> str:
    """The table of the least ACLs of each role, with the default settings."""
    return "\n".join(table_lines(load(KafkaSettings, {}), tuple(ROLES), Users("contactstream-")))


def import_rules() -> str:
    """The contracts of import-linter as a list; of layers each may import those below it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = []
    for contract in project["tool"]["importlinter"]["contracts"]:
        lines.append(f"- {contract['name'][0].upper()}{contract['name'][1:]}.")
        for number, layer in _layers(contract):
            lines += textwrap.wrap(
                layer, 100, initial_indent=f"  {number}. ", subsequent_indent="     "
            )
    return "\n".join(lines)


def _layers(contract: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    for number, layer in enumerate(contract.get("layers", ()), start=1):
        names = re.split(r"\s*[|:]\s*", layer)
        relation = " (may import each other)" if ":" in layer else ""
        yield number, ", ".join(f"`{name}`" for name in names) + relation


GENERATED = (
    GeneratedBlock("deploy/docs/settings.md", "settings", reference),
    GeneratedBlock("deploy/docs/topics.md", "policies", topic_policies),
    GeneratedBlock("deploy/docs/kafka-security.md", "acls", kafka_acls),
    GeneratedBlock("deploy/docs/data-map.md", "data-fields", data_fields),
    GeneratedBlock("deploy/docs/data-map.md", "data-places", data_places),
    GeneratedBlock("deploy/docs/data-map.md", "salesforce-permissions", salesforce_permissions),
    GeneratedBlock("deploy/docs/data-map.md", "nylas-scopes", nylas_scopes),
    GeneratedBlock("deploy/docs/metrics.md", "metrics", metrics_reference),
    GeneratedBlock("deploy/docs/image.md", "grace-periods", grace_periods),
    GeneratedBlock("streams/README.md", "modules", lambda: module_map("streams")),
    GeneratedBlock("streams/README.md", "imports", import_rules),
    GeneratedBlock("connectors/README.md", "modules", lambda: module_map("connectors")),
)


FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def documents() -> list[str]:
    """Every Markdown document of the project, relative to the repository."""
    folders = (".github", "connectors", "deploy", "streams")
    found = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.md")
        if "node_modules" not in path.parts  # of deploy/monitoring/preview
    ]
    return ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in found)]


def prose(document: str) -> str:
    """A document without its code blocks and comments."""
    return COMMENT.sub("", FENCE.sub("", (ROOT / document).read_text()))


def code_spans(document: str) -> list[str]:
    """What stands between backticks outside of code blocks, on one line each."""
    paragraphs = re.split(r"\n\s*\n|\n(?=\|)", prose(document))
    return [
        " ".join(span.split()) for part in paragraphs for span in re.findall(r"`([^`]+)`", part)
    ]


def code_lines(document: str) -> list[str]:
    """The lines of a document's code blocks, without surrounding blanks.

    A line that goes on behind a backslash is one line.
    """
    fences = FENCE.findall((ROOT / document).read_text())
    joined = (re.sub(r"\\\n\s*", "", fence) for fence in fences)
    return [line.strip() for fence in joined for line in fence.splitlines()[1:-1]]


def words(document: str) -> int:
    """How many words of prose a document has; the target of a link is none."""
    return len(re.findall(r"\w[\w'.-]*", LINK.sub(r"\1", prose(document))))


BOX = re.compile(r"[─-╿]")
# Their numbers differ from run to run: which batch a contact falls into, and how long it takes.
VARYING = ("all", "filled", "match rate", "matched by", "unchanged", "updated:", "webhook to")


def printed_report(figures: Mapping[str, Any]) -> str:
    """What the demo prints of its figures, as given by `contactstream demo --json`."""
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(table(figures))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def missing_lines(shown: str, printed: str, *, exact: bool = True) -> list[str]:
    """The lines of a shortened output that the whole output does not print, in this order.

    `...` stands for lines left out. Lines drawn with box characters alone are ignored. `exact`
    compares numbers too, but for those that vary from run to run.
    """
    missing = []
    rest = iter([_comparable(line, exact) for line in printed.splitlines()])
    for line in shown.splitlines():
        wanted = _comparable(line, exact)
        if wanted in ("", "...") or wanted.startswith(("$", "```")):
            continue
        if not any(found == wanted for found in rest):  # consumes what lies before it
            missing.append(line)
            rest = iter([_comparable(line, exact) for line in printed.splitlines()])
    return missing


def _comparable(line: str, exact: bool) -> str:
    text = " ".join(BOX.sub(" ", line).split())
    varies = not exact or text.startswith(VARYING)
    return re.sub(r"\d[\d,.]*", "#", text) if varies else text


def main() -> int:
    """The command: writes the generated blocks, or says which are out of date."""
    parser = argparse.ArgumentParser(description="Generate the tables of the documents.")
    parser.add_argument("--write", action="store_true", help="write what differs")
    write = parser.parse_args().write
    stale = [each for each in GENERATED if block(each.document, each.mark) != each.text()]
    for each in stale:
        print(f"{each.document}: {each.mark} {'written' if write else 'is out of date'}")
        if write:
            write_block(each.document, each.mark, each.text())
    return 1 if stale and not write else 0


if __name__ == "__main__":
    sys.exit(main())
