"""Nylas: signed notifications, pages of contacts, grants."""
