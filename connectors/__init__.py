"""The edges of contactstream: clients of Nylas and Salesforce, and a simulator of each.

They know nothing of Kafka.
"""
