"""A stand-in for the Hugging Face hub: takes a new repository and a commit over real HTTP, from one token."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_test"


@dataclass
class FakeHub:
    """What clients made there.

    Attributes:
        address: where it listens.
        repositories: name → what its maker asked for.
        files: name of a repository → path → content.
        refusing: the status that every request gets; None: each its own.
    """

    address: str = ""
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refusing: int | None = None

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
            known = name in self.repositories
            self.repositories.setdefault(name, asked)
            return (409 if known else 200), {"url": f"{self.address}/{name}", "id": name}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.startswith("/api/models/") and path.endswith("/preupload/main"):
            files = [{"path": one["path"], "uploadMode": "regular"} for one in json.loads(body)["files"]]
            return 200, {"files": [one | {"shouldIgnore": False} for one in files]}
        if path.startswith("/api/models/") and path.endswith("/commit/main"):
            name = path.removeprefix("/api/models/").removesuffix("/commit/main")
            kept = self.files.setdefault(name, {})
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    kept[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return 200, {"success": True, "commitUrl": f"{self.address}/{name}/commit/1", "commitOid": "1" * 40}
        if method == "GET" and path.startswith("/api/models/"):
            return 200, {"id": path.removeprefix("/api/models/"), "siblings": [], "sha": "0" * 40}
        return 404, {"error": f"{method} {path}"}


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that listens while the context is open."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if hub.refusing is not None:
                status, found = hub.refusing, {"error": "Told by the hub."}
            elif self.headers.get("authorization") != f"Bearer {TOKEN}":
                status, found = 401, {"error": "Invalid username or password."}
            else:
                status, found = hub.answer(self.command, self.path.partition("?")[0], body)
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_POST = do_HEAD = _serve  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
