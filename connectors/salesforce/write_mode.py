"""The modes: what may be written to the org, as an administrator chose it by name."""

from enum import StrEnum


class WriteMode(StrEnum):
    """What contactstream writes. Our own fields (key, version, marker) follow the record.

    The key of a deleted contact is released in every mode in which its record may be changed.
    """

    REPORT_ONLY = "report-only"
    """Nothing is written; what MIRROR would write becomes the outcome `planned`."""
    FILL_BLANKS = "fill-blanks"
    """Only blank fields of existing records are filled."""
    ENRICH_ONLY = "enrich-only"
    """As MIRROR, but nobody is created."""
    CREATE_ONLY = "create-only"
    """Who is missing is created; a record that others created is not changed."""
    MIRROR = "mirror"
    """Who is missing is created, and existing records follow the address books."""

    @property
    def creates(self) -> bool:
        """Whether records are created. REPORT_ONLY plans as if they were."""
        return self not in {WriteMode.FILL_BLANKS, WriteMode.ENRICH_ONLY}


MEANING = {
    WriteMode.REPORT_ONLY: "nothing is written; what would be written is recorded as planned",
    WriteMode.FILL_BLANKS: "blank fields of existing records are filled; nobody is created",
    WriteMode.ENRICH_ONLY: "existing records follow the address books; nobody is created",
    WriteMode.CREATE_ONLY: "missing people are created; records of others are not changed",
    WriteMode.MIRROR: "missing people are created; existing records follow the books",
}

# Reasons of outcomes by which a mode says that it withheld something.
CREATE_ONLY_REASON = "create_only"
"""Of an unchanged contact: its record was created by others, and CREATE_ONLY leaves it alone."""
BLANKS_ONLY_REASON = "blanks_only"
"""Of an updated or unchanged contact: FILL_BLANKS left a value that MIRROR would replace."""

_PLANNED = "planned"
_NOT_CREATED = "skipped:mode_creates_nobody"
_LEFT_ALONE = f"unchanged:{CREATE_ONLY_REASON}"
_BLANKS_ONLY = (f"updated:{BLANKS_ONLY_REASON}", f"unchanged:{BLANKS_ONLY_REASON}")

# What a mode can do for contacts that another mode withheld something from.
_IMPROVED = {
    WriteMode.REPORT_ONLY: (),
    WriteMode.FILL_BLANKS: (_PLANNED, _LEFT_ALONE),
    WriteMode.ENRICH_ONLY: (_PLANNED, _LEFT_ALONE, *_BLANKS_ONLY),
    WriteMode.CREATE_ONLY: (_PLANNED, _NOT_CREATED),
    WriteMode.MIRROR: (_PLANNED, _NOT_CREATED, _LEFT_ALONE, *_BLANKS_ONLY),
}


def improved_outcomes(mode: WriteMode) -> tuple[str, ...]:
    """The last outcomes, as `status` or `status:reason`, of contacts that this mode does more for.

    They are offered to the sink again when the mode is set.
    """
    return _IMPROVED[mode]
