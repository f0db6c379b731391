"""Offers contacts to the sink again, whose last outcome may be a better one now.

A replay of contacts.changes, which the reader carries out as any other run: Nylas is not asked.
"""

import click

from streams.commands.publishing import NotAcknowledged
from streams.commands.run_requests import request_run
from streams.commands.topic_records import topic_log
from streams.control import RELEASE_OBEYED_SECONDS
from streams.runs import Replay, ReplaySource, Run, RunKind
from streams.selection import Selection
from streams.settings import KafkaSettings
from streams.topics import topics

# The sink has to know what was decided before the first contact comes back to it.
STARTS_AFTER_SECONDS = RELEASE_OBEYED_SECONDS + 1


def offer_again(
    kafka: KafkaSettings, selection: Selection, by: str, now: float, run_id: str = ""
) -> str:
    """Requests the replay; returns the run's ID. Blocks.

    It takes what stands in contacts.changes now: a later change comes to the sink by itself. `now`
    is in epoch seconds. `run_id` is the ID that the run gets; by default a new one. Raises
    click.ClickException.
    """
    log = topic_log(kafka, topics(kafka).changes.name)
    ends = tuple(log[partition].end for partition in sorted(log))
    run = Run(
        RunKind.REPLAY,
        None,
        int(now),
        by,
        not_before=int(now) + STARTS_AFTER_SECONDS,
        replay=Replay(ReplaySource.CHANGES, selection, ends),
    )
    try:
        return request_run(kafka, run, run_id=run_id)
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error
