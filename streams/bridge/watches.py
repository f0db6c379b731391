"""What the bridge watches while it runs: its secrets, its connections, and the broker.

Each watch runs until it is cancelled.
"""

import asyncio
from collections.abc import Callable

import structlog

from connectors.nylas.webhook import usable_secrets
from streams.acls import role_acls
from streams.bridge.broker_status import BrokerStatus
from streams.bridge.intake import NotificationIntake
from streams.bridge.reader_notice import ReaderNotice
from streams.bridge.server import WebhookServer
from streams.kafka.clients import wait_for_broker
from streams.metrics import BridgeMetrics
from streams.runtime.ops import Health
from streams.settings import BridgeSettings, KafkaSettings, NylasSettings, SettingsError, load
from streams.topics import topics

log = structlog.get_logger()

# Between two rounds of a watch.
WATCH_SECONDS = 1.0


def use_secrets(
    intake: NotificationIntake,
    metrics: BridgeMetrics,
    nylas: NylasSettings,
    settings: BridgeSettings,
    *,
    first: bool = False,
) -> None:
    """Takes the usable ones of the configured secrets into use. `first`: at the start."""
    given = [secret.get_secret_value() for secret in nylas.webhook_secrets]
    secrets = usable_secrets(given, accept_test_events=settings.accept_test_events)
    if secrets != intake.secrets:
        log.info("webhook secrets changed", in_use=len(secrets), refused=len(given) - len(secrets))
    if not secrets and (intake.secrets or first):
        log.warning(
            "no webhook secret: every notification gets 503 until NYLAS_WEBHOOK_SECRETS, or the "
            "file that NYLAS_WEBHOOK_SECRETS_FILE names, holds the destination's secret; for a new "
            "one run: contactstream webhooks rotate ID",
            refused=len(given),
        )
    intake.secrets = secrets
    metrics.secrets.set(len(secrets))


async def watch_secrets(
    intake: NotificationIntake, metrics: BridgeMetrics, settings: BridgeSettings
) -> None:
    """Takes a new secret into use without a restart.

    When a secret is rotated, Nylas signs with the new one at once.
    """
    failed = False
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        try:
            nylas = await asyncio.to_thread(load, NylasSettings)
        except SettingsError as error:
            metrics.secret_reload_failures.inc()
            if not failed:
                log.warning(
                    "webhook secrets could not be read; the old ones stay in use", error=str(error)
                )
            failed = True
            continue
        failed = False
        use_secrets(intake, metrics, nylas, settings)


async def watch_connections(server: WebhookServer, health: Health) -> None:
    """Cuts off slow senders, and shows that the event loop runs."""
    while True:
        server.cut_slow()
        health.beat()
        await asyncio.sleep(WATCH_SECONDS)


async def watch_broker(
    kafka: KafkaSettings,
    broker: BrokerStatus,
    notice: ReaderNotice,
    intake: NotificationIntake,
    health: Health,
    stopped: Callable[[], bool],
) -> None:
    """Reports ready while a broker knows our topics, and publishes the notices for the reader.

    The broker is asked again after each outage.
    """
    names, needs = topics(kafka), role_acls(kafka, "bridge")
    wanted = [names.events.name, names.grants.name, names.dead_letter.name, names.runs.name]
    while True:
        broker.lost.clear()
        if not await asyncio.to_thread(
            wait_for_broker,
            kafka,
            wanted,
            stopped=stopped,
            waiting=health.waiting,
            needs=needs,
        ):
            await asyncio.Event().wait()  # the process stops, and cancels this
        health.ready()
        log.info("ready")
        while not broker.lost.is_set():
            await notice.publish(accepting=intake.accepting)
            await asyncio.sleep(WATCH_SECONDS)
