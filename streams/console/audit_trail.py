"""Writes down in contactstream.audit who did or looked at what in the console."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.console.reading import NotReadable
from streams.events import now_ms
from streams.settings import KafkaSettings
from streams.topics import topics


class Audit(Protocol):
    """Takes what persons do."""

    async def begin(
        self, actor: str, action: str, why: str, selection: Mapping[str, Any], count: int
    ) -> AuditEntry:
        """Notes that a person begins an action. Raises NotReadable when it cannot be noted."""

    async def end(self, entry: AuditEntry, count: int) -> None:
        """Notes what the action came to. Raises NotReadable."""


class AuditTrail:
    """An entry is acknowledged by the broker before the action begins, or it does not begin."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._topic = topics(kafka).audit.name

    async def begin(
        self, actor: str, action: str, why: str, selection: Mapping[str, Any], count: int
    ) -> AuditEntry:
        """Notes that a person begins an action. Raises NotReadable when Kafka does not take it."""
        action_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"
        entry = AuditEntry(
            action_id, AuditState.BEGUN, now_ms(), actor, action, why, selection, count
        )
        await self._write(entry)
        return entry

    async def end(self, entry: AuditEntry, count: int) -> None:
        """Notes what the action came to. Raises NotReadable."""
        await self._write(replace(entry, state=AuditState.ENDED, at_ms=now_ms(), count=count))

    async def _write(self, entry: AuditEntry) -> None:
        try:
            await asyncio.to_thread(self._publish, entry)
        except NotAcknowledged as error:
            raise NotReadable(f"nothing was done: {error}") from error

    def _publish(self, entry: AuditEntry) -> None:
        with CommandPublisher(self._kafka) as publisher:
            publisher.publish([audit_record(self._topic, entry)])
