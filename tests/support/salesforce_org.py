"""The Salesforce simulator behind a real socket, and a Sync that is logged in to it."""

import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from aiohttp.test_utils import TestServer

from connectors.salesforce.api.auth import ClientCredentials, Session
from connectors.salesforce.api.budget import Budget
from connectors.salesforce.api.client import SalesforceClient, http_client
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.policy import Policy
from connectors.salesforce.simulator import World, app
from connectors.salesforce.simulator.faults import parse_fault
from connectors.salesforce.sync import NEXT_BATCH, Sync


@dataclass
class SimulatedOrg:
    """`calls` by kind, as the client counted them; `counts` as Sync did; `methods` of every
    request, and of those inside them.
    """

    world: World
    sync: Sync
    calls: Counter[str] = field(default_factory=Counter)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    now: float = 1_750_000_000.0

    def records(self, sobject: str) -> list[dict[str, Any]]:
        return [
            row for row in self.world.org.tables[sobject].rows.values() if not row.get("IsDeleted")
        ]

    def fault(self, effect: str, **options: Any) -> None:
        """Puts a fault on the next calls that write, or as the simulator's options say."""
        self.world.faults.queue.append(
            parse_fault({"effect": effect, "kind": "composite_write", **options})
        )

    def people(self) -> list[dict[str, Any]]:
        """Contacts and open Leads."""
        return [
            *self.records("Contact"),
            *(lead for lead in self.records("Lead") if not lead.get("IsConverted")),
        ]

    async def all(self, *changes: ContactVersion, size: int = 1000) -> dict[str, Outcome]:
        """Offers changes in batches, those that had no room again with the next, until each has its
        outcome.
        """
        waiting, outcomes = list(changes), {}
        while waiting:
            batch, waiting = waiting[:size], waiting[size:]
            again = set()
            for outcome in await self.sync.sync(batch):
                if outcome.status is OutcomeStatus.RETRY and outcome.reason == NEXT_BATCH:
                    again.add(outcome.key)
                else:
                    outcomes[outcome.key] = outcome
            assert len(again) < len(batch), "a batch in which nothing was done"
            waiting = [change for change in batch if change.key in again] + waiting
        return outcomes


@asynccontextmanager
async def simulated_org(
    document: dict[str, Any] | None = None,
    policy: Policy | None = None,
    budget: Budget | None = None,
) -> AsyncIterator[SimulatedOrg]:
    world = World(document)
    async with TestServer(app(world)) as server:
        http = http_client()
        calls: Counter[str] = Counter()
        counts: Counter[tuple[str, str]] = Counter()

        def on_call(kind: str, status: int | None, seconds: float) -> None:
            calls[kind] += 1

        async def note(request: httpx.Request) -> None:
            org.methods[request.method] += 1
            if request.url.path.endswith("/composite"):
                raw = request.content
                body = (
                    gzip.decompress(raw)
                    if request.headers.get("Content-Encoding") == "gzip"
                    else raw
                )
                org.methods.update(part["method"] for part in json.loads(body)["compositeRequest"])

        http.event_hooks["request"].append(note)
        session = Session(
            ClientCredentials("id", "secret", str(server.make_url("")).rstrip("/")), http, on_call
        )
        async with SalesforceClient(session, http, on_call=on_call, budget=budget) as client:
            org: SimulatedOrg

            def count(what: str, where: str) -> None:
                counts[what, where] += 1

            sync = Sync(client, policy or Policy(), count, lambda: org.now)
            org = SimulatedOrg(world, sync, calls, counts)
            yield org
