"""A stand-in for the hub on this machine: it takes what is pushed, and keeps it."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class HubServer:
    """A hub with one user, whose token is ``token``; a context.

    Attributes:
        files: What was pushed, by name.
        created: Bodies of requests for repositories.

    Args:
        refuses: The user may not write.
    """

    def __init__(self, *, refuses: bool = False) -> None:
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _send(self, content: Any, status: int = 200) -> None:
                raw = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def do_GET(self) -> None:
                if self.headers.get("Authorization") != "Bearer token":
                    self._send({"error": "Invalid credentials"}, 401)
                elif self.path.startswith("/api/whoami"):
                    self._send({"name": "me", "type": "user", "auth": {"accessToken": {"role": "write"}}, "orgs": []})
                else:
                    self._send({"id": "me/it", "sha": "0" * 40, "siblings": [], "tags": [], "private": False})

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/api/repos/create":
                    outer.created.append(json.loads(raw))
                    self._send({"url": f"{outer.url}/me/it", "name": "me/it"})
                elif "/preupload/" in self.path:
                    files = json.loads(raw)["files"]
                    self._send({
                        "files": [
                            {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files
                        ]
                    })  # fmt: skip
                elif "/commit/" in self.path and refuses:
                    self._send({"error": "You may not write here"}, 403)
                elif "/commit/" in self.path:
                    for line in map(json.loads, raw.splitlines()):
                        if line["key"] == "file":
                            outer.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    url = f"{outer.url}/me/it/commit/1"
                    self._send({"success": True, "commitOid": "1" * 40, "commitUrl": url, "hookOutput": ""})
                else:
                    self._send({"errors": [], "warnings": []})

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
