"""The aiohttp application of the simulator, and its process."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from connectors.nylas.simulator.api import Api
from connectors.nylas.simulator.control import Control
from connectors.nylas.simulator.delivery import WebhookDelivery
from connectors.nylas.simulator.world import World

# A world of some hundred thousand contacts comes in one PUT.
LARGEST_BODY = 512 * 1024 * 1024
# What is under way when the process is told to stop gets this long.
SHUTDOWN_SECONDS = 2.0


def app(state: World) -> web.Application:
    """The simulator as an aiohttp application; its deliveries run from start-up to clean-up."""
    delivery = WebhookDelivery(state)

    async def deliver(_: web.Application) -> AsyncIterator[None]:
        async with delivery.running():
            yield

    application = web.Application(client_max_size=LARGEST_BODY)
    application.cleanup_ctx.append(deliver)
    application.add_routes(Api(state, delivery).routes())
    application.add_routes(Control(state, delivery).routes())
    return application


def serve(host: str, port: int, world: Path | Mapping[str, Any] | None = None) -> None:
    """Runs the simulator until SIGTERM or SIGINT; port 0 takes a free one.

    `world` is the initial state, or the file that holds it. Raises BadInput for a world that it
    cannot play.
    """
    document = json.loads(world.read_bytes()) if isinstance(world, Path) else world or {}
    uvloop.run(_serve(host, port, World.from_json(document)))


async def _serve(host: str, port: int, state: World) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(app(state), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0][1]
        print(f"nylas simulator listening on http://{host}:{bound}", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()
