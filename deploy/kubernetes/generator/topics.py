"""The topics of streams/topics.py as objects of Strimzi's topic operator."""

from deploy.kubernetes.generator.manifests import Manifest
from streams.settings import KafkaSettings, load
from streams.topics import topics

CLUSTER = "kafka"
"""Name of the Kafka cluster in the component; an overlay replaces it."""


def kafka_topics() -> list[Manifest]:
    """A KafkaTopic for each topic, with the default settings and without a topic prefix."""
    return [
        {
            "apiVersion": "kafka.strimzi.io/v1",
            "kind": "KafkaTopic",
            "metadata": {
                "name": topic.name,
                "labels": {
                    "app.kubernetes.io/name": "contactstream",
                    "strimzi.io/cluster": CLUSTER,
                },
            },
            "spec": {
                "partitions": topic.partitions,
                "replicas": topic.replicas,
                "config": dict(topic.config),
            },
        }
        for topic in topics(load(KafkaSettings, {})).all()
    ]
