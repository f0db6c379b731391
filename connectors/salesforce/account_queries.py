"""The statements that ask an org for its Accounts, and the decision what to ask for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from urllib.parse import quote

from connectors.salesforce.account_rules import NO_RULES, AccountRules
from connectors.salesforce.account_store import AccountCursor, OpenLoad
from connectors.salesforce.account_table import GENERATIONS
from connectors.salesforce.api.bulk_query import RECORDS_IN_PAGE
from connectors.salesforce.api.composite import QueryPage, Subrequest
from connectors.salesforce.org_fields import PERSON_ACCOUNT_FIELD

# A transaction may commit minutes after its SystemModstamp, so that a refresh goes back by this.
# Accounts that are read twice do no harm.
REFRESH_OVERLAP = timedelta(minutes=10)
# The recycle bin keeps a deleted Account for 15 days; afterwards no query shows the deletion. A day
# is left for clocks and for the load itself.
OLDEST_CURSOR = timedelta(days=14)
# Results of a bulk query are kept for 7 days, those of a REST query for 2 at most. What a load did
# not read in a day is asked for again.
OLDEST_LOAD = timedelta(days=1)
# Waits for a job of some hundred thousand records, which takes a minute or two.
EXPECTED_POLLS = 6
_FIELDS: tuple[str, ...] = ("Id", "Website", "ParentId", "CreatedDate")
# without these, only their IDs decide between several Accounts of one host
_DISPENSABLE_FIELDS = frozenset(("ParentId", "CreatedDate"))


@dataclass(frozen=True, slots=True)
class AccountQuery:
    """A statement for Accounts, and the fields of its records in their order."""

    soql: str
    fields: tuple[str, ...]
    deleted: bool
    """Whether it has to be asked as queryAll, which also shows what is in the recycle bin."""

    def subrequest(self, reference: str) -> Subrequest:
        """The query as a part of a Composite."""
        resource = "queryAll" if self.deleted else "query"
        return Subrequest("GET", f"/{resource}?q={quote(self.soql, safe='')}", reference)


class AccountFields:
    """The fields that the Accounts are asked for: those that our user may see."""

    def __init__(self, rules: AccountRules = NO_RULES) -> None:
        self._rules = rules
        self._fields = tuple(dict.fromkeys((*_FIELDS, *rules.fields)))
        # The Accounts of a filter cannot be told apart without its fields.
        self._dispensable = {*_DISPENSABLE_FIELDS, *rules.domain_fields} - {*rules.conditions}

    def drop(self, names: Iterable[str]) -> bool:
        """Leaves fields that are hidden from the user out of the next queries.

        False if that changes nothing: no such field is requested, or it cannot be done without.
        """
        dropped = self._dispensable.intersection(names)
        kept = tuple(name for name in self._fields if name not in dropped)
        changed, self._fields = len(kept) < len(self._fields), kept
        return changed

    def tell_person_accounts_apart(self) -> bool:
        """Asks of each Account whether it is a Person Account, which belongs to nobody else.

        To be called for an org in which they are on: another org refuses the field. True if the
        queries so far did not ask.
        """
        if PERSON_ACCOUNT_FIELD in self._fields:
            return False
        self._fields += (PERSON_ACCOUNT_FIELD,)
        return True

    def query(self, load: OpenLoad, since: datetime | None, gone: Sequence[str]) -> AccountQuery:
        """The query of a load: for all Accounts that name a domain, or for those that changed.

        The changed ones include deleted Accounts, and Accounts that lost their Website. `gone` are
        IDs that are asked for besides, because they may be there after all.
        """
        if load.full or since is None:
            names = ", ".join(self._fields)
            named = (
                "Website",
                *(each for each in self._rules.domain_fields if each in self._fields),
            )
            condition = " OR ".join(f"{each} != null" for each in named)
            everything = f"SELECT {names} FROM Account WHERE {condition}"  # noqa: S608
            return AccountQuery(everything, self._fields, deleted=False)
        fields = (*self._fields, "IsDeleted")
        start = (since - REFRESH_OVERLAP).astimezone(UTC)
        listed = ",".join(f"'{account_id}'" for account_id in gone if account_id.isalnum())
        again = f" OR Id IN ({listed})" if listed else ""
        changed = (
            f"SELECT {', '.join(fields)} FROM Account "  # noqa: S608
            f"WHERE SystemModstamp >= {start.strftime('%Y-%m-%dT%H:%M:%SZ')}{again}"
        )
        return AccountQuery(changed, fields, deleted=True)


def next_load(cursor: AccountCursor, now: datetime, rules: AccountRules = NO_RULES) -> OpenLoad:
    """What to ask for at `now`: the load that is open, the changes, or all Accounts again."""
    load, known, name = cursor.load, cursor.known_until, rules.fingerprint
    if load is not None and now - load.asked < OLDEST_LOAD and load.rules == name:
        return load
    if known is not None and now - known < OLDEST_CURSOR and cursor.rules == name:
        return OpenLoad(now, full=False, generation=cursor.generation, rules=name)
    generation = (cursor.begun + 1) % GENERATIONS
    return OpenLoad(now, full=True, generation=generation, rules=name)


def after_load(load: OpenLoad) -> AccountCursor:
    """The cursor once a load was read to its end."""
    return AccountCursor(load.asked, load.rules, load.generation, load.generation)


def bulk_is_cheaper(page: QueryPage) -> bool:
    """Whether a bulk query takes fewer calls than the further pages of this first page.

    A bulk query creates a job, asks for its state some times, and reads all records again. `total`
    in the answer to a query counts all its records, so no COUNT() is needed.
    """
    if page.next_url is None or not page.records:
        return False
    further_pages = ceil((page.total - len(page.records)) / len(page.records))
    return 1 + EXPECTED_POLLS + ceil(page.total / RECORDS_IN_PAGE) < further_pages
