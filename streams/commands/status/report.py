"""Shows a status as text for a terminal of 80 columns, and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from textwrap import fill
from typing import Any

from streams.commands.mailboxes import MailboxFigures
from streams.commands.mode import mode_entry, mode_line
from streams.commands.pauses import pause_entry, pause_line
from streams.commands.status.figures import (
    OutcomeFigures,
    StageFigures,
    Status,
    duration,
    needs_a_person,
    stopped,
)
from streams.commands.status.limits import limit_entry

# Of a terminal that nobody made wider.
COLUMNS = 80
LABEL = 13

# Reasons and statuses that are listed; the others are counted together.
SHOWN = 5


def text(status: Status) -> str:
    """The page. What needs a person comes first."""
    problems = needs_a_person(status)
    head = f"{datetime.fromtimestamp(status.now_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"
    lines = [f"{head}  {_summary(problems)}"]
    lines += [_wrapped("!", problem) for problem in problems]
    lines += ["", *_stage_table(status.stages, status.now_ms), ""]
    lines += [_wrapped(label, line) for label, line in _facts(status).items()]
    return "\n".join(lines)


def _summary(problems: Sequence[str]) -> str:
    if not problems:
        return "nothing needs a person"
    return f"{len(problems)} {'thing needs' if len(problems) == 1 else 'things need'} a person"


def _stage_table(stages: Sequence[StageFigures], now_ms: int) -> list[str]:
    row = "{:<10}{:>9}{:>16}{:>16}{:>15}".format
    lines = [row("stage", "workers", "lag, records", "lag, time", "records/s")]
    for stage in stages:
        lag = stage.lag_seconds(now_ms)
        lines.append(
            row(
                stage.stage,
                "-" if stage.workers is None else stage.workers,
                "-" if stage.lag_records is None else f"{stage.lag_records:,}",
                "-" if lag is None else duration(lag),
                "-" if stage.rate is None else f"{stage.rate:,.1f}",
            ).rstrip()
        )
    return lines


def _facts(status: Status) -> Mapping[str, str]:
    facts = {"mode": mode_line(status.mode)}
    facts["outcomes"] = _outcomes(status.outcomes, status.now_ms)
    rate = status.outcomes.match_rate
    if rate is not None:
        looked_up = status.outcomes.found + status.outcomes.created
        facts["match rate"] = f"{rate:.1%} of {looked_up:,} contacts looked up for the first time"
    if status.calls is not None:
        calls = status.calls
        facts["calls"] = f"{calls.left:,} of {calls.allowed:,} daily Salesforce calls are left"
    if status.limits:
        facts["limits"] = "; ".join(map(str, status.limits))
    paused = [*map(stopped, status.breakers), *map(pause_line, status.pauses)]
    facts["paused"] = "; ".join(paused) or "nothing"
    letters = status.letters.by_reason
    facts["dead letters"] = _counted(letters) if letters else "none"
    mailboxes = status.mailboxes
    if mailboxes is not None and mailboxes.rule.entries:
        facts["mailboxes"] = f"{mailboxes.selected:,} of {len(mailboxes.choices):,} selected"
    groups = mailboxes.groups if mailboxes else None
    if groups is not None and groups.rule.reads_groups:
        facts["groups"] = f"{groups}"
    facts["runs"] = "; ".join(status.runs) or "none"
    return facts


def _outcomes(outcomes: OutcomeFigures, now_ms: int) -> str:
    if not outcomes.contacts:
        return "none yet"
    span = duration(max(0.0, (now_ms - outcomes.since_ms) / 1000))
    failed = "" if outcomes.error_rate is None else f"; {outcomes.error_rate:.1%} failed"
    return f"the newest {outcomes.contacts:,}, of {span}: {_counted(outcomes.by_status)}{failed}"


def _counted(counts: Mapping[str, int]) -> str:
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count:,} {name}" for name, count in order[:SHOWN]]
    rest = sum(count for _, count in order[SHOWN:])
    return ", ".join(parts + ([f"{rest:,} others"] if rest else []))


def _mailboxes(mailboxes: MailboxFigures | None) -> dict[str, Any] | None:
    if mailboxes is None:
        return None
    groups = mailboxes.groups
    return {
        "entries": list(mailboxes.rule.entries),
        "selected": mailboxes.selected,
        "connected": len(mailboxes.choices),
        "groups": list(groups.rule.included) if groups else [],
        "excluded_groups": list(groups.rule.excluded) if groups else [],
    }


def _wrapped(label: str, line: str) -> str:
    indent = LABEL if label != "!" else 2
    return fill(
        f"{label:<{indent}}{line}",
        COLUMNS,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def as_json(status: Status) -> dict[str, Any]:
    """The status as JSON takes it."""
    outcomes = status.outcomes
    return {
        "at_ms": status.now_ms,
        "needs_a_person": needs_a_person(status),
        "mode": mode_entry(status.mode),
        "stages": [
            {**asdict(stage), "lag_seconds": stage.lag_seconds(status.now_ms)}
            for stage in status.stages
        ],
        "outcomes": {
            "since_ms": outcomes.since_ms,
            "by_status": dict(outcomes.by_status),
            "match_rate": outcomes.match_rate,
            "error_rate": outcomes.error_rate,
            "held": outcomes.held,
            "fell_back_to_our_user": outcomes.fell_back,
        },
        "limits": list(map(limit_entry, status.limits)),
        "org": {"pinned": status.pin and status.pin.org_id, "login": status.org_of_login},
        "bulk_load_permission": None if status.bulk_load is None else asdict(status.bulk_load),
        "salesforce_calls": None if status.calls is None else asdict(status.calls),
        "paused": list(map(stopped, status.breakers)),
        "pauses": [pause_entry(pause) for pause in status.pauses],
        "dead_letters": {
            "by_reason": dict(status.letters.by_reason),
            "oldest_ms": status.letters.oldest_ms,
        },
        "mailboxes": _mailboxes(status.mailboxes),
        "runs": list(status.runs),
    }
