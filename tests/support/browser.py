"""A headless Chromium for tests of pages, driven through the DevTools protocol over one websocket.

    with Browser.start() as browser:
        with browser.open("file:///tmp/report.html") as page:
            page.focus("#slider")
            page.press("ArrowRight", times=3)
            assert page.text("#kept") == "41.3%"
            assert not page.errors

Where there is no Chromium the test is skipped, or fails where CONFIDE_REQUIRE_CHROMIUM=1.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from websockets.sync.client import ClientConnection, connect

TIMEOUT = 30.0
"""Seconds that any single step may take before the test fails."""

NAMES = ("chromium", "chromium-browser", "google-chrome")

KEYS = {
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Home": 36,
    "End": 35,
    "PageUp": 33,
    "PageDown": 34,
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    "Backspace": 8,
}
"""Key names to the codes that the protocol wants beside them."""


def find() -> str:
    """Path of the browser; skips the test where there is none, or fails it where one is required."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CONFIDE_REQUIRE_CHROMIUM") == "1":
            pytest.fail("CONFIDE_REQUIRE_CHROMIUM=1, but there is no chromium on the path")
        pytest.skip("there is no chromium on the path: pages are not tested")
    return found


class Browser:
    """One browser process with a profile of its own; pages are opened in fresh tabs."""

    def __init__(self, process: subprocess.Popen[bytes], profile: Path, socket: ClientConnection, ends: ExitStack):
        self.process, self.profile, self.socket = process, profile, socket
        self._ends = ends
        self._sent = 0
        self._pages: dict[str, Page] = {}

    @classmethod
    def start(cls) -> Self:
        """Start the browser and connect to it; see `find` for what happens where there is none."""
        path = find()
        profile = Path(tempfile.mkdtemp(prefix="confide-chromium-"))
        command = [path, "--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--disable-gpu"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
        command += ["--no-first-run", "--no-sandbox", "--hide-scrollbars", "about:blank"]
        # A session of its own, so that its helpers end with it.
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            written = profile / "DevToolsActivePort"
            deadline = time.monotonic() + TIMEOUT
            while not (written.exists() and written.read_text().count("\n")):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{path} did not start (exit code {process.poll()})")
                time.sleep(0.05)
            port, address = written.read_text().split("\n")[:2]
            ends = ExitStack()
            url = f"ws://127.0.0.1:{port}{address}"
            socket = ends.enter_context(connect(url, max_size=None, compression=None, proxy=None))
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            shutil.rmtree(profile, ignore_errors=True)
            raise
        return cls(process, profile, socket, ends)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            self.process.kill()
        finally:
            shutil.rmtree(self.profile, ignore_errors=True)

    def open(self, url: str = "about:blank", *, width: int = 1200, height: int = 900, dark: bool = False) -> Page:
        """A new tab that has loaded ``url``."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, target, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.view(width, height, dark=dark)
        page.go(url)
        return page

    def call(
        self,
        method: str,
        parameters: dict[str, Any] | None = None,
        session: str | None = None,
        *,
        timeout: float = TIMEOUT,
    ) -> dict[str, Any]:
        """Send one command and wait for its answer; events on the way go to their pages."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters or {}}
        self.socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = self._receive(timeout)
            if answer.get("id") == self._sent:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self, timeout: float) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv(timeout))
        page = self._pages.get(message.get("sessionId", ""))
        if page is not None and "method" in message:
            page.event(message["method"], message["params"])
        return message


class Page:
    """One tab: what it asked for, what it complained about, and hands to use it with.

    ``requests`` are the addresses that were asked for, ``console`` what was logged, ``errors`` exceptions,
    console errors and what the browser itself objects to, such as a violated content security policy.
    """

    def __init__(self, browser: Browser, target: str, session: str):
        self.browser, self.target, self.session = browser, target, session
        self.requests: list[str] = []
        self.console: list[str] = []
        self.errors: list[str] = []
        self._loaded = 0

    def call(
        self, method: str, parameters: dict[str, Any] | None = None, *, timeout: float = TIMEOUT
    ) -> dict[str, Any]:
        """One command of the protocol for this tab."""
        return self.browser.call(method, parameters, self.session, timeout=timeout)

    def event(self, method: str, data: dict[str, Any]) -> None:
        """Keep what an event tells."""
        if method == "Network.requestWillBeSent":
            self.requests.append(data["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = data["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled":
            words = " ".join(str(part.get("value", part.get("description", ""))) for part in data["args"])
            (self.errors if data["type"] in ("error", "assert") else self.console).append(words)
        elif method == "Log.entryAdded" and data["entry"]["level"] == "error":
            self.errors.append(f"{data['entry']['text']} {data['entry'].get('url', '')}".strip())
        elif method == "Page.loadEventFired":
            self._loaded += 1
        elif method == "Page.javascriptDialogOpening":
            self.errors.append(f"a dialog: {data['message']}")
            self.browser.socket.send(
                json.dumps(
                    {
                        "id": 0,
                        "method": "Page.handleJavaScriptDialog",
                        "params": {"accept": True},
                        "sessionId": self.session,
                    }
                )
            )

    def go(self, url: str) -> None:
        """Load an address and wait until everything on it is loaded."""
        before = self._loaded
        answer = self.call("Page.navigate", {"url": url})
        assert not answer.get("errorText"), f"{url}: {answer['errorText']}"
        deadline = time.monotonic() + TIMEOUT
        while self._loaded == before:
            assert time.monotonic() < deadline, f"{url} did not load"
            self.settle(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.browser.call("Target.closeTarget", {"targetId": self.target})

    def settle(self, seconds: float = 0.2) -> None:
        """Let the page go on for a while and take in what it reports."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self.browser._receive(left)
            except TimeoutError:
                return

    def evaluate(self, expression: str, *, timeout: float = TIMEOUT) -> Any:
        """Value of a JavaScript expression (awaited where it is a promise); an exception in it fails the test."""
        answer = self.call(
            "Runtime.evaluate",
            {"expression": expression, "returnByValue": True, "awaitPromise": True, "userGesture": True},
            timeout=timeout,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """Text of the first element that the selector finds."""
        found = self.evaluate(f"document.querySelector({json.dumps(selector)})?.textContent")
        assert isinstance(found, str), f"nothing on the page is {selector}"
        return found

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + TIMEOUT
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"never became true: {expression}"
            self.settle(0.05)

    def focus(self, selector: str) -> None:
        """Put the keyboard's focus on an element."""
        assert self.evaluate(
            f"(e => {{ e?.focus(); return e !== null && document.activeElement === e; }})"
            f"(document.querySelector({json.dumps(selector)}))"
        ), f"{selector} cannot be focused"

    def press(self, key: str, *, times: int = 1) -> None:
        """Press a key of `KEYS` on what has the focus, as a keyboard would."""
        data = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "nativeVirtualKeyCode": KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", {"type": "keyDown", **data, **text})
            self.call("Input.dispatchKeyEvent", {"type": "keyUp", **data})

    def write(self, selector: str, text: str) -> None:
        """Replace what stands in a field by typing."""
        self.focus(selector)
        self.evaluate("document.activeElement.select()")
        self.call("Input.insertText", {"text": text})

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        x, y = self.evaluate(
            f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}}); const r = e.getBoundingClientRect();"
            f" return [r.x + r.width / 2, r.y + r.height / 2]; }})(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1})

    def view(self, width: int, height: int = 900, *, dark: bool = False, media: str = "") -> None:
        """Size of the window in CSS pixels, and whether it asks for dark colours or for print."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        # What still moves is not where it was when the mouse aimed.
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", {"media": media, "features": [scheme, still]})

    def screenshot(self, path: Path) -> None:
        """The whole page, however long, as a PNG file."""
        data = self.call("Page.captureScreenshot", {"captureBeyondViewport": True})["data"]
        path.write_bytes(base64.b64decode(data))

    def pdf(self, path: Path) -> None:
        """The page as it would be printed."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", {"printBackground": True})["data"]))
