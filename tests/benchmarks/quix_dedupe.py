"""The baseline of dedupe: its rule on quix-streams with state and changelog.

    python -m tests.benchmarks.quix_dedupe BOOTSTRAP PREFIX

Run by an interpreter that has quix-streams. For each event it parses the envelope, makes the
fingerprint, looks the contact up, decides, stores the state, and forwards the contact, as the stage
does. It has no headers and no dead letters, which is in its favour.
"""

import sys
import tempfile
from typing import Any

import orjson
from quixstreams import Application

from connectors.nylas.model import parse_notification
from connectors.salesforce.fingerprint import fingerprint
from connectors.salesforce.mapping_rules import FieldMapping
from streams.dedupe.versions import ContactEvent, decide, decode, encode, hash_id, mapping_tag


def main(bootstrap: str, prefix: str) -> None:
    """Runs until it is killed."""
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"{prefix}quix",
        auto_offset_reset="earliest",
        state_dir=tempfile.mkdtemp(prefix="quix-"),
        producer_extra_config={
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "compression.type": "lz4",
        },
        loglevel="WARNING",
    )
    mapping = FieldMapping()
    tag = mapping_tag(mapping.hash)
    events = app.topic(
        f"{prefix}contacts.events", value_deserializer="bytes", key_deserializer="bytes"
    )
    changes = app.topic(
        f"{prefix}contacts.changes", value_serializer="bytes", key_serializer="bytes"
    )

    def changed_contact(value: bytes, state: Any) -> bytes | None:
        notification = parse_notification(value)
        known = state.get_bytes("seen")
        event = ContactEvent(
            notification.time,
            hash_id(notification.id),
            fingerprint(mapping, notification.object),
            tag,
            False,
        )
        forward, _, after, _ = decide(
            None if known is None else decode(known), event, 2_000_000_000
        )
        if after is not None:
            state.set_bytes("seen", encode(after))
        return orjson.dumps(notification.object) if forward else None

    frame = app.dataframe(events)
    frame = frame.apply(changed_contact, stateful=True)
    frame = frame.filter(lambda value: value is not None)
    frame.to_topic(changes)
    app.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
