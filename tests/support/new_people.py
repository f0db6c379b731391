"""People who come into an address book one after the other while a test goes on."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.product import GRANT, Product, person
from tests.support.threads import repeated

# In an hour of scaled time (tests/support/scaled_time.py) some 240 come: more than the least
# numbers from which on our alerts believe a ratio.
EVERY_SECONDS = 0.25


@dataclass(slots=True)
class NewPeople:
    """Who came so far."""

    running: Product
    addresses: list[str] = field(default_factory=list)

    def add(self) -> None:
        """One more, whom Nylas notifies as it does: in three attempts at most."""
        number = len(self.addresses)
        address = f"new{number}@new{number}.example"
        contact = person(f"new{number}", address, surname=f"New{number}")
        self.running.http.post(
            f"{self.running.nylas}/_sim/contacts",
            json={"grant_id": GRANT, "upsert": [contact], "notify": True},
        ).raise_for_status()
        self.addresses.append(address)

    def records(self) -> Counter[str]:
        """How many Leads of the org have an address."""
        return Counter(record["Email"] for record in self.running.records("Lead"))


@contextmanager
def people_coming(running: Product) -> Iterator[NewPeople]:
    """Adds people at a steady rate while it is entered."""
    people = NewPeople(running)
    with repeated(people.add, EVERY_SECONDS):
        yield people
