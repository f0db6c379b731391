"""Which contacts, and which records of a topic, a command acts on: one selection for all commands.

The preview and the action apply the same selection, so that they find the same records. It is
plain data, which a run carries in reader.runs.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from connectors.salesforce.emails import domain, normalise
from connectors.salesforce.exclusions import in_domains
from connectors.salesforce.outcome import OutcomeStatus
from connectors.salesforce.person import grant_of
from connectors.salesforce.skip_reasons import SkipReason
from streams.events import Kind

# Partitions and offsets of Kafka fit into 32 and 64 bits.
_OFFSETS = re.compile(r"(\d{1,9}):(\d{1,18})-(\d{1,18})")


class UnusableSelection(ValueError):
    """An option names something that does not exist, or a range that holds nothing."""


@dataclass(frozen=True, slots=True, order=True)
class OffsetRange:
    """Offsets of a partition of the topic that is read; `end` is exclusive."""

    partition: int
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.start}-{self.end}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record as a selection sees it. `at_ms` is when contactstream received it."""

    key: str
    at_ms: int
    kind: Kind
    addresses: Sequence[str]
    """Of the contact in the record, normalised."""
    partition: int = -1
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Selection:
    """All conditions must hold; a condition with several values holds for any of them.

    Times are epoch milliseconds; `until_ms` is exclusive. `outcomes` are `status` or
    `status:reason` of the contact's last outcome. `reasons` are those of dead letters, or of the
    last outcome. `offsets` are of the topic that is read, in order.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    grants: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    offsets: tuple[OffsetRange, ...] = ()

    @property
    def takes_everything(self) -> bool:
        """Whether no condition is set."""
        return self == Selection()

    def takes(self, candidate: Candidate) -> bool:
        """Whether every condition holds, except that of the last outcome: see `takes_outcome`."""
        at_ms = candidate.at_ms
        return (
            (self.since_ms is None or at_ms >= self.since_ms)
            and (self.until_ms is None or at_ms < self.until_ms)
            and (not self.grants or grant_of(candidate.key) in self.grants)
            and (not self.keys or candidate.key in self.keys)
            and (not self.kinds or candidate.kind.value in self.kinds)
            and (not self.addresses or any(each in self.addresses for each in candidate.addresses))
            and (not self.domains or self._in_domains(candidate.addresses))
            and (not self.offsets or self._in_offsets(candidate.partition, candidate.offset))
        )

    def _in_offsets(self, partition: int, offset: int) -> bool:
        return any(
            each.partition == partition and each.start <= offset < each.end for each in self.offsets
        )

    def _in_domains(self, addresses: Iterable[str]) -> bool:
        wanted = frozenset(self.domains)
        return any(in_domains(domain(address), wanted) for address in addresses)

    def takes_outcome(self, status: str, reason: str) -> bool:
        """Whether a last outcome is one of those asked for; any is when none is asked for."""
        wanted = not self.outcomes or bool({status, f"{status}:{reason}"} & {*self.outcomes})
        return wanted and (not self.reasons or reason in self.reasons)

    @property
    def needs_outcomes(self) -> bool:
        """Whether the last outcomes of contacts decide."""
        return bool(self.outcomes or self.reasons)


def make_selection(
    *,
    now_ms: int,
    since_ms: int | None = None,
    until_ms: int | None = None,
    grants: Collection[str] = (),
    keys: Collection[str] = (),
    addresses: Collection[str] = (),
    domains: Collection[str] = (),
    kinds: Collection[str] = (),
    outcomes: Collection[str] = (),
    reasons: Collection[str] = (),
    offsets: Collection[str] = (),
) -> Selection:
    """A selection from the options of a command.

    Raises UnusableSelection, with the value and what it may be.
    """
    if since_ms is not None and since_ms > now_ms:
        raise UnusableSelection("--since lies in the future: there is nothing to select yet")
    if until_ms is not None and until_ms > now_ms:
        raise UnusableSelection("--until lies in the future: leave it out to select up to now")
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise UnusableSelection("--since is not before --until: the range is empty or reversed")
    for key in keys:
        if not all(key.partition("/")):
            raise UnusableSelection(f"--key {key}: no contact key (grant_id/contact_id)")
    return Selection(
        since_ms,
        until_ms,
        tuple(dict.fromkeys(grants)),
        tuple(dict.fromkeys(keys)),
        tuple(dict.fromkeys(map(_address, addresses))),
        tuple(dict.fromkeys(map(_domain, domains))),
        tuple(dict.fromkeys(_known("--kind", kind, Kind) for kind in kinds)),
        tuple(dict.fromkeys(map(_outcome, outcomes))),
        tuple(dict.fromkeys(reasons)),
        tuple(sorted({*map(_offset_range, offsets)})),
    )


def _offset_range(text: str) -> OffsetRange:
    found = _OFFSETS.fullmatch(text.strip())
    if found is None:
        raise UnusableSelection(
            f"--offsets {text}: not PARTITION:FROM-TO, such as 0:1200-1300 (without offset 1300)"
        )
    partition, start, end = map(int, found.groups())
    if start >= end:
        raise UnusableSelection(f"--offsets {text}: the range is empty or reversed")
    return OffsetRange(partition, start, end)


def _address(text: str) -> str:
    address = normalise(text)
    if address is None:
        raise UnusableSelection(f"--email {text}: no email address that Salesforce would take")
    return address


def _domain(text: str) -> str:
    address = normalise(f"x@{text.strip().lstrip('@')}")
    if address is None:
        raise UnusableSelection(f"--domain {text}: no domain of an email address")
    return domain(address)


def _outcome(text: str) -> str:
    status, colon, reason = text.partition(":")
    _known("--outcome", status, OutcomeStatus)
    if colon and status == OutcomeStatus.SKIPPED.value:
        _known("--outcome skipped:", reason, SkipReason)
    return text


def known_word(option: str, text: str, known: Collection[str]) -> str:
    """The text, if it is one of the known words.

    Raises UnusableSelection, with the closest word or all of them.
    """
    if text in known:
        return text
    close = get_close_matches(text, known, 1)
    words = ", ".join(sorted(known))
    hint = f"it may be {words}" if words else "there is none so far"
    if close:
        hint = f"did you mean {close[0]}?"
    raise UnusableSelection(f"{option} {text}: unknown; {hint}")


def _known(option: str, text: str, words: type[StrEnum]) -> str:
    return known_word(option, text, [word.value for word in words])


def encode_selection(selection: Selection) -> dict[str, Any]:
    """The conditions that are set, as JSON takes them."""
    return {name: value for name, value in asdict(selection).items() if value not in (None, ())}


def parse_selection(data: Mapping[str, Any]) -> Selection:
    """The selection that `encode_selection` wrote.

    Raises ValueError for a condition that this version does not know: leaving it out would select
    more than was asked for.
    """
    known = {each.name for each in fields(Selection)}
    if unknown := data.keys() - known:
        raise ValueError(f"unknown conditions of a selection: {', '.join(sorted(unknown))}")
    values: dict[str, Any] = {
        name: tuple(map(str, value)) if isinstance(value, list) else value
        for name, value in data.items()
        if name != "offsets"
    }
    if ranges := data.get("offsets"):
        values["offsets"] = tuple(
            OffsetRange(int(each["partition"]), int(each["start"]), int(each["end"]))
            for each in ranges
        )
    return Selection(**values)
