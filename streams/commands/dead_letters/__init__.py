"""The command dead-letters: what could not be processed, and how it is redriven or discarded."""
