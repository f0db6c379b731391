"""The Salesforce simulator behind a real socket, and a Sync that is logged in to it."""

import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from aiohttp.test_utils import TestServer

from connectors.salesforce.account_store import AccountStore
from connectors.salesforce.api.auth import ClientCredentials, Session
from connectors.salesforce.api.budget import Budget, Usage
from connectors.salesforce.api.client import (
    CompositeClient,
    Download,
    Fence,
    SalesforceClient,
    http_client,
    no_fence,
)
from connectors.salesforce.api.composite import QueryPage, SubAnswer, Subrequest
from connectors.salesforce.counting import SyncWarning
from connectors.salesforce.outcome import NOT_ATTEMPTED, ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.owners import GrantAddress, no_addresses
from connectors.salesforce.policy import Policy
from connectors.salesforce.simulator.faults import parse_fault
from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.world import World
from connectors.salesforce.sync import Sync
from connectors.salesforce.unanswered_calls import UnansweredCalls

Composite = Callable[[Sequence[Subrequest], str, Fence], Awaitable[list[SubAnswer]]]
Intercept = Callable[[Composite, Sequence[Subrequest], str, Fence], Awaitable[list[SubAnswer]]]
"""Gets the next `composite` and its arguments; returns the answers."""


class InterceptedClient:
    """A client whose Composites go through a function of the test, while `intercept` is set."""

    def __init__(self, client: CompositeClient) -> None:
        self._client = client
        self.intercept: Intercept | None = None

    async def org_id(self) -> str | None:
        return await self._client.org_id()

    async def user_id(self) -> str | None:
        return await self._client.user_id()

    async def composite(
        self, subrequests: Sequence[Subrequest], kind: str, fence: Fence = no_fence
    ) -> list[SubAnswer]:
        if self.intercept is None:
            return await self._client.composite(subrequests, kind, fence)
        return await self.intercept(self._client.composite, subrequests, kind, fence)

    async def limits(self, fence: Fence = no_fence) -> dict[str, Usage]:
        return await self._client.limits(fence)

    async def rest_of(
        self, answer: SubAnswer, kind: str = "query", fence: Fence = no_fence
    ) -> list[Mapping[str, Any]]:
        return await self._client.rest_of(answer, kind, fence)

    async def query_more(
        self, next_url: str, kind: str = "query", fence: Fence = no_fence
    ) -> QueryPage:
        return await self._client.query_more(next_url, kind, fence)

    async def post(
        self, path: str, body: Mapping[str, Any], kind: str, fence: Fence = no_fence
    ) -> Any:
        return await self._client.post(path, body, kind, fence)

    async def download(
        self, path: str, kind: str, fence: Fence = no_fence, accept: str = "application/json"
    ) -> Download:
        return await self._client.download(path, kind, fence, accept)


@dataclass
class SimulatedOrg:
    """A simulated org and a Sync that writes to it.

    `calls` are counted by kind, as the client counts them; `counts` are the Sync's warnings;
    `methods` are those of requests and of the subrequests inside them. `now` is the Sync's clock.
    """

    world: World
    client: InterceptedClient
    sync: Sync = field(init=False)
    calls: Counter[str] = field(default_factory=Counter)
    counts: Counter[tuple[SyncWarning, str]] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    now: float = 1_750_000_000.0

    def new_sync(
        self,
        client: CompositeClient,
        policy: Policy,
        accounts: AccountStore | None = None,
        grant_address: GrantAddress = no_addresses,
    ) -> Sync:
        """Another Sync of this org, with the same counters and clock."""

        def count(warning: SyncWarning, detail: str) -> None:
            self.counts[warning, detail] += 1

        unanswered = UnansweredCalls(clock=lambda: self.now)
        return Sync(
            client,
            policy,
            count,
            lambda: self.now,
            accounts=accounts,
            unanswered=unanswered,
            grant_address=grant_address,
        )

    def counted(self, warning: SyncWarning) -> dict[str, int]:
        """How often a warning was counted, by its detail."""
        return {detail: count for (one, detail), count in self.counts.items() if one is warning}

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
        """Syncs changes in batches until each has its outcome.

        Changes that had no room go again with the next batch.
        """
        waiting, outcomes = list(changes), {}
        while waiting:
            batch, waiting = waiting[:size], waiting[size:]
            again = set()
            for outcome in await self.sync.sync(batch):
                if outcome.status is OutcomeStatus.RETRY and outcome.reason in NOT_ATTEMPTED:
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
    """Serves a simulated org, and logs a Sync in to it, for the length of a test."""
    world = World(document)
    async with TestServer(app(world)) as server:
        http = http_client()
        calls: Counter[str] = Counter()
        methods: Counter[str] = Counter()

        def on_call(kind: str, status: int | None, seconds: float) -> None:
            calls[kind] += 1

        async def note(request: httpx.Request) -> None:
            methods[request.method] += 1
            if request.url.path.endswith("/composite"):
                raw = request.content
                if request.headers.get("Content-Encoding") == "gzip":
                    raw = gzip.decompress(raw)
                methods.update(part["method"] for part in json.loads(raw)["compositeRequest"])

        http.event_hooks["request"].append(note)
        login = ClientCredentials("id", "secret", str(server.make_url("")).rstrip("/"))
        session = Session(login, http, on_call)
        async with SalesforceClient(session, http, on_call=on_call, budget=budget) as client:
            org = SimulatedOrg(world, InterceptedClient(client), calls=calls, methods=methods)
            org.sync = org.new_sync(org.client, policy or Policy())
            yield org
