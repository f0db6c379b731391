"""Numbered versions of many contacts, through the front door: signed notifications, sent again until they get their 200."""

import asyncio
import hashlib
import hmac
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import aiohttp

SECRET = "storm-secret"
GRANT = "storm-grant"
BASE = 1_700_000_000  # versions are BASE + n: seconds that nobody's clock is asked about


@dataclass(frozen=True)
class Notification:
    """What is sent, and under which ID."""

    id: str
    body: bytes


def contact(number: int, title: str, notes: str = "") -> dict[str, object]:
    """Contact number n; everybody has a domain of their own, so everybody becomes a Lead."""
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


def envelope(identity: str, time: int, subject: object, kind: str = "contact.updated") -> bytes:
    """A notification as Nylas would write it."""
    return json.dumps(
        {
            "specversion": "1.0",
            "type": kind,
            "source": "/google/contacts/incremental",
            "id": identity,
            "time": time,
            "webhook_delivery_attempt": 1,
            "data": {"application_id": "storm", "object": subject},
        }
    ).encode()


def notifications(seed: int, contacts: int, versions: int) -> list[Notification]:
    """Every contact in so many versions: most of them news, some the same again, some only notes, some a deletion, some twice.

    The order is that of a provider under load: neighbours change places, and some arrive much later than they happened.
    """
    choose = random.Random(seed)
    drafts: list[tuple[float, Notification]] = []
    titles = dict.fromkeys(range(contacts), "v0")
    for version in range(1, versions + 1):
        for number in range(contacts):
            when, kind = BASE + version, choose.random()
            subject: object
            event = "contact.updated"
            if kind < 0.75:
                titles[number] = f"v{version}"
                subject = contact(number, titles[number])
            elif kind < 0.85:  # the same content under a new ID
                subject = contact(number, titles[number])
            elif kind < 0.95:  # a change that nobody maps
                subject = contact(number, titles[number], notes=f"note {version}")
            else:
                subject = {"id": f"c{number}", "grant_id": GRANT, "object": "contact"}
                event = "contact.deleted"
            notification = Notification(
                f"n{seed}-{number}-{version}", envelope(f"n{seed}-{number}-{version}", when, subject, event)
            )
            late = choose.expovariate(1 / 40) if choose.random() < 0.1 else choose.random() * 2
            place = version * contacts + number + late * contacts / 10
            drafts.append((place, notification))
            if choose.random() < 0.05:  # delivered again although it got its 200
                drafts.append((place + contacts * choose.random() * 3, notification))
    drafts.sort(key=lambda draft: draft[0])
    return [notification for _, notification in drafts]


@dataclass
class Sender:
    """Sends notifications to bridges, and notes which got their 200."""

    urls: Sequence[str]
    acknowledged: list[str] = field(default_factory=list)
    refused: int = 0
    """Answers of 503 and connections that failed: sent again."""
    odd: list[int] = field(default_factory=list)
    """Any other status: nobody sends again after it."""

    async def send(self, queue: Sequence[Notification], rate: float, connections: int = 32) -> None:
        """Sends everything, at most `rate` a second; returns when each has got its 200."""
        source = iter(queue)
        loop = asyncio.get_running_loop()
        began, taken = loop.time(), 0

        def following() -> Iterator[Notification]:
            nonlocal taken
            for notification in source:
                taken += 1
                yield notification

        shared = following()
        timeout = aiohttp.ClientTimeout(total=10)  # Nylas' own
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=connections)) as http:

            async def work() -> None:
                for notification in shared:
                    ahead = began + taken / rate - loop.time()
                    if ahead > 0:
                        await asyncio.sleep(ahead)
                    await self._until_acknowledged(http, notification)

            await asyncio.gather(*(work() for _ in range(connections)))

    async def _until_acknowledged(self, http: aiohttp.ClientSession, notification: Notification) -> None:
        signature = hmac.new(SECRET.encode(), notification.body, hashlib.sha256).hexdigest()
        headers = {"X-Nylas-Signature": signature, "Content-Type": "application/json"}
        attempt = 0
        while True:
            url = self.urls[(hash(notification.id) + attempt) % len(self.urls)]
            try:
                async with http.post(url, data=notification.body, headers=headers) as answer:
                    status = answer.status
            except (aiohttp.ClientError, TimeoutError, OSError):
                status = 0
            if status == 200:
                self.acknowledged.append(notification.id)
                return
            if status not in (0, 503):
                self.odd.append(status)
                return
            self.refused += 1
            attempt += 1
            await asyncio.sleep(min(2.0, 0.05 * 2**attempt))
