"""A headless Chromium that tests drive over a pipe (the DevTools protocol), without a driver of anybody else's."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import threading
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page.  ``errors`` holds what its console complained of, ``requested`` every address that it asked for."""

    def __init__(self, profile):
        """``profile`` is a folder that goes with the browser."""
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        flags = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={profile}",
        ]  # fmt: skip

        # the protocol's pipes are 3 and 4 of the browser; none of its own may lie there before
        shell = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", str(commands), str(answers), CHROMIUM, *flags, "about:blank"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        self.errors, self.requested = [], []
        self._numbers, self._answers, self._news = itertools.count(1), {}, threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._session = None
        page = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _read(self):
        rest = b""
        while piece := os.read(self._from, 1 << 16):
            *whole, rest = (rest + piece).split(b"\0")
            for message in map(json.loads, whole):
                with self._news:
                    self._take(message)
                    self._news.notify_all()

    def _take(self, message):
        match message.get("method"):
            case None:
                self._answers[message["id"]] = message
            case "Runtime.exceptionThrown":
                self.errors.append(message["params"]["exceptionDetails"])
            case "Log.entryAdded":
                self.errors.append(message["params"]["entry"])
            case "Runtime.consoleAPICalled":
                self.errors.append(message["params"]["args"])
            case "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])

    def call(self, method, **params):
        """The result of one command of the protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        with self._news:
            assert self._news.wait_for(lambda: number in self._answers, timeout=60), f"no answer to {method}"
            answer = self._answers.pop(number)
        assert "error" not in answer, answer
        return answer["result"]

    def evaluate(self, script):
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, script, seconds=30):
        """Wait until the expression holds."""
        until = time.monotonic() + seconds
        while not self.evaluate(script):
            assert time.monotonic() < until, f"never: {script}\n{self.evaluate('document.body.innerText')}"
            time.sleep(0.05)

    def open(self, address, *, width=1100, height=900, dark=False):
        """Go to ``address`` on a screen of that many pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Page.navigate", url=address)
        self.wait_for(f"location.href !== 'about:blank' && document.readyState === 'complete' || {address!r} === ''")

    def leave(self):
        """Show nothing, so that nothing is asked for any more."""
        self.call("Page.navigate", url="about:blank")
        self.wait_for("location.href === 'about:blank'")

    def picture(self, path, *, whole=False):
        """Write what is seen as PNG; ``whole``: the page to its end."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **self._whole() if whole else {})
        path.write_bytes(base64.b64decode(found["data"]))

    def _whole(self):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {**size, "scale": 1}}

    def close(self):
        """End the browser and all of its processes."""
        with contextlib.suppress(AssertionError, OSError):
            self._session = None
            self.call("Browser.close")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait(20)
        self._reader.join(20)
        os.close(self._to)
        os.close(self._from)
