"""The live page, served to this machine alone: read-only, and to whoever knows the token in its address.

Other sites that a browser on this machine shows can neither guess the token nor, by a name of theirs that they let
point here (DNS rebinding), make a request that is answered: the ``Host`` must be this very address.
"""

from __future__ import annotations

import os
import secrets
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from runner.disk.links import NO_FOLLOW
from runner.errors import RequestError
from runner.live.answer import Ask
from runner.live.watch import Watch
from runner.report.document import REPORT_FILE
from runner.report.html_page import STYLE

_HOST = "127.0.0.1"
_TOKEN_BYTES = 24
_FILES = Path(__file__).parent
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

_ONLY_OWN = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: its own script, style and state."""
_NO_SCRIPT = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox allow-popups; frame-ancestors 'none'"
)
"""For a report, which somebody else may have put there."""
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class LiveServer(socketserver.ThreadingTCPServer):
    """Serves the page of one folder until it is closed."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, folder: Path, ask: Ask, port: int = 0) -> None:
        """Listen on ``port`` of this machine; 0 for any that is free.

        Raises:
            RequestError: it is taken, or not allowed.
        """
        self.folder = folder
        self.watch = Watch(folder, ask)
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        try:
            super().__init__((_HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise RequestError("--port", port, f"a free port of this machine ({why})") from error

    @property
    def names(self) -> set[str]:
        """What a request may call this server."""
        port = self.server_address[1]
        return {f"{_HOST}:{port}", f"localhost:{port}"}

    @property
    def address(self) -> str:
        """Where the page is, token included."""
        return f"http://{_HOST}:{self.server_address[1]}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing of a browser that has gone; a traceback of what is wrong here."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: LiveServer
    server_version = "recipe-runner"
    sys_version = ""
    timeout = 10  # seconds that a browser may take for its request

    def do_GET(self) -> None:
        """Send what the path names."""
        path = urlsplit(self.path)
        token, slash, name = path.path.removeprefix("/").partition("/")
        if self.headers.get("Host") not in self.server.names:
            self._send(403)
        elif not slash or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._send(404)
        else:
            self._answer(name, path.query)

    def _answer(self, name: str, query: str) -> None:
        match name:
            case "":
                self._send(200, (_FILES / "page.html").read_bytes(), ".html")
            case "page.js":
                self._send(200, (_FILES / "page.js").read_bytes(), ".js")
            case "page.css":
                self._send(200, STYLE.encode() + (_FILES / "page.css").read_bytes(), ".css")
            case "state":
                self._send_state(parse_qs(query).get("since", [""])[0])
            case "report.html":
                self._send_report()
            case _:
                self._send(404)

    def _send_state(self, since: str) -> None:
        snapshot = self.server.watch.look()
        if since == snapshot.version:
            self._send(204)
            return
        body = b'{"version": "%s", "state": %s}' % (snapshot.version.encode(), snapshot.content)
        self._send(200, body, kind="application/json")

    def _send_report(self) -> None:
        try:
            handle = os.open(self.server.folder / REPORT_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | NO_FOLLOW)
            with os.fdopen(handle, "rb") as file:
                self._send(200, file.read(), ".html", policy=_NO_SCRIPT)
        except OSError:
            self._send(404)

    def _send(self, code: int, body: bytes = b"", ending: str = "", *, kind: str = "", policy: str = _ONLY_OWN) -> None:
        self.send_response(code)
        headers = {**_HEADERS, "Content-Security-Policy": policy, "Content-Length": str(len(body))}
        if body:
            headers["Content-Type"] = f"{kind or _TYPES[ending]}; charset=utf-8"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse without a word: a method that is not there, or what is no HTTP."""
        self._send(405 if code == 501 else code)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of requests."""
