"""The command doctor: checks what a deployment depends on; `command` is the entry point."""
