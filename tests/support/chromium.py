"""Drives a headless Chromium by its DevTools protocol: no driver, and no browser to download."""

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

# As Debian and other distributions call it.
NAMES = ("chromium", "chromium-browser", "google-chrome")

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)

# A start on a busy machine, and one step of a test.
START_SECONDS = 60.0
STEP_SECONDS = 30.0
POLL_SECONDS = 0.05

# Of one message: a picture of a long page, in Base64.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024

# Of the end of the browser, before it is killed.
END_SECONDS = 10.0


def executable() -> str:
    """The installed Chromium. A test that needs it fails where there is none, with the remedy."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail("Chromium is not installed; on Debian: apt-get install chromium")
    return found


class DevTools:
    """The connection to a browser: calls with their answers, and the events of its pages."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.pages: dict[str, Page] = {}

    async def listen(self) -> None:
        """Hands answers and events out until the browser is gone."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said.get("sessionId") in self.pages:
                self.pages[said["sessionId"]].note(said["method"], said["params"])

    async def call(self, method: str, session: str = "", **parameters: Any) -> Any:
        """The result of a call. Fails when the browser refuses it or does not answer."""
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message | ({"sessionId": session} if session else {}))
        said = await asyncio.wait_for(answer, STEP_SECONDS)
        assert "error" not in said, f"{method}: {said['error']}"
        return said["result"]


class Page:
    """A tab."""

    def __init__(self, tools: DevTools, session: str) -> None:
        self._tools, self._session = tools, session
        self._loaded = asyncio.Event()
        self.problems: list[str] = []
        """What the browser complains about: refused by the policy, or an error of a script."""

    def note(self, event: str, parameters: Mapping[str, Any]) -> None:
        """Takes an event of the tab."""
        if event == "Page.loadEventFired":
            self._loaded.set()
        elif event == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        elif event == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.problems.append(f"{parameters['entry']['text']} {parameters['entry'].get('url')}")

    async def call(self, method: str, **parameters: Any) -> Any:
        """The result of a call about this tab."""
        return await self._tools.call(method, self._session, **parameters)

    async def goto(self, address: str) -> None:
        """Opens an address, and waits until the page is loaded with its scripts."""
        self._loaded.clear()
        answer = await self.call("Page.navigate", url=address)
        assert not answer.get("errorText"), f"{address}: {answer['errorText']}"
        await asyncio.wait_for(self._loaded.wait(), STEP_SECONDS)

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        """Waits until an expression is true."""
        async with asyncio.timeout(STEP_SECONDS):
            while not await self.run(f"Boolean({script})"):
                await asyncio.sleep(POLL_SECONDS)

    async def leave_by(self, selector: str) -> None:
        """Clicks what leads to another page, and waits until that is loaded."""
        self._loaded.clear()
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")
        await asyncio.wait_for(self._loaded.wait(), STEP_SECONDS)

    async def press(self, key: str) -> None:
        """Presses a key, as a person without a mouse does."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **(text if kind == "keyDown" else {}),
            )

    async def look_like(self, width: int, height: int, scheme: str) -> None:
        """Takes a size and the colours (`light` or `dark`) that the person's system prefers."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        await self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    async def picture(self) -> bytes:
        """A PNG of the whole page, also of what is below the window."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = await self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip
        )
        return base64.b64decode(shot["data"])


@asynccontextmanager
async def chromium(profile: Path, *arguments: str) -> AsyncIterator[Page]:
    """A tab of a new browser with its profile in this empty folder, and with these arguments."""
    process = await asyncio.create_subprocess_exec(
        executable(),
        *ARGUMENTS,
        *arguments,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        address = await asyncio.wait_for(_address(process.stderr), START_SECONDS)
        silent = asyncio.create_task(_drained(process.stderr))
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, max_msg_size=MAX_MESSAGE_BYTES) as socket,
        ):
            tools = DevTools(socket)
            listening = asyncio.create_task(tools.listen())
            yield await _tab(tools)
            await tools.call("Browser.close")
            await listening
        await asyncio.wait_for(process.wait(), END_SECONDS)
        await silent
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _address(lines: asyncio.StreamReader) -> str:
    said = []
    while line := (await lines.readline()).decode(errors="replace"):
        said.append(line)
        if line.startswith("DevTools listening on "):
            return line.removeprefix("DevTools listening on ").strip()
    raise AssertionError(f"Chromium did not start: {''.join(said)}")


async def _drained(lines: asyncio.StreamReader) -> None:
    """A full pipe would stop the browser."""
    while await lines.read(64 * 1024):
        pass


async def _tab(tools: DevTools) -> Page:
    target = (await tools.call("Target.createTarget", url="about:blank"))["targetId"]
    attached = await tools.call("Target.attachToTarget", targetId=target, flatten=True)
    page = Page(tools, attached["sessionId"])
    tools.pages[attached["sessionId"]] = page
    for domain in ("Page", "Runtime", "Log"):
        await page.call(f"{domain}.enable")
    return page
