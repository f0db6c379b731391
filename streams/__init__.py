"""The stages of contactstream and the Kafka that joins them."""
