"""The web application: checks requests, has them answered in threads, and sends what these write.

POST /v1/chat/completions    whole or streamed
GET  /v1/models              the one model
GET  /health                 for whatever watches over the process
"""

import asyncio
import hmac
import itertools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from motif_lite.policies.protocol import Policy
from motif_lite.recipe.schema import Recipe
from motif_lite.serving import bodies
from motif_lite.serving.answering import Answering, Done, Event
from motif_lite.serving.bodies import Choice, Completion
from motif_lite.serving.hosts import is_loopback
from motif_lite.serving.requests import BadRequest, ChatRequest, parsed
from motif_lite.serving.splitting import Delta

LARGEST_BODY = 1_000_000
"""Bytes."""

_BODY_SECONDS = 30.0
"""In which a body has to arrive."""

_LOOK_SECONDS, _KEEP_ALIVE_SECONDS = 0.25, 15.0
"""Between two looks whether the client is still there, and two signs of life to it."""

_RETRY_SECONDS = 5

Told = tuple[int, Event]
"""The number of a choice, and what its thread says."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the endpoint takes.

    Attributes:
        key: Without it requests are refused; None: there is none, and only loopback names are answered.
        at_once: Most answers that are written or wait.
        seconds: Most of an answer.
    """

    key: str | None
    at_once: int
    seconds: float


class Endpoint:
    """The endpoint of one model.

    Args:
        name: Of the model, as clients see it.
        policy: Takes calls from several threads.
    """

    def __init__(self, name: str, recipe: Recipe, policy: Policy, limits: Limits) -> None:
        self._name, self._recipe, self._policy, self._limits = name, recipe, policy, limits
        self._created = int(time.time())
        self._numbers = itertools.count(1)
        self._num_answering = 0
        self._lock = threading.Lock()
        self.app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._guarded(self._models)),
                Route("/v1/chat/completions", self._guarded(self._chat), methods=["POST"]),
            ],
            exception_handlers={
                HTTPException: _on_http_error,
                BadRequest: _on_bad_request,
                ClientDisconnect: _on_disconnect,
                Exception: _on_fault,
            },
        )

    @property
    def num_answering(self) -> int:
        """Answers that are written or wait."""
        return self._num_answering

    def _guarded(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guard(request: Request) -> Response:
            self._require_allowed(request)
            return await answer(request)

        return guard

    def _require_allowed(self, request: Request) -> None:
        """Refuse a wrong key; without one, a page of another site that resolves its name to this machine."""
        if self._limits.key is None:
            if not is_loopback(request.url.hostname or ""):
                raise BadRequest("the Host header names no loopback address", 403)
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._limits.key.encode()):
            raise BadRequest("the key is missing or wrong (Authorization: Bearer ...)", 401, code="invalid_api_key")

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _models(self, request: Request) -> Response:
        return JSONResponse(bodies.models(self._name, self._created))

    async def _chat(self, request: Request) -> Response:
        asked = parsed(await _body(request))
        if asked.model != self._name:
            message = f"there is no model {asked.model!r:.80}; this endpoint has {self._name!r}"
            raise BadRequest(message, 404, param="model", code="model_not_found")
        answering = Answering(self._recipe, self._policy, asked, self._limits.seconds)
        await run_in_threadpool(answering.check)
        told = self._begin(answering, asked)
        completion = Completion(self._name)
        if asked.stream:
            stream = self._streamed(request, answering, asked, completion, told)
            return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        choices = [Choice() for _ in range(asked.n or 1)]
        try:
            async for _ in _events(request, answering, choices, told):
                pass
        except ClientDisconnect:
            return Response(status_code=499)  # which nobody reads
        return JSONResponse(completion.whole(choices))

    def _begin(self, answering: Answering, asked: ChatRequest) -> "asyncio.Queue[Told]":
        """Start a thread for each choice.

        Raises:
            BadRequest: Too many are under way.
        """
        count = asked.n or 1
        with self._lock:
            if self._num_answering + count > self._limits.at_once:
                raise BadRequest(
                    f"{self._num_answering} answers are under way, of at most {self._limits.at_once}; try again later",
                    503, code="overloaded", retry_after=_RETRY_SECONDS,
                )  # fmt: skip
            self._num_answering += count
        loop, told = asyncio.get_running_loop(), asyncio.Queue[Told]()
        for index in range(count):
            number = next(self._numbers) if asked.seed is None else asked.seed * count + index

            def tell(event: Event, index: int = index) -> None:
                loop.call_soon_threadsafe(told.put_nowait, (index, event))

            thread = threading.Thread(target=self._answer, args=(answering, number, tell), daemon=True)
            thread.start()
        return told

    def _answer(self, answering: Answering, number: int, tell: Callable[[Event], None]) -> None:
        try:
            answering.answer(number, tell)
        finally:
            with self._lock:
                self._num_answering -= 1

    async def _streamed(
        self, request: Request, answering: Answering, asked: ChatRequest, completion: Completion,
        told: "asyncio.Queue[Told]",
    ) -> AsyncIterator[bytes]:  # fmt: skip
        choices = [Choice() for _ in range(asked.n or 1)]
        try:
            for index in range(len(choices)):
                yield bodies.event(completion.begin(index))
            async for found in _events(request, answering, choices, told):
                if found is None:
                    yield b": still thinking\n\n"
                else:
                    index, event = found
                    body = completion.end(index, event) if isinstance(event, Done) else completion.piece(index, event)
                    yield bodies.event(body)
            if asked.stream_options is not None and asked.stream_options.include_usage:
                yield bodies.event(completion.last(choices))
            yield b"data: [DONE]\n\n"
        except BadRequest as error:  # the response has begun: its status cannot be changed
            yield bodies.event(bodies.error(error))
        except ClientDisconnect:
            pass
        finally:
            answering.leave()


async def _events(
    request: Request, answering: Answering, choices: list[Choice], told: "asyncio.Queue[Told]"
) -> AsyncIterator[tuple[int, Delta | Done] | None]:
    """What the threads say, until all are done; None now and then where they say nothing.

    Raises:
        BadRequest: An answer has failed.
        ClientDisconnect: The client is gone.
    """
    silent_since = time.monotonic()
    try:
        while any(choice.done is None for choice in choices):
            try:
                index, event = await asyncio.wait_for(told.get(), _LOOK_SECONDS)
            except TimeoutError:
                if await request.is_disconnected():
                    raise ClientDisconnect from None
                if time.monotonic() - silent_since > _KEEP_ALIVE_SECONDS:
                    silent_since = time.monotonic()
                    yield None
                continue
            silent_since = time.monotonic()
            if isinstance(event, BadRequest):
                raise event
            if isinstance(event, Done):
                choices[index].done = event
            else:
                choices[index].add(event)
            yield index, event
    finally:
        answering.leave()


async def _body(request: Request) -> bytes:
    """All of a request's body.

    Raises:
        BadRequest: It is too large, too slow, or no JSON by its type.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # A page of another site can send other types without asking first.
        raise BadRequest("the Content-Type must be application/json", 415)
    found = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for block in request.stream():
                found += block
                if len(found) > LARGEST_BODY:
                    raise BadRequest(f"the body is larger than {LARGEST_BODY:,} bytes", 413)
    except TimeoutError:
        raise BadRequest(f"the body took longer than {_BODY_SECONDS:g} seconds", 408) from None
    return bytes(found)


def _response(error: BadRequest) -> Response:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    headers |= {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    headers |= {"Connection": "close"} if error.status in (408, 413) else {}
    return JSONResponse(bodies.error(error), error.status, headers)


async def _on_bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequest)
    return _response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path:.100}"
    return _response(BadRequest(f"{where}: {error.detail}; see /v1/models and /v1/chat/completions", error.status_code))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # which nobody reads


async def _on_fault(request: Request, error: Exception) -> Response:
    return _response(BadRequest("the request failed; the server's log says why", 500))
