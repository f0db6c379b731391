"""Takes the pictures of the console's pages: `.venv/bin/python -m tests.console.pictures`.

They show a made-up deployment at a fixed time, so that they change only with the pages.
"""

import asyncio
import os
import tempfile
from pathlib import Path

from tests.support.chromium import chromium
from tests.support.console import console
from tests.support.console_story import Deployment
from tests.support.paths import ROOT

FOLDER = ROOT / "deploy" / "docs" / "pictures" / "console"
PAGES = {"flow": "/", "runs": "/runs", "budget": "/budget", "health": "/health?given=yes"}
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


async def take() -> dict[Path, bytes]:
    """The pictures by their files."""
    pictures = {}
    with tempfile.TemporaryDirectory() as profile:
        async with (
            console(Deployment(now=NOW, reason=REASON).pages) as server,
            chromium(Path(profile)) as page,
        ):
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
