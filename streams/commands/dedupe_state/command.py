"""Shows the generations of dedupe, fills the table of another one, and switches to it.

See `streams.dedupe.generations` for the order in which a switch writes, and deploy/runbooks for the
steps of an operator.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import click
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streams.commands.dedupe_state.copying import Copied, CopySource, NotCopied, StateCopy
from streams.commands.dedupe_state.entries import (
    LOST_WITH_CHANGES,
    UnusableEntry,
    entry_of_change,
    entry_of_changelog,
)
from streams.dedupe.generation_groups import (
    GenerationGroup,
    GroupHasMembers,
    existing_generations,
    read_generation,
)
from streams.dedupe.generations import (
    Generation,
    SwitchPlan,
    SwitchRefused,
    members_refusal,
    plan_switch,
    source_of,
)
from streams.kafka.clients import BrokerUnavailable, client_config, wait_for_broker
from streams.kafka.lag import LagReader, lag
from streams.kafka.polling import TopicReplaced
from streams.kafka.snapshot import SnapshotStalled
from streams.kafka.topic_watch import (
    TopicState,
    commit_metadata,
    describe_topics,
    wrong_partitions,
)
from streams.settings import KafkaSettings
from streams.topics import Topics, group, of_generation, topics

# A person waits for the command, but a broker that is just starting should be reached.
BROKER_WAIT_SECONDS = 30.0

# How long a switch waits until workers that ended count as members no more. A killed one counts for
# its session, and one that was stopped while the group rebalanced for Faust's rebalance time-out,
# which is 60 s.
MEMBERS_LEAVE_SECONDS = 90.0

# Between two questions about that.
MEMBERS_CHECK_SECONDS = 1.0

# One request about the members of a group.
MEMBERS_SECONDS = 10.0

# Records between two lines of progress.
PROGRESS_RECORDS = 100_000


class TableSource(StrEnum):
    """Of what a table is made."""

    CHANGELOG = "changelog"
    CHANGES = "changes"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the broker holds of the generations now."""

    generations: Sequence[Generation]
    states: Mapping[str, TopicState]
    """The topics that exist, by name."""


def show(kafka: KafkaSettings) -> None:
    """Prints a line for each generation. Blocks. Raises click.ClickException."""
    with _reported():
        cluster = _read_cluster(kafka, kafka.dedupe_generation)
        events = topics(kafka).events
        starts, ends = LagReader(client_config(kafka)).ranges(events.name, events.partitions)
        for each in cluster.generations:
            names = _of(kafka, each.number)
            table = names.seen_changelog.name
            behind = f"lag {lag(each.offsets, starts, ends):,}" if each.offsets else "no offsets"
            found = "table " + (table if table in cluster.states else "missing")
            click.echo(f"generation {each.number:<3}{_standing(each):<24}{behind:<16}{found}")


def _standing(each: Generation) -> str:
    if each.live:
        return "live"
    return f"handed over to {each.handover.to}" if each.handover else "not in use"


def prepare(kafka: KafkaSettings, target: int, made_of: TableSource, *, execute: bool) -> None:
    """Fills the table of a generation while another one is running. Blocks until it is filled.

    Without `execute` it only says how much that is. Raises click.ClickException.
    """
    with _reported():
        cluster = _read_cluster(kafka, target)
        source = source_of(cluster.generations)
        if source.number == target:
            raise SwitchRefused(
                f"generation {target} is the live one: its table is filled by its own workers"
            )
        if not source.live:
            raise SwitchRefused(
                f"a switch from generation {source.number} was begun, and it copies the rest "
                f"itself. Repeat it: contactstream dedupe-state switch --to {target} --execute"
            )
        if reason := _members(kafka, target, leaves=False):
            raise SwitchRefused(reason)
        with GenerationGroup(kafka, source.number) as running:
            check = _while_live(running, source)
            copy = _state_copy(kafka, cluster, source, target, made_of, check)
            if not execute:
                click.echo(_at_most(kafka, copy, source, target, made_of))
                click.echo("Nothing is copied; repeat it with --execute.", err=True)
                return
            _print_copied(copy.run(_progress()), target)
        click.echo(f"generation {source.number} is still the live one")


def switch(kafka: KafkaSettings, target: int, made_of: TableSource, *, execute: bool) -> None:
    """Makes a generation the live one, once the workers of the other have stopped. Blocks.

    Without `execute` it only says what it would do, and what would refuse it. It may be interrupted
    at any moment, and repeated. Raises click.ClickException.
    """
    with _reported():
        cluster = _read_cluster(kafka, target)
        plan = plan_switch(cluster.generations, target)
        source = plan.source
        copy = None
        if not plan.takes_back:
            copy = _state_copy(kafka, cluster, source, target, made_of, lambda: None)
        # Where a switch is taken back, no worker can be in the group.
        groups = () if plan.takes_back else ((source.number, True), (target, False))

        def refusals() -> list[str]:
            found = [_members(kafka, number, leaves=leaves) for number, leaves in groups]
            return [reason for reason in found if reason]

        reasons = _until_empty(refusals) if execute else refusals()
        if not execute:
            _print_plan(kafka, plan, copy, made_of)
            for reason in reasons:
                click.echo(f"with --execute it would be refused: {reason}", err=True)
            click.echo("Nothing is changed; repeat it with --execute.", err=True)
            return
        if reasons:
            raise SwitchRefused("; ".join(reasons))
        _carry_out(kafka, plan, copy, cluster)


def _until_empty(refusals: Callable[[], list[str]]) -> list[str]:
    """The last refusals, once there is none or MEMBERS_LEAVE_SECONDS have passed. Blocks."""
    until = time.monotonic() + MEMBERS_LEAVE_SECONDS
    said: list[str] = []
    while (reasons := refusals()) and time.monotonic() < until:
        if reasons != said:
            click.echo(f"waiting until they have left: {'; '.join(reasons)}", err=True)
        said = reasons
        time.sleep(MEMBERS_CHECK_SECONDS)
    return reasons


def _carry_out(
    kafka: KafkaSettings, plan: SwitchPlan, copy: StateCopy | None, cluster: Cluster
) -> None:
    """The steps of a switch, in the order of `streams.dedupe.generations`."""
    target = plan.target
    note = commit_metadata(cluster.states[topics(kafka).events.name].topic_id)
    with GenerationGroup(kafka, plan.source.number) as old:
        source = old.read()  # again: its workers may have committed until they ended
        old.commit_events(source.offsets, note, plan.handover)
    if copy is None:
        click.echo(f"generation {target} is the live one again; start its workers")
        return
    click.echo(f"generation {source.number} gave its work away; its workers do not start any more")
    _print_copied(copy.run(_progress()), target)
    with GenerationGroup(kafka, target) as new:
        new.commit_events(source.offsets, note)
    click.echo(f"generation {target} is the live one; start its workers")


def _print_plan(
    kafka: KafkaSettings, plan: SwitchPlan, copy: StateCopy | None, made_of: TableSource
) -> None:
    if copy is None:
        click.echo(f"generation {plan.target} would go on, as if no switch had been begun")
        return
    click.echo(_at_most(kafka, copy, plan.source, plan.target, made_of))
    click.echo(
        f"generation {plan.target} would go on from the offsets of generation "
        f"{plan.source.number}, whose workers would not start any more"
    )


def _of(kafka: KafkaSettings, number: int) -> Topics:
    return topics(of_generation(kafka, number))


def _read_cluster(kafka: KafkaSettings, target: int) -> Cluster:
    wait_for_broker(
        kafka,
        [topics(kafka).events.name],
        stopped=lambda: False,
        waiting=lambda reason: click.echo(reason, err=True),
        deadline=BROKER_WAIT_SECONDS,
    )
    names, admin = topics(kafka), AdminClient(client_config(kafka))
    states = describe_topics(admin, [names.events.name, names.changes.name])
    _check_partitions(states, names.events.name, names.events.partitions)
    ids = {name: state.topic_id for name, state in states.items()}
    unread = {*existing_generations(kafka), target}
    generations: dict[int, Generation] = {}
    while unread:
        number = unread.pop()
        found = generations[number] = read_generation(kafka, number, ids)
        # The changelog of a generation may be lost; then only its predecessor names it.
        if found.handover and found.handover.to not in generations:
            unread.add(found.handover.to)
    changelogs = [_of(kafka, number).seen_changelog.name for number in generations]
    states |= describe_topics(admin, changelogs)
    return Cluster([found for _, found in sorted(generations.items())], states)


def _check_partitions(states: Mapping[str, TopicState], name: str, wanted: int) -> None:
    problem = wrong_partitions(name, states[name].partitions, wanted)
    if problem is not None:
        raise SwitchRefused(f"{problem.reason}; KAFKA_EVENTS_PARTITIONS is {wanted}")


def _state_copy(
    kafka: KafkaSettings,
    cluster: Cluster,
    source: Generation,
    target: int,
    made_of: TableSource,
    check: Callable[[], None],
) -> StateCopy:
    """The copy of a switch. Raises SwitchRefused for a topic that is missing, or not as needed."""
    names = topics(kafka)
    partitions = names.events.partitions
    changelog = _of(kafka, target).seen_changelog.name
    if changelog not in cluster.states:
        raise SwitchRefused(
            f"the topic {changelog} does not exist. Set KAFKA_DEDUPE_GENERATION={target}, and run: "
            "contactstream topics create"
        )
    copied = CopySource(names.changes.name, 1, entry_of_change, keeps_partition=False)
    if made_of is TableSource.CHANGELOG:
        old = _of(kafka, source.number).seen_changelog.name
        copied = CopySource(old, partitions, entry_of_changelog, keeps_partition=True)
    if copied.topic not in cluster.states:
        raise SwitchRefused(
            f"the topic {copied.topic} does not exist. If it is lost, make the table of "
            "contacts.changes: --from changes"
        )
    for name in {changelog, copied.topic} - {names.changes.name}:
        _check_partitions(cluster.states, name, partitions)
    ids = [cluster.states[name].topic_id for name in (copied.topic, changelog)]
    note = f"copied={ids[0]} into={ids[1]}" if all(ids) else ""
    return StateCopy(kafka, copied, target, changelog, note, check)


def _while_live(running: GenerationGroup, source: Generation) -> Callable[[], None]:
    """Raises SwitchRefused once a switch has begun: from then on only the switch may copy."""

    def check() -> None:
        if running.read().handover != source.handover:
            raise SwitchRefused("a switch was begun meanwhile; it copies the rest itself")

    return check


def _at_most(
    kafka: KafkaSettings,
    copy: StateCopy,
    source: Generation,
    target: int,
    made_of: TableSource,
) -> str:
    read = copy.source
    _, ends = LagReader(client_config(kafka)).ranges(read.topic, read.partitions)
    left = sum(
        max(0, ends[partition] - position) for partition, position in enumerate(copy.positions())
    )
    said = f"at most {left:,} records of {read.topic} would be copied for generation {target}"
    if made_of is TableSource.CHANGES:
        return (
            f"{said}; they stand for the table of generation {source.number}\n{LOST_WITH_CHANGES}"
        )
    return said


def _members(kafka: KafkaSettings, number: int, *, leaves: bool) -> str | None:
    name = group(of_generation(kafka, number), "dedupe")
    admin = AdminClient(client_config(kafka) | {"log_level": 0})
    answers = admin.describe_consumer_groups([name], request_timeout=MEMBERS_SECONDS)
    try:
        members = len(answers[name].result().members)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise
        members = 0
    return members_refusal(number, name, members, leaves=leaves)


def _progress() -> Callable[[int], None]:
    """Prints a line on stderr each PROGRESS_RECORDS records."""
    printed = 0

    def show_progress(records: int) -> None:
        nonlocal printed
        if records - printed >= PROGRESS_RECORDS:
            printed = records
            click.echo(f"{records:,} records copied", err=True)

    return show_progress


def _print_copied(copied: Copied, target: int) -> None:
    click.echo(f"copied {copied.records:,} records for generation {target}")
    if copied.skipped:
        click.echo(f"{copied.skipped:,} of them were written by another program, and left out")


@contextmanager
def _reported() -> Iterator[None]:
    """Turns what went wrong into a message with the remedy."""
    try:
        yield
    except (
        SwitchRefused,
        UnusableEntry,
        NotCopied,
        GroupHasMembers,
        TopicReplaced,
        SnapshotStalled,
        BrokerUnavailable,
    ) as error:
        raise click.ClickException(str(error)) from error
    except KafkaException as error:
        raise click.ClickException(
            f"the broker refuses, or does not answer: {error.args[0].str()}. Nothing is lost; "
            "repeat the command. It needs Read on the groups of dedupe, and Read and Write on "
            "their changelogs"
        ) from error
