"""Dedupe: a Faust worker that drops what is no news."""
