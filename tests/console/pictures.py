"""Takes the pictures of the console's pages: `.venv/bin/python -m tests.console.pictures`.

They show a made-up deployment at a fixed time, so that they change only with the pages.
"""

import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from streams.console.shell import Page, Shell
from tests.support.chromium import chromium
from tests.support.console import console
from tests.support.console_story import Deployment
from tests.support.paths import ROOT
from tests.support.people_story import BASE, World

FOLDER = ROOT / "deploy" / "docs" / "pictures" / "console"
PAGES = {
    "flow": "/",
    "people": "/people",
    "grants": "/grants",
    "dead-letters": "/dead-letters",
    "person": "/person?subject=g1/ada",
    "runs": "/runs",
    "budget": "/budget",
    "health": "/health?given=yes",
}
LOOKS = {"light": (1100, 700, "light"), "dark": (1100, 700, "dark"), "phone": (390, 700, "light")}

# 2026-11-24 14:05 UTC
NOW = 1_795_529_100.0

REASON = "FIELD_CUSTOM_VALIDATION_EXCEPTION"
SETTINGS = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka-0:9092,kafka-1:9092,kafka-2:9092",
    "NYLAS_API_KEY": "hidden on the page",
    "SALESFORCE_CLIENT_ID": "contactstream",
    "SALESFORCE_CLIENT_SECRET": "hidden on the page",
    "PEOPLE_OWN_DOMAINS": "acme.example",
    "CONSOLE_STAGES": "10.1.4.10:9100,10.1.4.11:9100,10.1.4.12:9100,10.1.4.13:9100",
}


GRANTS = [f"{number:08}-aaaa-4bbb-8ccc-000000000001" for number in (11111111, 22222222, 33333333)]


def people() -> World:
    """Three address books, of which one has to be connected anew, and two dead letters."""
    world = World()
    for number in range(180):
        status = ("created", "updated", "filled", "unchanged", "created")[number % 5]
        if number % 29 == 7:
            status = ("covered", "ambiguous", "failed")[number % 3]
        world.outcome(
            f"{GRANTS[number % 7 % 3]}/c{number}",
            status,
            first=True,
            matched="email" if number % (3 + number // 60) else None,
            at_ms=(BASE + number // 9 * 86_400) * 1000,
            candidates=[f"003A000000{number:05}AAA"],
        )
    for grant, name in zip(GRANTS, ("ada", "bob", "mary"), strict=True):
        kind = "grant.expired" if name == "mary" else "grant.listed"
        world.grant(grant, kind, email=f"{name}@acme.example", provider="google")
    world.letters.add(f"{GRANTS[0]}/c7")
    world.letters.add(f"{GRANTS[1]}/c94", reason="apex_error")
    return world


def pages(shell: Shell) -> Sequence[Page]:
    """All pages, in the order of the menu."""
    flow, *others = Deployment(now=NOW, reason=REASON).pages(shell)
    return [flow, *people().pages(shell), *others]


async def take() -> dict[Path, bytes]:
    """The pictures by their files."""
    pictures = {}
    with tempfile.TemporaryDirectory() as profile:
        async with (
            console(pages) as server,
            chromium(Path(profile)) as page,
        ):
            # Until the org has answered once, the page Flow has no calls to show.
            await page.goto(server.origin["Origin"] + PAGES["budget"])
            for look, (width, height, scheme) in LOOKS.items():
                await page.look_like(width, height, scheme)
                for name, path in PAGES.items():
                    await page.goto(server.origin["Origin"] + path)
                    pictures[FOLDER / f"{name}-{look}.png"] = await page.picture()
    return pictures


def main() -> None:
    """Writes the pictures."""
    os.environ.update(SETTINGS)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, picture in asyncio.run(take()).items():
        file.write_bytes(picture)


if __name__ == "__main__":
    main()
