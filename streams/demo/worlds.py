"""Writes the initial state of the simulators to files, for simulators that run in containers.

`contactstream simulate worlds` calls it.
"""

import json
from pathlib import Path

from streams.demo.scenario import initial_data


def write_worlds(
    folder: Path, people: int, seed: int, webhook_url: str | None, webhook_secret: str | None
) -> list[Path]:
    """Writes nylas.json and salesforce.json with the data of the demo; returns the two files.

    The same seed makes the same people. With `webhook_url` the simulated Nylas sends its
    notifications there, signed with `webhook_secret`. Raises OSError.
    """
    books, org = initial_data(people, seed)
    if webhook_url is not None:
        books["webhook"] = {"url": webhook_url}
        if webhook_secret is not None:
            books["webhook"]["secret"] = webhook_secret
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "nylas.json", folder / "salesforce.json"]
    for file, world in zip(files, (books, org), strict=True):
        file.write_text(json.dumps(world))
    return files
