"""Asks the org who may own records: its users, and the owners of Accounts.

Both are asked beside other queries of the same Composite, at no further call, except for the users
of an org that has thousands. Where they cannot be read, the rules that need them give no owner.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectors.salesforce.api.client import CompositeClient, Fence
from connectors.salesforce.api.composite import (
    SubAnswer,
    Subrequest,
    query_page,
    query_subrequest,
)
from connectors.salesforce.api.errors import RequestRejected, UnexpectedAnswer
from connectors.salesforce.counting import CountCallback, SyncWarning
from connectors.salesforce.owner_rules import OwnerRule
from connectors.salesforce.owners import OwnerBook

# Active users that are read; 25 calls at the start at most. What an org has beyond is not found.
MAX_USERS = 50_000
PAGE = 2_000
# A user's change may commit minutes after its SystemModstamp.
OVERLAP_SECONDS = 600.0
# After which the owner of an Account is asked for again, with the next Contact that is created.
ACCOUNT_OWNER_SECONDS = 3600.0
# Owners of Accounts in memory, 20 MB; the oldest are asked for again.
MAX_ACCOUNT_OWNERS = 100_000
# Accounts of one statement: 21,000 of the 100,000 characters.
MAX_ASKED = 1_000
# Standard users alone can own Contacts and Leads; the others are portals, guests and bots
# [Object Reference: User.UserType].
_USERS = "FROM User WHERE UserType = 'Standard'"


@dataclass(frozen=True, slots=True)
class OwnerRequest:
    """The queries that a batch sends along: for changed users, and for the owners of Accounts."""

    subrequests: tuple[Subrequest, ...]
    users_asked_at: float | None
    account_ids: tuple[str, ...]


class OwnerMetadata:
    """Keeps an OwnerBook current."""

    def __init__(
        self,
        book: OwnerBook,
        client: CompositeClient,
        count: CountCallback,
        clock: Callable[[], float],
        refresh_seconds: float,
    ) -> None:
        self.book = book
        self._client = client
        self._count = count
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._users_since: float | None = None
        self._users_due = 0.0
        self._wanted: dict[str, None] = {}
        self._went_first = False

    @property
    def _needs_users(self) -> bool:
        return OwnerRule.USER in self.book.policy.rules

    def want(self, account_ids: Iterable[str | None]) -> None:
        """Notes of which Accounts the owner is needed for the records that may be created now."""
        if OwnerRule.ACCOUNT not in self.book.policy.rules:
            return
        oldest = self._clock() - ACCOUNT_OWNER_SECONDS
        for account_id in account_ids:
            if account_id and self._owner_read_at(account_id) < oldest:
                self._wanted[account_id[:15]] = None

    def _owner_read_at(self, account_id: str) -> float:
        return self.book.account_owners.get(account_id[:15], (None, float("-inf")))[1]

    def goes_before_refresh(self) -> bool:
        """Whether the only free query of a Composite is for the owners of Accounts.

        A refresh of the Accounts that is due waits for it once, and not twice in a row.
        """
        self._went_first = bool(self._wanted) and not self._went_first
        return self._went_first

    def start_subrequests(self) -> list[Subrequest]:
        """The query for all active users; none if no rule needs them."""
        if not self._needs_users:
            return []
        soql = f"SELECT {self._user_fields()} {_USERS} AND IsActive = true"
        return [query_subrequest(soql, "users")]

    def _user_fields(self) -> str:
        return f"Id, IsActive, {self.book.policy.match.field}"

    async def take_start(self, answer: SubAnswer, fence: Fence) -> None:
        """Takes the answer to `start_subrequests`, and reads the further pages of it.

        Raises as the client does.
        """
        asked_at = self._clock()
        self._users_due = asked_at + self._refresh_seconds
        try:
            page = query_page(answer)
            self.book.users.apply(page.records)
            while page.next_url is not None and len(self.book.users) < MAX_USERS:
                page = await self._client.query_more(page.next_url, "query", fence)
                self.book.users.apply(page.records)
        except (RequestRejected, UnexpectedAnswer) as error:
            self._count(SyncWarning.USERS_REFUSED, _reason(error))
            return
        self._users_since = asked_at

    def claim(self, room: int) -> OwnerRequest | None:
        """What the calling batch has to send along in at most `room` queries; None if nothing."""
        now = self._clock()
        subrequests: list[Subrequest] = []
        accounts: tuple[str, ...] = ()
        users_asked_at = None
        if self._wanted and room > 0:
            accounts = tuple(self._wanted)[:MAX_ASKED]
            self._wanted.clear()
            listed = ",".join(f"'{account_id}'" for account_id in accounts)
            soql = (
                "SELECT Id, OwnerId FROM Account "  # noqa: S608 IDs of the org
                f"WHERE Id IN ({listed}) AND Owner.IsActive = true"
            )
            subrequests.append(query_subrequest(soql, "account_owners"))
            room -= 1
        if self._needs_users and now >= self._users_due and room > 0:
            users_asked_at = now
            self._users_due = now + self._refresh_seconds
            subrequests.append(query_subrequest(self._changed_users(), "changed_users"))
        if not subrequests:
            return None
        return OwnerRequest(tuple(subrequests), users_asked_at, accounts)

    def _changed_users(self) -> str:
        """The statement for users that changed, the oldest first, so that no page is needed."""
        since = datetime.fromtimestamp((self._users_since or 0.0) - OVERLAP_SECONDS, UTC)
        if self._users_since is None:  # the start was refused
            return f"SELECT {self._user_fields()} {_USERS} AND IsActive = true LIMIT {PAGE}"
        return (
            f"SELECT {self._user_fields()}, SystemModstamp {_USERS} "
            f"AND SystemModstamp >= {since.strftime('%Y-%m-%dT%H:%M:%SZ')} "
            f"ORDER BY SystemModstamp LIMIT {PAGE}"
        )

    def take(self, request: OwnerRequest, answers: Sequence[SubAnswer]) -> None:
        """Takes the answers to a request. A failure is counted, and is not the batch's failure."""
        waiting = list(answers)
        if request.account_ids:
            self._take_accounts(request.account_ids, waiting.pop(0))
        if request.users_asked_at is not None:
            self._take_users(request.users_asked_at, waiting.pop(0))

    def _take_accounts(self, asked: Sequence[str], answer: SubAnswer) -> None:
        try:
            rows = query_page(answer).records
        except (RequestRejected, UnexpectedAnswer) as error:
            self._count(SyncWarning.ACCOUNT_OWNERS_REFUSED, _reason(error))
            return
        found = {str(row.get("Id"))[:15]: _owner(row) for row in rows}
        now = self._clock()
        for account_id in asked:
            self.book.account_owners[account_id] = (found.get(account_id), now)
            self.book.account_owners.move_to_end(account_id)
        while len(self.book.account_owners) > MAX_ACCOUNT_OWNERS:
            self.book.account_owners.popitem(last=False)

    def _take_users(self, asked_at: float, answer: SubAnswer) -> None:
        try:
            page = query_page(answer)
        except (RequestRejected, UnexpectedAnswer) as error:
            self._count(SyncWarning.USERS_REFUSED, _reason(error))
            return
        rows = page.records
        self.book.users.apply(rows)
        # a full page may not be all: the next refresh goes on behind its last user
        full = page.next_url is not None or len(rows) == PAGE
        last = _moment(rows[-1].get("SystemModstamp")) if full else None
        self._users_since = asked_at if last is None else last + OVERLAP_SECONDS


def _owner(row: Mapping[str, Any]) -> str | None:
    owner = row.get("OwnerId")
    return owner if isinstance(owner, str) else None


def _moment(value: object) -> float | None:
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return None


def _reason(error: RequestRejected | UnexpectedAnswer) -> str:
    return error.verdict.reason if isinstance(error, RequestRejected) else "unexpected_answer"
