"""The command outcomes: what the sink did with each contact; `command` runs it."""
