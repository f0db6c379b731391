"""The baseline of the bridge: an aiohttp handler that only produces the body to Kafka.

It awaits the acknowledgement and does nothing else.

    python -m tests.benchmarks.bare_bridge BOOTSTRAP TOPIC PORT
"""

import asyncio
import sys
import threading

import uvloop
from aiohttp import web
from confluent_kafka import KafkaError, Message, Producer


async def serve(bootstrap: str, topic: str, port: int) -> None:
    """Answers 200 after the acknowledgement and 503 without it, until the process ends."""
    loop = asyncio.get_running_loop()
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": 2,
            "compression.type": "lz4",
        }
    )

    def poll() -> None:
        while True:
            producer.poll(0.1)

    threading.Thread(target=poll, daemon=True).start()

    async def handle(request: web.Request) -> web.Response:
        done: asyncio.Future[KafkaError | None] = loop.create_future()

        def delivered(error: KafkaError | None, _: Message) -> None:
            loop.call_soon_threadsafe(done.set_result, error)

        producer.produce(
            topic, await request.read(), request.headers["X-Key"], on_delivery=delivered
        )
        return web.Response(status=503 if await done else 200)

    application = web.Application()
    application.router.add_post("/", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
