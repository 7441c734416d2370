"""The ``serve`` command: an OpenAI-compatible endpoint in front of a run's model, of any recipe's, or of a server's."""

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec

from motif_lite.errors import MissingHardwareError, RunError
from motif_lite.jobs.solve_job import SolveJob
from motif_lite.observer import Observer
from motif_lite.policies.protocol import Policy
from motif_lite.policies.server import api_key
from motif_lite.recipe.schema import Recipe
from motif_lite.serving.hosts import is_loopback

_NEEDED = ("starlette", "uvicorn")

_LAST_SECONDS = 5.0
"""For the replies that are under way when the endpoint is closed."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ServeJob:
    """What a ``serve`` command line asks for, validated, with nothing heavy done yet.

    Attributes:
        model: Which model, and how it is loaded.
        key: That requests must have; None: none.
        at_once: Most answers that are written or wait.
        seconds: Most of an answer.
    """

    model: SolveJob
    address: Address
    key: str | None
    at_once: int
    seconds: float

    @contextmanager
    def listening(self, observer: Observer) -> Iterator["Listening"]:
        """Load the model and open the port.

        Raises:
            MotifError: An error that the user can fix.
            Interrupted: The user stopped it.
        """
        with _opened(self.address) as port:  # before the model is loaded, which takes long
            solver = self.model.load(observer)
            yield Listening(self, solver.recipe, solver.policy, port)


@dataclass(frozen=True, slots=True)
class Listening:
    """A model that is loaded, and the port that it is served on."""

    job: ServeJob
    recipe: Recipe
    policy: Policy
    port: socket.socket

    @property
    def url(self) -> str:
        """The address of the API."""
        host, number = self.port.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{number}/v1"

    def serve(self) -> None:
        """Answer requests until Ctrl-C."""
        import uvicorn

        from motif_lite.planning.metering import give_back
        from motif_lite.serving.app import Endpoint, Limits
        from motif_lite.serving.batching import BatchingPolicy

        is_served = self.recipe.model.backend == "server"  # a server makes batches of its own
        batching = None if is_served else BatchingPolicy(self.policy, tidy_up=give_back)
        limits = Limits(self.job.key, self.job.at_once, self.job.seconds)
        endpoint = Endpoint(self.job.model.name, self.recipe, batching or self.policy, limits)
        config = uvicorn.Config(
            endpoint.app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, server_header=False
        )
        with _log_shown(), suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[self.port])
        if batching is not None:
            batching.close(_LAST_SECONDS)


@contextmanager
def _log_shown() -> Iterator[None]:
    """Warnings and faults of this package go to the standard error stream."""
    shown = logging.StreamHandler(sys.stderr)
    shown.setLevel(logging.WARNING)
    logging.getLogger("motif_lite").addHandler(shown)
    try:
        yield
    finally:
        logging.getLogger("motif_lite").removeHandler(shown)


def require_packages() -> None:
    """Refuse to serve without the packages of requirements-serve.txt.

    Raises:
        MissingHardwareError: One is missing.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise MissingHardwareError(f"serve needs {' and '.join(missing)}: pip install -r requirements-serve.txt")


def require_key(host: str, key: str | None) -> None:
    """Refuse to listen without a key where other machines can reach it.

    Raises:
        RunError: The host is no loopback address and there is no key, or the key is none.
    """
    if key is not None and not api_key.is_key(key):
        raise RunError(f"--key: must be {api_key.WHAT_IT_IS}, and not empty")
    if key is None and not is_loopback(host):
        raise RunError(
            f"--host {host}: other machines could use the model; give --key KEY (or MOTIF_LITE_SERVE_KEY), or leave "
            f"--host out to listen on 127.0.0.1"
        )


@contextmanager
def _opened(address: Address) -> Iterator[socket.socket]:
    """A socket that listens.

    Raises:
        RunError: The port is taken, or the host is none of this machine's.
    """
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        port = socket.create_server((address.host, address.port), family=family, backlog=256)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(
            f"{address.host}:{address.port}: cannot be listened on ({reason}); choose another --port or --host"
        ) from None
    with port:
        yield port
