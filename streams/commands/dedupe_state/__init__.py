"""The command dedupe-state: fills the table of another generation of dedupe, and switches to it."""
