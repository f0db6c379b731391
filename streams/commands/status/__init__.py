"""The command status: how everything is now, on one page of a terminal."""
