"""The HTTP client of one org: authorised, compressed, bounded calls whose refusals are raised as what they mean."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from connectors.salesforce.auth import OnCall, Session, no_hook
from connectors.salesforce.budget import Budget, Usage
from connectors.salesforce.composite import SubAnswer, Subrequest

API_VERSION = "62.0"


def http_client() -> httpx.AsyncClient:
    """An httpx client with the timeouts and connection limits that fit Salesforce; the SalesforceClient closes it."""
    raise NotImplementedError


class SalesforceClient:
    """Every call raises OrgUnavailable (pause), RequestRejected (see its verdict) or UnexpectedAnswer.

    Paths are relative to `/services/data/vNN.N`, or absolute as Salesforce hands them out (`nextRecordsUrl`).
    `async with` closes the httpx client at the end.
    """

    def __init__(
        self,
        session: Session,
        http: httpx.AsyncClient,
        api_version: str = API_VERSION,
        on_call: OnCall = no_hook,
        budget: Budget | None = None,
        answer_seconds: float = 120.0,
    ) -> None:
        self._session = session
        self._http = http
        self.api_version = api_version
        self._on_call = on_call
        self.budget = budget or Budget()
        self._answer_seconds = answer_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def user_id(self) -> str | None:
        """The 18-character ID of the user we are logged in as, from the token's identity URL."""
        raise NotImplementedError

    async def get(self, path: str, kind: str = "get") -> Any:
        """The parsed JSON of a GET."""
        raise NotImplementedError

    async def composite(self, subrequests: Sequence[Subrequest], kind: str) -> list[SubAnswer]:
        """One Composite; the answers in the order of the subrequests, their own statuses unchecked.

        OrgUnavailable("budget") without a call when only the reserve is left.
        """
        raise NotImplementedError

    async def limits(self) -> dict[str, Usage]:
        """`GET /limits`, observed into the budget; RequestRejected without the permission "View Setup"."""
        raise NotImplementedError

    async def query_all(self, soql: str, kind: str = "query") -> list[Mapping[str, Any]]:
        """Every record of a statement, page after page."""
        raise NotImplementedError

    async def rest_of(self, answer: SubAnswer, kind: str = "query") -> list[Mapping[str, Any]]:
        """Every record of a query subanswer: its own, and the further pages where it says done=false."""
        raise NotImplementedError
