"""The reader: everything that asks Nylas."""
