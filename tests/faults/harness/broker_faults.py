"""The faults of the broker and of the network before it. Each returns once it is over."""

import asyncio

from deploy.local.broker import Broker
from tests.faults.harness.environment import Environment
from tests.faults.harness.poison import send_poison
from tests.faults.harness.schedule import Step

DELAY_SECONDS = 0.2  # of each chunk, in each direction: a link across the world


def _broker(environment: Environment, step: Step) -> Broker:
    brokers = environment.brokers
    return brokers[int(step.draw * len(brokers))]


async def kill_and_start(environment: Environment, step: Step) -> bool:
    """kill -9 of a broker, which is started again after some seconds."""
    broker = _broker(environment, step)
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(step.seconds)
    await asyncio.to_thread(broker.start)
    return True


async def stop_and_start(environment: Environment, step: Step) -> bool:
    """A clean stop of a broker, which is started again after some seconds."""
    broker = _broker(environment, step)
    await asyncio.to_thread(broker.stop)
    await asyncio.sleep(step.seconds)
    await asyncio.to_thread(broker.start)
    return True


async def freeze(environment: Environment, step: Step) -> bool:
    """SIGSTOP of a broker, and SIGCONT after some seconds."""
    broker = _broker(environment, step)
    await asyncio.to_thread(broker.pause)
    await asyncio.sleep(step.seconds * 3)
    broker.resume()
    return True


async def black_hole(environment: Environment, step: Step) -> bool:
    """For some seconds no byte passes the proxy, and no connection fails."""
    await asyncio.to_thread(environment.proxy.black_hole)
    await asyncio.sleep(step.seconds * 2)
    await asyncio.to_thread(environment.proxy.heal)
    return True


async def delay(environment: Environment, step: Step) -> bool:
    """For some seconds every byte passes the proxy late."""
    environment.proxy.delay = DELAY_SECONDS * (0.5 + step.draw)
    await asyncio.sleep(step.seconds * 2)
    await asyncio.to_thread(environment.proxy.heal)
    return True


async def reset(environment: Environment, _: Step) -> bool:
    """Every open connection is cut with a TCP reset."""
    await asyncio.to_thread(environment.proxy.reset)
    return True


async def poison(environment: Environment, step: Step) -> bool:
    """Unreadable records are written to the topic of the step."""
    contacts = environment.settings.contacts
    await asyncio.to_thread(send_poison, environment.producer, step, contacts)
    return True
