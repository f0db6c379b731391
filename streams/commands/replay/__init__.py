"""The command replay: counts what publishing a topic again would do, and asks for it.

`command` runs it.
"""
