"""The load of a storm: numbered versions of many contacts, sent as signed notifications.

Each notification is sent again until it is answered with 200.
"""

import asyncio
import hashlib
import hmac
import json
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import aiohttp

SECRET = "storm-secret"
GRANT = "storm-grant"
SECOND_GRANT = "storm-second"
BOOK_GRANT = "storm-book"
GRANTS = (GRANT, SECOND_GRANT, BOOK_GRANT)
OWN_DOMAIN = "our-team.example"  # of the grants' addresses, and of no contact
ACCOUNTS = 20
BASE = 1_700_000_000  # version n is BASE + n seconds, whatever any clock says


@dataclass(frozen=True)
class Notification:
    """A notification to send."""

    id: str
    body: bytes


def address_of(grant: str) -> str:
    """The address of a grant."""
    return f"{grant}@{OWN_DOMAIN}"


def grant_addresses() -> list[tuple[bytes, bytes]]:
    """Key and value of the records of grants.events that name the addresses of the grants.

    As the reader writes them once it has listed the grants, which in a deployment is long before
    the first notification.
    """
    return [
        (
            f"{grant}/address".encode(),
            envelope(
                f"address-{grant}",
                BASE,
                {"grant_id": grant, "provider": "google", "email": address_of(grant)},
                "grant.address",
            ),
        )
        for grant in GRANTS
    ]


def contact(number: int, title: str, notes: str = "") -> dict[str, object]:
    """Contact number n with an email domain of its own, so that it becomes a Lead."""
    return {
        "id": f"c{number}",
        "grant_id": GRANT,
        "object": "contact",
        "given_name": "Storm",
        "surname": f"Person{number}",
        "emails": [{"email": f"person{number}@storm{number}.example.com", "type": "work"}],
        "company_name": f"Storm {number}",
        "job_title": title,
        "notes": notes,
    }


def envelope(
    identity: str, time: int | None, subject: object, kind: str = "contact.updated"
) -> bytes:
    """The body of a notification as Nylas would write it, without a time where that is None."""
    body = {
        "specversion": "1.0",
        "type": kind,
        "source": "/google/contacts/incremental",
        "id": identity,
        "time": time,
        "webhook_delivery_attempt": 1,
        "data": {"application_id": "storm", "object": subject},
    }
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def grant_of(number: int) -> str:
    """Every tenth contact is in a second grant, and is the same person as the one before it."""
    return SECOND_GRANT if number % 10 == 9 else GRANT


def person(number: int, label: str, notes: str = "") -> dict[str, object]:
    """Contact number n with every field that the mapping reads; each differs for another label.

    Every seventh belongs to one of twenty Accounts. Only the first address can be shared with
    another contact.
    """
    who = number - 1 if number % 10 == 9 else number
    domain = account_domain(who // 7 % ACCOUNTS) if who % 7 == 3 else f"storm{who}.example"
    return {
        **_described(f"person{who}", f"Person{who}", domain, f"person{number}.{label}", label),
        "id": f"c{number}",
        "grant_id": grant_of(number),
        "notes": notes,
    }


def _described(local: str, surname: str, domain: str, other: str, label: str) -> dict[str, object]:
    return {
        "object": "contact",
        "source": "address_book",
        # what stands in brackets is no part of a name: with any label it is the same person
        "given_name": f"Storm ({label})",
        "surname": f"{surname} ({label})",
        "emails": [
            {"email": f"{local}@{domain}", "type": "work"},
            {"email": f"{other}@{domain}", "type": "home"},
        ],
        "company_name": f"{domain} {label}",
        "job_title": label,
        "phone_numbers": [
            {"number": f"+1 555 {zlib.crc32(f'{local} {label}'.encode())}", "type": "work"},
            {"number": f"+1 777 {zlib.crc32(f'{local} {label}'.encode())}", "type": "mobile"},
        ],
    }


def account_domain(number: int) -> str:
    """The domain of the web site of an Account of the org."""
    return f"account{number}.example"


@dataclass
class Load:
    """The notifications to send, and the contacts that exist after them."""

    queue: list[Notification]
    newest: list[dict[str, object]]
    """The newest state of each contact that is not deleted: what Nylas answers."""


# Of the events of an odd contact. A grant may be asked for one contact a second, so that these come
# to some pages of requests.
ODD_SHARE = 0.15
ODD = ("bodyless", "truncated", "no_time", "milliseconds", "ahead", "same_second")


def is_odd(number: int) -> bool:
    """Whether some events of the contact need another request to Nylas: one contact in twenty."""
    return number % 20 == 5


def notifications(
    seed: int, contacts: int, versions: int, base: int = BASE, step: float = 1.0
) -> Load:
    """Every contact in so many versions, as a provider under load would send them.

    Most versions change a mapped field. Some repeat the last content, some change only the notes,
    some are deletions, and some are sent twice. Neighbours change places, and some arrive much
    later than they happened. Version n is of the second `base` + n * `step`, where `step` counts as
    at least 1. The same seed makes the same load, up to `base`.
    """
    choose = random.Random(seed)
    drafts: list[tuple[float, Notification]] = []
    labels = dict.fromkeys(range(contacts), "v0")
    living = set(range(contacts))
    for version in range(1, versions + 1):
        for number in range(contacts):
            when, kind = base + int(version * max(1.0, step)), choose.random()
            late = choose.expovariate(1 / 40) if choose.random() < 0.1 else choose.random() * 2
            place = version * contacts + number + late * contacts / 10
            name = f"n{seed}-{number}-{version}"
            odd = choose.choice(ODD) if choose.random() < ODD_SHARE and is_odd(number) else ""
            subject: dict[str, object] = {
                "id": f"c{number}",
                "grant_id": grant_of(number),
                "object": "contact",
            }
            event, time = "contact.updated", _odd_time(odd, when)
            if odd == "bodyless":
                pass
            elif odd == "truncated":
                event, subject = "contact.updated.truncated", subject | {"job_title": "cut short"}
            elif kind < 0.75 or odd:
                labels[number] = f"v{version}"
                living.add(number)
                subject = person(number, labels[number])
            elif kind < 0.85:  # the same content under a new ID
                subject = person(number, labels[number])
                living.add(number)
            elif kind < 0.95:  # a change of a field that is not mapped
                subject = person(number, labels[number], notes=f"note {version}")
                living.add(number)
            else:
                event = "contact.deleted"
                living.discard(number)
            notification = Notification(name, envelope(name, time, subject, event))
            drafts.append((place, notification))
            if odd == "same_second":
                labels[number] = f"w{version}"
                rival = envelope(f"{name}-rival", when, person(number, labels[number]))
                drafts.append((place, Notification(f"{name}-rival", rival)))
            if choose.random() < 0.05:  # delivered again although it was answered with 200
                drafts.append((place + contacts * choose.random() * 3, notification))
    drafts.sort(key=lambda draft: draft[0])
    return Load(
        [notification for _, notification in drafts],
        [person(number, labels[number]) for number in sorted(living)],
    )


def _odd_time(odd: str, when: int) -> int | None:
    return {"no_time": None, "milliseconds": when * 1000, "ahead": when + 2 * 86_400}.get(odd, when)


@dataclass
class AddressBook:
    """The address book of a grant that sends no notifications, so that only the reader reads it."""

    seed: int
    contacts: int
    truth: dict[str, dict[str, object]] = field(default_factory=dict)
    """The contacts in it now, by contact ID."""
    changes: int = 0

    def __post_init__(self) -> None:
        self._choose = random.Random(self.seed)
        self.truth = {f"b{number}": self._person(number) for number in range(self.contacts)}

    def change(self) -> tuple[list[dict[str, object]], list[str]]:
        """Changes some contacts of the address book.

        Returns those that are new or changed, and the IDs of those that are gone.
        """
        self.changes += 1
        chosen = self._choose.sample(range(self.contacts), max(1, self.contacts // 20))
        gone = [
            name
            for number in chosen
            if (name := f"b{number}") in self.truth and self._choose.random() < 0.2
        ]
        written = [self._person(number) for number in chosen if f"b{number}" not in gone]
        for name in gone:
            del self.truth[name]
        self.truth |= {str(contact["id"]): contact for contact in written}
        return written, gone

    def _person(self, number: int) -> dict[str, object]:
        label = f"v{self.changes}"
        described = _described(
            f"book{number}",
            f"Book{number}",
            f"book{number}.example",
            f"book{number}.{label}",
            label,
        )
        return {**described, "id": f"b{number}", "grant_id": BOOK_GRANT}


@dataclass
class Sender:
    """Sends notifications to bridges, and notes which were answered with 200."""

    urls: Sequence[str]
    acknowledged: list[str] = field(default_factory=list)
    refused: int = 0
    """Answers of 503 and connections that failed: sent again."""
    unexpected_statuses: list[int] = field(default_factory=list)
    """Any other status; the notification is not sent again."""

    async def send(self, queue: Iterable[Notification], rate: float, connections: int = 32) -> None:
        """Sends everything, at most `rate` a second; returns when each was answered with 200."""
        source = iter(queue)
        loop = asyncio.get_running_loop()
        began, taken = loop.time(), 0

        def following() -> Iterator[Notification]:
            nonlocal taken
            for notification in source:
                taken += 1
                yield notification

        shared = following()
        timeout = aiohttp.ClientTimeout(total=10)  # Nylas waits as long for an answer
        async with aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=connections)
        ) as http:

            async def work() -> None:
                for notification in shared:
                    ahead = began + taken / rate - loop.time()
                    if ahead > 0:
                        await asyncio.sleep(ahead)
                    await self._until_acknowledged(http, notification)

            await asyncio.gather(*(work() for _ in range(connections)))

    async def _until_acknowledged(
        self, http: aiohttp.ClientSession, notification: Notification
    ) -> None:
        signature = hmac.new(SECRET.encode(), notification.body, hashlib.sha256).hexdigest()
        headers = {"X-Nylas-Signature": signature, "Content-Type": "application/json"}
        attempt = 0
        while True:
            url = self.urls[(zlib.crc32(notification.id.encode()) + attempt) % len(self.urls)]
            try:
                async with http.post(url, data=notification.body, headers=headers) as answer:
                    status = answer.status
            except (aiohttp.ClientError, TimeoutError, OSError):
                status = 0
            if status == 200:
                self.acknowledged.append(notification.id)
                return
            if status not in (0, 503):
                self.unexpected_statuses.append(status)
                return
            self.refused += 1
            attempt += 1
            await asyncio.sleep(min(2.0, 0.05 * 2**attempt))
