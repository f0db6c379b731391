"""How a contact that the settings leave out is told to the sink: plain functions."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from connectors.salesforce import fingerprint as fingerprints
from connectors.salesforce.kept_fields import is_unsettled
from connectors.salesforce.skip_reasons import SkipReason
from streams.dedupe.versions import DELETED, NEVER, DedupeState


class LeftOut(NamedTuple):
    """A contact that the settings leave out."""

    reason: SkipReason
    was_synced: bool
    """Whether its record may carry our key, and nobody has settled that yet."""
    released: bool = False
    """Whether the record is settled now, as if the contact were deleted."""


def how_left_out(
    reason: SkipReason, known: DedupeState | None, contact: Mapping[str, Any]
) -> LeftOut:
    """`known` tells whether the contact was forwarded; of a replay, the contact itself does."""
    waits = known is not None and known.fingerprint in fingerprints.UNSETTLED
    synced = known is not None and is_synced(known)
    return LeftOut(reason, waits or synced or is_unsettled(contact))


def is_synced(known: DedupeState) -> bool:
    """Whether the contact was last forwarded with its fields."""
    return known.forwarded != NEVER and known.fingerprint not in _WITHOUT_FIELDS


_WITHOUT_FIELDS = frozenset({DELETED}) | fingerprints.SETTLED | fingerprints.UNSETTLED
