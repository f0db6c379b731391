"""The console: what operators and revenue operations see in a browser, and do there."""
