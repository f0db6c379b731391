"""A labelled world: address books, an org, what people do there, and who is who.

`labelled_world` makes it, `play` plays it against a `Sync`, and `examine` says what went wrong.
"""

from tests.support.labelled_world.kinds import labelled_world
from tests.support.labelled_world.model import Verdict
from tests.support.labelled_world.play import deliver, play
from tests.support.labelled_world.verdicts import examine

__all__ = ["Verdict", "deliver", "examine", "labelled_world", "play"]
