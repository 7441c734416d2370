"""A real HTTP server on this machine that answers as a test says: an API to point `model.url` at."""

import json
import threading
from collections.abc import Callable, Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Body = dict[str, Any]
Respond = Callable[["Exchange"], None]
"""Answers a request for a completion."""


class Exchange:
    """A request, and the means to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: Body) -> None:
        self.handler, self.body = handler, body

    @property
    def prompt(self) -> str:
        return "\n".join(message["content"] for message in self.body["messages"])

    def send(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.handler.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(raw)),
            **(headers or {}),
        }.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(raw)

    def reply(self, text: str, *, finish: str | None = "stop", tokens: int | None = 7) -> None:
        """A completion, streamed where it was asked for so."""
        usage = {} if tokens is None else {"usage": {"completion_tokens": tokens}}
        if not self.body.get("stream"):
            self.send({"choices": [{"message": {"content": text}, "finish_reason": finish}], **usage})
            return
        pieces: list[Body] = [{"choices": [{"delta": {"content": letter}}]} for letter in text]
        pieces += [{"choices": [{"delta": {}, "finish_reason": finish}]}, {"choices": [], **usage}]
        lines = [f"data: {json.dumps(piece)}\n\n".encode() for piece in pieces]
        self.send(b"".join([b": a comment\n\n", *lines, b"data: [DONE]\n\n"]))


class ApiServer:
    """Serves one model; a context.

    Args:
        respond: Called for each completion, in a thread of its own.
        models: Names that it lists, as they are when it is asked; None: it has no list.
        port: 0: any.
    """

    def __init__(self, respond: Respond, models: Collection[str] | None = None, port: int = 0) -> None:
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        lock = threading.Lock()

        def change(by: int) -> None:
            with lock:
                self.at_once += by
                self.most_at_once = max(self.most_at_once, self.at_once)

        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                listed = {"data": [{"id": name} for name in models or []]}
                Exchange(self, {}).send(listed, 404 if models is None or self.path != "/v1/models" else 200)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers.items()))
                change(1)
                try:
                    respond(Exchange(self, body))
                finally:
                    change(-1)

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 128

            def handle_error(self, *arguments: Any) -> None:  # clients that hang up
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
