"""The report of a storm: what was done, what was counted, and the verdict, as text for people."""

import signal
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.evidence import Evidence, Verdict
from tests.faults.harness.schedule import Fault, fault_name, first_pass
from tests.faults.harness.settings import StormSettings
from tests.faults.harness.supervisor import Replica

MIN_KILLS = 20

EXPECTED_EXITS = (
    0,
    -signal.SIGKILL,
    -signal.SIGTERM,  # the signal came before the process had installed its handler
    ExitCode.PAUSED_TOO_LONG,
    ExitCode.NOT_ACKNOWLEDGED,
    ExitCode.NO_HEARTBEAT,
    ExitCode.BROKER_UNAVAILABLE,  # dedupe, started while a broker goes down
)
"""Any other exit code means an unforeseen fault, or a missing record, or one of FAULT_EXITS."""

FAULT_EXITS: Mapping[Fault, Collection[tuple[str, int]]] = {
    # The producer's sequence goes on where the broker's was cut off, which is fatal for it.
    Fault.LOST_END: {("sink", ExitCode.KAFKA_REFUSED)},
    # The first, where the new topic is shorter than what was read of the old one.
    Fault.TOPIC_ANEW: {
        ("reader", ExitCode.OFFSET_OUT_OF_RANGE),
        ("reader", ExitCode.TOPIC_REPLACED),
    },
    Fault.GROW: {
        (stage, ExitCode.PARTITION_COUNT_MISMATCH) for stage in ("dedupe", "sink", "reader")
    },
    Fault.TERM_AWAY: {(stage, ExitCode.STOP_OVERDUE) for stage in ("dedupe", "sink", "reader")},
}
"""By fault, the stages that may end by it, and with which exit code."""


@dataclass
class Report:
    """What was done, what was counted, and the verdict."""

    settings: StormSettings
    verdict: Verdict
    faults: Counter[str]
    kills: int
    """Processes that were sent SIGKILL or SIGTERM while the storm lasted."""
    exits: dict[str, Counter[int]]
    """By stage, how often a process ended with each exit code."""
    sent: int
    distinct: int
    acknowledged: int
    refused: int
    runs: Counter[str]
    """The reader's runs, by their state."""
    releases: Counter[str]
    """Failure breakers that the operator released, by reason."""
    counts: dict[str, int]
    """Records, by kind."""
    peaks: dict[str, int]
    """By stage, the largest resident size in bytes."""
    seconds: float
    overdue: int
    """Processes that were killed because they did not end within the grace period."""
    left_to_do: str = ""
    """What some stage still had to do when the time was over."""
    unexpected: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """Faults of the first pass that never happened, where it was to be complete."""
        settings = self.settings
        if not settings.complete_first_pass or not settings.fault_interval:
            return []
        steps = first_pass(settings.only_faults, nodes=settings.nodes)
        wanted = {fault_name(*step) for step in steps}
        missing = sorted(wanted - self.faults.keys())
        if not settings.only_faults and self.kills < MIN_KILLS:
            missing.append(f"{MIN_KILLS} kills, there were {self.kills}")
        return missing

    @property
    def good(self) -> bool:
        """Whether no promise was broken and everything was done that was to be done."""
        wrong = self.left_to_do or self.unexpected or self.overdue or self.missing
        return self.verdict.good and not wrong

    def text(self) -> str:
        """The report's lines."""
        brokers = f"{self.settings.nodes} broker{'s' * (self.settings.nodes > 1)}"
        restarts = (
            f"{stage}: {_exits(exits)}" for stage, exits in sorted(self.exits.items()) if exits
        )
        runs = (f"{count} runs {state}" for state, count in sorted(self.runs.items()))
        memory = (f"{stage} {size // 2**20} MB" for stage, size in sorted(self.peaks.items()))
        lines = [
            f"storm with seed {self.settings.seed}, {brokers}: {self.seconds:.0f} s",
            _line("kills", f"{self.kills} processes were sent SIGKILL or SIGTERM"),
            *_fault_lines(self.faults),
            _line(
                "load",
                f"{self.sent:,} notifications, {self.distinct:,} of them distinct; "
                f"{self.acknowledged:,} answers of 200, {self.refused:,} refused and sent again",
            ),
            _line("reading", ", ".join(runs) or "no runs"),
            _line("operator", f"released {_counted(self.releases) or 'no breaker'}"),
            _line("topics", _counted(self.counts)),
            _line("restarts", ", ".join(restarts)),
            _line("memory", ", ".join(memory)),
            _line("checked", _counted(self.verdict.checked)),
            *self._problem_lines(),
            _line("verdict", "nothing lost, nothing reversed" if self.good else "BROKEN"),
        ]
        return "\n".join(lines)

    def _problem_lines(self) -> list[str]:
        lines = [_line("STUCK", self.left_to_do)] if self.left_to_do else []
        lines += [_line("MISSING", fault) for fault in self.missing]
        lines += [_line("UNEXPECTED", event) for event in self.unexpected]
        if self.overdue:
            overdue = f"{self.overdue} processes did not end within the grace period"
            lines.append(_line("OVERDUE", overdue))
        for name, count in self.verdict.violations.items():
            lines.append(_line("VIOLATED", f"{name}: {count}"))
            lines += [_line("", f"  {example}") for example in self.verdict.examples[name]]
        return lines


def _line(label: str, text: str) -> str:
    return f"  {label:<12}{text}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def _fault_lines(faults: Mapping[str, int]) -> list[str]:
    """A line for each kind of fault, with how often it came on each of its targets."""
    kinds: dict[str, list[str]] = {}
    for name, count in sorted(faults.items()):
        kind, _, target = name.partition(": ")
        kinds.setdefault(kind, []).append(f"{target} {count}" if target else str(count))
    lines = [f"{kind}: {', '.join(counts)}" for kind, counts in kinds.items()] or ["none"]
    return [_line("" if place else "faults", line) for place, line in enumerate(lines)]


def _exits(exits: Mapping[int, int]) -> str:
    return " ".join(f"{count} x {_exit_name(code)}" for code, count in sorted(exits.items()))


def _exit_name(code: int) -> str:
    if code < 0:
        return signal.Signals(-code).name
    return f"{code} ({ExitCode(code).name.lower()})" if code in list(ExitCode) else str(code)


def exits_by_stage(replicas: Iterable[Replica]) -> dict[str, Counter[int]]:
    """How often the processes of each stage ended with each exit code."""
    exits: dict[str, Counter[int]] = {}
    for replica in replicas:
        exits.setdefault(replica.stage, Counter()).update(replica.exits)
    return exits


def peaks_by_stage(replicas: Iterable[Replica]) -> dict[str, int]:
    """The largest resident size of each stage, in bytes."""
    peaks: Counter[str] = Counter()
    for replica in replicas:
        peaks[replica.stage] = max(peaks[replica.stage], replica.peak_rss)
    return dict(peaks)


def unexpected_exits(
    exits: Mapping[str, Mapping[int, int]], faults: Collection[Fault] = ()
) -> list[str]:
    """A line for each exit code that no fault of a storm explains; `faults` are those it had."""
    explained = {one for fault in faults for one in FAULT_EXITS.get(fault, ())}
    return [
        f"{stage} ended {count} times with {_exit_name(code)}"
        for stage, codes in sorted(exits.items())
        for code, count in sorted(codes.items())
        if code not in EXPECTED_EXITS and (stage, code) not in explained
    ]


def unexpected_statuses(statuses: Sequence[int]) -> list[str]:
    """A line for each status with which a bridge must not answer a good notification."""
    return [
        f"a bridge answered {status} to a good notification" for status in sorted(set(statuses))
    ]


def record_counts(evidence: Evidence) -> dict[str, int]:
    """How many records of each kind there are."""
    return {
        "events": len(evidence.events),
        "changes": len(evidence.changes),
        "outcomes": len(evidence.outcomes),
        "refetches": len(evidence.refetch),
        "dead letters": len(evidence.dead_letters),
        "writes in the org": len(evidence.writes),
    }
