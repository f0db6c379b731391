"""The figures of `contactstream status`, and what of them needs a person: plain data."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from connectors.salesforce.bulk_load import PERMISSION_SET
from connectors.salesforce.outcome import OutcomeStatus
from connectors.salesforce.owner_rules import OwnerRule
from streams.commands.breakers import STOPS
from streams.commands.dead_letters.report import moment
from streams.commands.mailboxes import MailboxFigures
from streams.commands.status.limits import LimitUse, limit_problems
from streams.control import FailureBreaker, Pause, PausedPart
from streams.control_mode import ModeInForce
from streams.control_org import OrgPin
from streams.kafka.records import KafkaRecord

# A lag of more seconds is no burst any more: contacts are not in Salesforce when a mail arrives.
LATE_SECONDS = 900.0

# Before records expire unread, there has to be time for a person to act: a weekend.
EXPIRY_SECONDS = 3 * 86_400.0

# A letter that nobody has looked at for so long is forgotten, not new.
OLD_LETTER_SECONDS = 86_400.0

# Of the day's calls. What is left may be needed by others.
LOW_BUDGET_SHARE = 0.1

# Failures among so few contacts say nothing.
LEAST_CONTACTS = 100
HIGH_ERROR_SHARE = 0.05

# Records that fell back to our user so lately may still be given to somebody else.
RECENT_SECONDS = 86_400.0

# The sink takes the permission of bulk loads away two minutes after the last row of a backfill.
PERMISSION_LATE_SECONDS = 600.0

# The stage that a pause stops. Paused creations stop none: they are held.
STAGE_OF = {PausedPart.WRITES: "sink", PausedPart.READING: "reader"}


@dataclass(frozen=True, slots=True)
class StageFigures:
    """A stage now. None where a figure does not apply, or could not be measured."""

    stage: str
    workers: int | None = None
    """Members of its consumer group."""
    lag_records: int | None = None
    oldest_unread_ms: int | None = None
    """When the oldest record that it has not finished entered contactstream, in epoch ms."""
    expires_ms: int | None = None
    """When that record may expire, in epoch milliseconds."""
    rate: float | None = None
    """Records a second that it finished lately."""

    def lag_seconds(self, now_ms: int) -> float | None:
        """The age of the oldest unfinished record; 0 without one."""
        if self.lag_records == 0:
            return 0.0
        if self.oldest_unread_ms is None:
            return None
        return max(0.0, (now_ms - self.oldest_unread_ms) / 1000)


@dataclass(slots=True)
class OutcomeFigures:
    """The newest outcomes, by status, without those of replays."""

    since_ms: int = 0
    """The time of the oldest of them; 0 if there are none."""
    by_status: Counter[str] = field(default_factory=Counter)
    found: int = 0
    """Contacts that were looked up for the first time, and found."""
    created: int = 0
    """The same, but created."""
    held: int = 0
    """Contacts of them that a limit holds since."""
    fell_back: int = 0
    """Records of the last day that got our user as their owner because no other could be given."""

    @property
    def contacts(self) -> int:
        """How many there are."""
        return self.by_status.total()

    @property
    def match_rate(self) -> float | None:
        """The share of first lookups that found somebody; None without one."""
        looked_up = self.found + self.created
        return self.found / looked_up if looked_up else None

    @property
    def error_rate(self) -> float | None:
        """The share of failures; None without an outcome."""
        failed = self.by_status[OutcomeStatus.FAILED.value]
        return failed / self.contacts if self.contacts else None


@dataclass(frozen=True, slots=True)
class CallFigures:
    """The org's calls of 24 hours."""

    left: int
    """Without the reserve."""
    allowed: int


@dataclass(frozen=True, slots=True)
class BulkLoadFigures:
    """The permission that tells the org's automation that a first sync runs."""

    deployed: bool
    held: bool
    """Whether our user has it now."""
    may_assign: bool
    """Whether our user may give it to itself."""


@dataclass(frozen=True, slots=True)
class BackfillFigures:
    """The backfills."""

    at_work: bool = False
    ended_ms: int | None = None
    """When the last one ended, in epoch milliseconds; None if none is known."""


@dataclass(frozen=True, slots=True)
class LetterFigures:
    """The open dead letters."""

    by_reason: Mapping[str, int]
    oldest_ms: int | None = None
    """The last failure of the oldest, in epoch milliseconds."""


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that `contactstream status` shows."""

    now_ms: int
    stages: Sequence[StageFigures]
    outcomes: OutcomeFigures
    calls: CallFigures | None
    """None without a login, or without an answer."""
    breakers: Sequence[FailureBreaker]
    """The failure breakers that are open."""
    letters: LetterFigures
    runs: Sequence[str]
    """A line for each run at work."""
    pauses: Sequence[Pause] = ()
    """What people paused. It needs nobody: they know of it."""
    mode: ModeInForce | None = None
    """What may be written; None while nobody has chosen."""
    mailboxes: MailboxFigures | None = None
    """Which mailboxes are selected; None if that was not asked for."""
    pin: OrgPin | None = None
    """The org that this deployment writes to; None before the first write."""
    org_of_login: str | None = None
    """The ID of the org that the settings log in to; None if that was not asked, or not said."""
    limits: Sequence[LimitUse] = ()
    """What is used of each limit that is set."""
    bulk_load: BulkLoadFigures | None = None
    """None if that was not asked, or not said."""
    backfills: BackfillFigures = BackfillFigures()


def outcome_figures(records: Iterable[KafkaRecord], now_ms: int = 0) -> OutcomeFigures:
    """Counts records of contacts.outcomes. A record that is no outcome is left out."""
    recent_ms = now_ms - int(RECENT_SECONDS * 1000)
    figures = OutcomeFigures()
    held: set[bytes] = set()
    for record in records:
        try:
            value = orjson.loads(record.value or b"null")
        except orjson.JSONDecodeError:
            continue
        if not isinstance(value, dict) or not isinstance(value.get("at_ms"), int):
            continue
        is_held = value.get("outcome") == OutcomeStatus.HELD.value
        (held.add if is_held else held.discard)(record.key or b"")
        if value.get("owner_rule") == OwnerRule.FALLBACK.value and value["at_ms"] >= recent_ms:
            figures.fell_back += 1
        if value.get("origin") == "replay":
            continue
        figures.since_ms = min(value["at_ms"], figures.since_ms or value["at_ms"])
        figures.by_status[str(value.get("outcome"))] += 1
        if value.get("first"):
            figures.found += value.get("matched") is not None
            figures.created += value.get("matched") is None
    figures.held = len(held)
    return figures


def stopped(breaker: FailureBreaker) -> str:
    """What an open failure breaker stops, and why."""
    return f"{STOPS[breaker.stops]}, for {breaker.reason}, since {moment(breaker.opened_ms)}"


def needs_a_person(status: Status) -> list[str]:
    """What an operator has to do something about, a sentence each; empty if nothing."""
    paused = {STAGE_OF.get(pause.part) for pause in status.pauses}
    return [
        *(
            line
            for stage in status.stages
            for line in _stage_problems(stage, status.now_ms, paused=stage.stage in paused)
        ),
        *_mode_problems(status.mode),
        *_outcome_problems(status.outcomes),
        *_held_problems(status.outcomes.held),
        *limit_problems(status.limits),
        *_owner_problems(status.outcomes.fell_back),
        *_bulk_load_problems(status),
        *_call_problems(status.calls),
        *_org_problems(status.pin, status.org_of_login),
        *(f"stopped: {stopped(one)}; see contactstream breakers" for one in status.breakers),
        *_letter_problems(status.letters, status.now_ms),
        *_mailbox_problems(status.mailboxes),
    ]


def _stage_problems(stage: StageFigures, now_ms: int, *, paused: bool) -> Iterable[str]:
    if stage.workers == 0:
        yield f"no {stage.stage} runs; start one: contactstream {stage.stage}"
    lag = stage.lag_seconds(now_ms)
    if lag is not None and lag > LATE_SECONDS and not paused:
        yield f"{stage.stage} is {duration(lag)} behind; see contactstream doctor"
    if stage.expires_ms is not None:
        left = (stage.expires_ms - now_ms) / 1000
        if left < EXPIRY_SECONDS:
            yield (
                f"records that {stage.stage} has not read expire in {duration(max(0.0, left))}: "
                "raise retention.ms of the topic now"
            )


def _mode_problems(mode: ModeInForce | None) -> Iterable[str]:
    if mode is None:
        yield "nobody has chosen what may be written; see contactstream mode"


def _outcome_problems(outcomes: OutcomeFigures) -> Iterable[str]:
    rate = outcomes.error_rate
    if rate is not None and outcomes.contacts >= LEAST_CONTACTS and rate > HIGH_ERROR_SHARE:
        yield f"{rate:.1%} of the newest contacts failed; see contactstream dead-letters"


def _held_problems(held: int) -> Iterable[str]:
    if held:
        yield f"{held:,} of the newest contacts are held by a limit; see contactstream held"


def _owner_problems(fell_back: int) -> Iterable[str]:
    if fell_back:
        yield (
            f"{fell_back:,} records of the last day fell back to our user as their owner; see "
            "contactstream doctor, which checks PEOPLE_OWNER, and give them to somebody in "
            "Salesforce"
        )


def _bulk_load_problems(status: Status) -> Iterable[str]:
    found, backfills = status.bulk_load, status.backfills
    if found is None or not found.deployed:
        return
    if backfills.at_work and not found.held and not found.may_assign:
        yield (
            f"a backfill runs, and our user waits for {PERMISSION_SET}: the org's automation runs "
            "for every record; assign it to the user now, and take it away afterwards"
        )
    sink_is_done = any(one.stage == "sink" and one.lag_records == 0 for one in status.stages)
    ended = status.now_ms - (backfills.ended_ms or 0)
    late = ended > PERMISSION_LATE_SECONDS * 1000
    if found.held and not backfills.at_work and sink_is_done and late:
        yield (
            f"no backfill runs, and our user still has {PERMISSION_SET}: the org's automation "
            "leaves live changes alone; take it away from the user"
        )


def _mailbox_problems(mailboxes: MailboxFigures | None) -> Iterable[str]:
    for problem in () if mailboxes is None else mailboxes.problems:
        yield f"{problem.what}; {problem.remedy}"


def _call_problems(calls: CallFigures | None) -> Iterable[str]:
    if calls is not None and calls.left < calls.allowed * LOW_BUDGET_SHARE:
        yield f"{calls.left:,} of {calls.allowed:,} daily Salesforce calls are left"


def _org_problems(pin: OrgPin | None, org_of_login: str | None) -> Iterable[str]:
    if pin is not None and org_of_login is not None and pin.org_id != org_of_login:
        yield (
            f"this deployment writes to org {pin.org_id}, and the login leads to {org_of_login}, "
            "so that the sink does not work; see contactstream org"
        )


def _letter_problems(letters: LetterFigures, now_ms: int) -> Iterable[str]:
    if letters.oldest_ms is not None:
        age = (now_ms - letters.oldest_ms) / 1000
        if age > OLD_LETTER_SECONDS:
            yield f"a dead letter is {duration(age)} old; see contactstream dead-letters"


def duration(seconds: float) -> str:
    """A time in the two largest units that it has: 12 s, 3 min, 2 h 5 min, 3 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"
