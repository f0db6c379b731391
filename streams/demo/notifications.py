"""Has a simulated Nylas send the demo's live notifications, where the demo runs in containers."""

import time

import httpx

from streams.demo.scenario import assign_roles, initial_data, make_scenario

# The simulator answers when each notification of a kind is delivered, for which it waits up to
# 60 s.
CALL_SECONDS = 90.0


async def send(nylas_url: str, api_key: str, people: int, seed: int) -> int:
    """Sends the notifications and returns their number.

    The simulator at `nylas_url` must have been started with the same people and seed. Raises
    httpx.HTTPError.
    """
    books, org = initial_data(people, seed)
    roles = assign_roles(books, org, seed)
    scenario = make_scenario(roles, books["grants"][0]["id"], int(time.time()))
    sent = 0
    headers = {"Authorization": f"Bearer {api_key}"}
    async with httpx.AsyncClient(
        base_url=nylas_url, headers=headers, timeout=CALL_SECONDS, trust_env=False
    ) as client:
        for _, notifications in scenario.notifications:
            body = {"notifications": list(notifications), "wait": True}
            (await client.post("/_sim/notify", json=body)).raise_for_status()
            sent += len(notifications)
    return sent
