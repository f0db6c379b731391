"""What a batch of the sink may write: its mode, for `connectors.salesforce.write_rules`."""

from connectors.salesforce.write_mode import WriteMode
from connectors.salesforce.write_rules import IntendedWrite
from streams.control import ControlTable


class BatchRules:
    """The rules of one batch: the mode at its start."""

    def __init__(self, mode: WriteMode) -> None:
        self.mode = mode

    def hold(self, write: IntendedWrite) -> str:
        """Never: there are no limits."""
        del write
        return ""


class WriteLimits:
    """What the sink may write now. Used in the event loop only."""

    def __init__(self, table: ControlTable, start_mode: WriteMode = WriteMode.MIRROR) -> None:
        """`table` is contactstream.control; `start_mode` counts while no mode is in it."""
        self._table = table
        self._start_mode = start_mode

    @property
    def mode(self) -> WriteMode:
        """The mode in force."""
        return self._start_mode if self._table.mode is None else self._table.mode.mode

    def for_batch(self) -> BatchRules:
        """The rules of a batch that starts now."""
        return BatchRules(self.mode)
