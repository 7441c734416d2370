"""Requests to an OpenAI-compatible server, which are sent again where that may help."""

import asyncio
import json
import logging
import os
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Self, TypeVar

import httpx

from motif_lite.errors import ServerError
from motif_lite.policies.server import api_key, formats
from motif_lite.policies.server.formats import Completion, Continuation, Malformed, Models, Piece
from motif_lite.recipe.model import ModelSection

_log = logging.getLogger(__name__)

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between tries: half a minute, in which most servers restart."""

_WORTH_A_RETRY = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_LONGEST_PAUSE, _CONNECT_SECONDS = 60.0, 10.0
_PROXY_VARIABLES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_LARGEST_BODY, _LARGEST_LINE = 1 << 24, 1 << 20
"""Bytes; 16 MiB is several times the longest reply that a recipe can ask for."""

Body = dict[str, object]
"""A request's, as JSON."""

Result = TypeVar("Result")


class _Unavailable(Exception):
    """The server did not answer, or asked to be left alone for a while; the same request may succeed later.

    Attributes:
        pause: Seconds that the server asked for.
    """

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class _BrokenOff(_Unavailable):
    """The server gave a reply up, and sends what there is of it as if it were whole."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(f"it gave a reply up, see its log: finish_reason {json.dumps(reason)}")


class Connection:
    """A client of one server; an asynchronous context.

    Args:
        section: Its address and limits.
        pauses: Seconds between tries.
    """

    def __init__(self, section: ModelSection, pauses: Sequence[float] = PAUSES) -> None:
        assert section.url is not None, "a rule of recipes"
        self._url, self._seconds, self._pauses = section.url, section.request_seconds, pauses
        self._has_told = False
        self._client = _client(section)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._client.__aexit__(*error)

    async def models(self) -> list[str] | None:
        """The names of the models that are served; None where the server has no such list."""

        async def ask() -> list[str] | None:
            async with self._response("GET", "/models") as response:
                if response.status_code in (404, 405, 501):
                    return None
                content = await self._body(response)
            return [each.id for each in formats.parsed(Models, content).data]

        return await self._repeated(ask)

    async def complete(self, body: Body) -> Completion:
        """A whole reply."""

        def read(content: bytes) -> Completion:
            found = formats.parsed(Completion, content)
            if found.choices[0].finish_reason in formats.BROKEN_OFF:
                raise _BrokenOff(found.choices[0].finish_reason)
            return found

        return await self._posted("/chat/completions", body, read)

    async def continued(self, body: Body) -> Continuation:
        """What is written behind a prompt of tokens, as tokens: vLLM's form of a completion."""

        def read(content: bytes) -> Continuation:
            found = formats.parsed(Continuation, content)
            if found.choices[0].finish_reason not in formats.ENDS:
                raise _BrokenOff(found.choices[0].finish_reason)
            return found

        return await self._posted("/completions", body, read)

    async def order(self, path: str, body: Body) -> None:
        """Have something done that answers by its status alone."""
        await self._posted(path, body, lambda content: None)

    async def _posted(self, path: str, body: Body, read: Callable[[bytes], Result]) -> Result:
        async def ask() -> Result:
            async with asyncio.timeout(self._seconds), self._response("POST", path, body) as response:
                content = await self._body(response)
            return read(content)

        return await self._repeated(ask)

    async def stream(self, body: Body, on_piece: Callable[[Piece], bool]) -> None:
        """A reply in pieces, each of which may take ``model.request_seconds``.

        Args:
            on_piece: Given each as it comes; where it returns False, the rest is left to the server.

        Raises:
            ServerError: The stream ends before the reply does, besides what a whole reply raises.
        """
        num_pieces, is_complete = 0, False

        async def ask() -> None:
            nonlocal num_pieces, is_complete
            async with self._response("POST", "/chat/completions", body) as response:
                await self._require_success(response)
                async for line in _lines(response, self._seconds):
                    if line == b"[DONE]":
                        return
                    num_pieces += 1
                    piece = formats.parsed(Piece, line)
                    for choice in piece.choices:
                        if choice.finish_reason in formats.BROKEN_OFF:
                            raise _BrokenOff(choice.finish_reason)
                    is_complete |= any(choice.finish_reason for choice in piece.choices)
                    if not on_piece(piece):
                        return
                if not num_pieces:
                    raise Malformed("it streams no pieces (lines that begin with data:)")
                if not is_complete:  # without a Content-Length the end of a connection is no error of HTTP's
                    raise _Unavailable("the stream ended without [DONE] or a finish_reason")

        # What was passed on cannot be taken back: from then on a request is not repeated.
        await self._repeated(ask, may_repeat=lambda: num_pieces == 0)

    @asynccontextmanager
    async def _response(self, method: str, path: str, body: Body | None = None) -> AsyncIterator[httpx.Response]:
        """What the server answers, of which nothing has been read yet."""
        request = self._client.build_request(method, self._url + path, json=body)
        try:
            response = await self._client.send(request, stream=True)
        except (httpx.LocalProtocolError, httpx.InvalidURL, UnicodeError):  # its text may hold the key
            to_check = ", ".join(["model.url", api_key.VARIABLE, *_set_proxies()])
            raise ServerError(f"{self._url}: the request cannot be sent; check {to_check}") from None
        try:
            yield response
        finally:
            await response.aclose()

    async def _body(self, response: httpx.Response) -> bytes:
        """All that a successful response holds."""
        await self._require_success(response)
        return await _content(response, _LARGEST_BODY)

    async def _require_success(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == 200:
            return
        try:
            message = formats.error_message(await _content(response, 1 << 16))
        except Malformed as error:
            message = str(error)
        reason = f"status {status}: {message}"
        if status in _WORTH_A_RETRY:
            raise _Unavailable(reason, _asked_pause(response))
        remedy = "check model.url and model.name (the address usually ends in /v1)"
        if status in (401, 403):
            remedy = f"set the environment variable {api_key.VARIABLE} to the server's key"
        elif status in (400, 413, 422):
            remedy = "the server refuses the request; see its log, and the recipe's token limits and model.extra_body"
        raise ServerError(f"{self._url}: {reason}; {remedy}")

    async def _repeated(
        self, ask: Callable[[], Awaitable[Result]], *, may_repeat: Callable[[], bool] = lambda: True
    ) -> Result:
        """Ask, and ask again after a pause while the server is unavailable.

        Raises:
            ServerError: It stays so, refuses the request, or sends something else.
        """
        for number in range(len(self._pauses) + 1):
            try:
                return await ask()
            except Malformed as error:
                raise ServerError(
                    f"{self._url}: what it sends is not a chat completion ({error}); is this the address of an "
                    f"OpenAI-compatible API?"
                ) from None
            except (httpx.HTTPError, TimeoutError, _Unavailable) as error:
                reason = str(error).strip()[:300] or type(error).__name__
                if not may_repeat():
                    raise ServerError(f"{self._url}: broke off in the middle of a reply ({reason})") from None
                if number == len(self._pauses):
                    raise ServerError(
                        f"{self._url}: no reply after {number + 1} tries ({reason}); start the server, or correct "
                        f"model.url"
                    ) from None
                self._tell(reason)
                asked = error.pause if isinstance(error, _Unavailable) else 0.0
                # Not all at once: the requests of a call fail together.
                await asyncio.sleep(max(asked, self._pauses[number] * random.uniform(0.75, 1.25)))
        raise AssertionError("every try returns or raises")

    def _tell(self, reason: str) -> None:
        """Say once that something is tried again."""
        if not self._has_told:
            _log.warning("%s: %s; trying again", self._url, reason)
        self._has_told = True


def _client(section: ModelSection) -> httpx.AsyncClient:
    """A client with the key, the limits and the environment's proxies.

    Raises:
        ServerError: The key, a proxy or the file of trusted certificates is none.
    """
    assert section.url is not None, "a rule of recipes"
    key, seconds = api_key.of_environment(), section.request_seconds
    headers = {"Accept-Encoding": "identity"}  # so the limits of this module are those of what is sent
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    try:
        return httpx.AsyncClient(
            headers=headers,
            verify=_certificates() if section.url.startswith("https:") else False,  # redirects are not followed
            timeout=httpx.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds), pool=None),
            limits=httpx.Limits(max_connections=section.requests, max_keepalive_connections=section.requests),
        )
    except OSError as error:
        raise ServerError(f"the trusted certificates cannot be read ({error}); check SSL_CERT_FILE") from None
    except (ValueError, ImportError, httpx.InvalidURL):  # its text may hold the proxy's password
        raise ServerError(
            f"the proxy cannot be used; check {', '.join(_set_proxies())}: write http://HOST:PORT, "
            f"or install httpx[socks] for socks5://HOST:PORT, or unset them to ask {section.url} directly"
        ) from None


def _set_proxies() -> list[str]:
    """The environment variables that set a proxy, or say where there is none."""
    return sorted(name for name, value in os.environ.items() if value and name.upper() in _PROXY_VARIABLES)


@cache
def _certificates() -> ssl.SSLContext:
    """Those that are trusted; reading them takes a tenth of a second, and each call for replies has a client."""
    return httpx.create_ssl_context()


def _asked_pause(response: httpx.Response) -> float:
    """Seconds that the server asks to wait for; a date is not read."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_PAUSE) if text.isascii() and text.isdecimal() and len(text) < 6 else 0.0


async def _content(response: httpx.Response, limit: int) -> bytes:
    found = bytearray()
    async for block in response.aiter_bytes():
        found += block
        if len(found) > limit:
            raise Malformed(f"it sends more than {limit:,} bytes")
    return bytes(found)


async def _lines(response: httpx.Response, seconds: float) -> AsyncIterator[bytes]:
    """The contents of a stream's ``data:`` lines.

    Raises:
        TimeoutError: The next one takes longer than so many seconds, whatever else comes.
    """
    found = _unhurried_lines(response)
    while True:
        try:
            async with asyncio.timeout(seconds):
                line = await anext(found)
        except StopAsyncIteration:
            return
        yield line


async def _unhurried_lines(response: httpx.Response) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for block in response.aiter_bytes():
        rest += block
        *lines, last = rest.split(b"\n")
        rest = last
        for line in lines:
            if line.startswith(b"data:"):
                yield bytes(line[5:].strip())
        if len(rest) > _LARGEST_LINE:
            raise Malformed(f"it streams a line of more than {_LARGEST_LINE:,} bytes")
