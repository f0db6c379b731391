"""A simulated org with many Accounts, as a process of its own: PORT and COUNT as arguments."""

import asyncio
import sys
from collections.abc import Iterator

from aiohttp import web

from connectors.salesforce.simulator.schema import make_id
from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.world import World

# Most companies have one Account; some have a few, and five have thousands of branches.
_LARGE_DOMAINS = 5
_STAMP = "2020-01-01T00:00:00.000+0000"


def websites(count: int) -> Iterator[str]:
    """Websites as a CRM has them: typed in several ways, shared, and below other hosts."""
    for number in range(count):
        kind = number % 100
        if kind < 5:
            yield f"https://www.group-{kind % _LARGE_DOMAINS}.example/branch/{number}"
        elif kind < 25:
            yield f"http://www.company-{number // 40:06d}.com/"
        elif kind < 32:
            yield f"shop-{number % 7}.holding-{number // 20:06d}.co.uk"
        else:
            yield f"www.enterprise-{number:06d}.com"


def world(count: int) -> World:
    """The org. Its Accounts are stored past the simulator's checks, which take minutes for all."""
    made = World()
    table = made.org.tables["Account"]
    for number, website in enumerate(websites(count), 1):
        table.rows[make_id("001", number)] = {
            "Id": make_id("001", number),
            "Website": website,
            "CreatedDate": f"20{number % 20:02d}-01-01T00:00:00.000+0000",
            "SystemModstamp": _STAMP,
        }
    return made


async def _serve(port: int, count: int) -> None:
    runner = web.AppRunner(app(world(count)), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
