"""The bridge: receives webhooks from Nylas and publishes them to Kafka."""
