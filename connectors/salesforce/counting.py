"""The callback by which the connector reports events to count."""

from collections.abc import Callable

CountCallback = Callable[[str, str], None]
"""Called with what happened (`cut`, `left_out`) and to which field (`Lead.Title`)."""
