"""The reader stage: reads contacts from Nylas and publishes them to contacts.events."""
