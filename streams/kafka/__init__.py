"""Everything that talks to Kafka. It knows no stage and no contact."""
