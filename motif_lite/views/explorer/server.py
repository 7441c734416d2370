"""Serves the explorer on the loopback address, and follows the run while it trains.

GET /                   the page
GET /list?from=N        entries from the N-th on; `generation` changes where a resumed run has cut lines off
GET /group?index=N      a group with all its text

Only requests that name this server in their Host header are answered: a page of another site that resolves its own
name to the loopback address gets nothing.
"""

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from motif_lite.errors import RunError
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.rollouts import RolloutsReader
from motif_lite.views.explorer import page
from motif_lite.views.explorer.entries import Entry, entry, entry_json, group_json

ADDRESS = "127.0.0.1"

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a group lies in rollouts.jsonl: its first byte, its size, the number of its first line."""

    start: int
    size: int
    number: int


class FollowedRun:
    """The entries of a run so far, for several requests at once."""

    def __init__(self, recipe: Recipe, run: RunDirectory) -> None:
        self.recipe, self.name = recipe, run.root.name
        self._reader = RolloutsReader(run.root / "rollouts.jsonl", recipe.rollout.num_openings)
        self._entries, self._places = list[Entry](), list[_Place]()
        self._generation = 0
        self._lock = threading.Lock()

    def update(self, on_progress: page.Progress = lambda done, total: None) -> None:
        """Read what the run has written since.

        Raises:
            RunError: A line is damaged.
        """
        with self._lock:
            if self._reader.was_rewritten():
                self._reader.rewind()
                self._entries, self._places = [], []
                self._generation += 1
            for group in self._reader.new_groups(on_progress):
                self._entries.append(entry(self.recipe, group))
                self._places.append(_Place(group.start, group.size, group.number))

    def __len__(self) -> int:
        return len(self._entries)

    def list_json(self, first: int) -> str:
        """Entries from this one on."""
        self.update()
        rows = ",".join(map(entry_json, self._entries[max(0, first) :]))
        return f'{{"generation":{self._generation},"from":{max(0, first)},"rows":[{rows}]}}'

    def group_json(self, index: int) -> str:
        """A group with all its text.

        Raises:
            LookupError: There is no such group.
        """
        if not 0 <= index < len(self._places):
            raise LookupError(index)
        place = self._places[index]
        return group_json(self.recipe, self._reader.read(place.start, place.size, place.number))


class ExplorerServer(ThreadingHTTPServer):
    """Answers requests for one run, on the loopback address only.

    Args:
        port: 0 takes a free one.

    Raises:
        RunError: The port is in use, or not for this user.
    """

    daemon_threads = True

    def __init__(self, followed: FollowedRun, port: int = 0) -> None:
        self.followed = followed
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunError(f"port {port} cannot be used ({reason}); choose another --port, or leave it out") from None
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a tab that was closed before its answer."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: ExplorerServer
    server_version, sys_version = "motif_lite", ""
    timeout = 30
    """Seconds that a client may be silent."""

    def do_GET(self) -> None:
        """Answer a request."""
        if self.headers.get("Host") in self.server.hosts:
            self._send(*self._answer())
        else:
            self._send(HTTPStatus.FORBIDDEN, "text/plain", "this server answers requests to its own address only")

    def _answer(self) -> tuple[HTTPStatus, str, str]:
        """Status, type and content for the path that is asked for."""
        try:
            url = urlsplit(self.path)
            if url.path == "/":
                return HTTPStatus.OK, "text/html", page.served(self.server.followed.name)
            return HTTPStatus.OK, "application/json", self._json(url.path, url.query)
        except RunError as error:
            return _failed(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except OSError as error:
            return _failed(HTTPStatus.INTERNAL_SERVER_ERROR, f"rollouts.jsonl cannot be read ({error.strerror})")
        except (LookupError, ValueError):
            return _failed(HTTPStatus.NOT_FOUND, "there is no such group")

    def _json(self, path: str, query: str) -> str:
        followed = self.server.followed
        answers: dict[str, tuple[str, Callable[[int], str]]] = {
            "/list": ("from", followed.list_json),
            "/group": ("index", followed.group_json),
        }
        key, answer = answers[path]
        return answer(int(parse_qs(query)[key][0]))

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        content = text.encode("utf-8", errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal belongs to the user."""


def _failed(status: HTTPStatus, reason: str) -> tuple[HTTPStatus, str, str]:
    return status, "application/json", json.dumps({"error": reason})
