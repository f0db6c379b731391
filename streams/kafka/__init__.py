"""Clients of Kafka: configuration, publishing, reading, offsets, lag and topics.

Nothing here knows a stage, a topic's name or a contact.
"""
