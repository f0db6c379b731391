"""The command explain: what became of a contact, an address or a record; `command` runs it."""
