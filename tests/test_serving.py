"""`run.py serve`: rounds behind an OpenAI-compatible API: the openai client, load, and hostile requests."""

import asyncio
import gc
import json
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from motif_lite import cli
from motif_lite.errors import RunError
from motif_lite.jobs import serve_job, solve_job
from motif_lite.nouns import NotWanted, Reply, Sampling, TokenProgress
from motif_lite.policies.protocol import Policy
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout import reply_format
from motif_lite.serving.batching import BatchingPolicy
from motif_lite.serving.splitting import Splitter
from motif_lite.solving.solver import Effort
from tests.api_server import ApiServer
from tests.fakes import RecordingObserver, ScriptedPolicy
from tests.test_policies import load, rendered
from tests.test_server_backend import served
from tests.test_solve import RECIPE, counting_up

starlette = pytest.importorskip("starlette", reason="needs requirements-serve.txt")
uvicorn = pytest.importorskip("uvicorn", reason="needs requirements-serve.txt")

TINY = Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml"
CHAIN = "a0b4c5d3e1f2g3h4i5j6k7l8m9n1="


@contextmanager
def serving(
    policy: Policy, recipe: Recipe = RECIPE, *, key: str | None = None, at_once: int = 128, seconds: float = 60.0
) -> Iterator[tuple[str, Any]]:
    """An endpoint in front of a policy, in a thread; yields its address and the endpoint."""
    from motif_lite.serving.app import Endpoint, Limits

    endpoint = Endpoint("it", recipe, policy, Limits(key, at_once, seconds))
    server = uvicorn.Server(uvicorn.Config(endpoint.app, log_level="critical", timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0), backlog=128) as port:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [port]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{port.getsockname()[1]}/v1"
        while not server.started:
            time.sleep(0.01)
        try:
            yield url, endpoint
        finally:
            server.should_exit = True
            thread.join(10)


def body(question: str = "1+1?", **more: Any) -> dict[str, Any]:
    return {"model": "it", "messages": [{"role": "user", "content": question}], **more}


def post(url: str, content: Any, **headers: str) -> httpx.Response:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx.post(
        f"{url}/chat/completions", content=raw, headers={"Content-Type": "application/json", **headers}, timeout=60
    )


def slow(seconds: float) -> Any:
    """A script that takes its time."""

    def script(prompt: str, sampling: Sampling) -> str:
        time.sleep(seconds)
        return counting_up(prompt, sampling)

    return script


# -------------------------------------------------- what is thought, and said

tagged = st.lists(st.sampled_from(["<answer>", "</answer>", "<", "a", " ", "\n", "<reasoning>", "b7"])).map("".join)


@settings(deadline=None, max_examples=100)
@given(text=tagged, cuts=st.lists(st.integers(0, 60)))
def test_the_answer_is_the_answer_section_wherever_pieces_end(text: str, cuts: list[int]) -> None:
    splitter, deltas = Splitter(), []
    deltas += splitter.round(1, 1)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for start, end in pairwise(places):
        deltas += splitter.text(text[start:end])
    deltas += splitter.text(None)
    deltas += splitter.end(text)
    content = "".join(delta.text for delta in deltas if delta.kind == "content")
    assert content.endswith(reply_format.progress(text))
    if text.count("<answer>") == 1:
        assert content == reply_format.progress(text)
        reasoning = "".join(delta.text for delta in deltas if delta.kind == "reasoning")
        assert reasoning == text.partition("<answer>")[0]


def test_rounds_before_the_last_are_reasoning() -> None:
    splitter = Splitter()
    deltas = [*splitter.round(1, 2), *splitter.text("<answer>1</answer>"), *splitter.text(None)]
    deltas += [*splitter.round(2, 2), *splitter.text("x<answer>\n2\n</answer>"), *splitter.text(None)]
    deltas += splitter.end("x<answer>\n2\n</answer>")
    reasoning = "".join(delta.text for delta in deltas if delta.kind == "reasoning")
    assert reasoning == "Round 1 of 2\n\n<answer>1</answer>\n\nRound 2 of 2\n\nx"
    assert [delta.text for delta in deltas if delta.kind == "content"] == ["2"]


# -------------------------------------------------- several threads at once


def test_calls_that_wait_go_together_and_each_gets_its_own_replies() -> None:
    inner = ScriptedPolicy(lambda prompt, sampling: prompt.upper())
    policy = BatchingPolicy(inner)

    def ask(number: int) -> list[Reply]:
        prompts = [f"prompt {number}", f"another {number}"]
        return policy.generate(prompts, Sampling(), seeds=[number, number + 100])

    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(ask, range(12)))
    assert [[reply.text for reply in replies] for replies in found] == [
        [f"PROMPT {number}", f"ANOTHER {number}"] for number in range(12)
    ]
    assert len(inner.calls) < 12
    seeds = {prompt: seed for call in inner.calls for prompt, seed in zip(call.prompts, call.seeds, strict=True)}
    assert seeds["another 7"] == 107
    policy.close(5)


def test_other_sampling_is_another_call_and_what_fails_is_told_to_all_that_waited() -> None:
    def script(prompt: str, sampling: Sampling) -> str:
        if prompt == "bad":
            raise RuntimeError("the policy broke")
        return f"{sampling.temperature}"

    policy = BatchingPolicy(ScriptedPolicy(script))

    def ask(temperature: float) -> str:
        return policy.generate(["x"], Sampling(temperature=temperature), seeds=[0])[0].text

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(ask, [0.0, 0.5, 0.0])) == ["0.0", "0.5", "0.0"]
    with pytest.raises(RuntimeError, match="the policy broke"):
        policy.generate(["bad"], Sampling(), seeds=[0])
    assert ask(1.0) == "1.0", "the next call is served"
    policy.close(5)


def test_calls_that_nobody_wants_any_longer_leave_while_they_wait_for_a_batch() -> None:
    inner = ScriptedPolicy(slow(1.5))
    policy = BatchingPolicy(inner)

    def leaves(progress: TokenProgress) -> None:
        raise TimeoutError("too late")

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(policy.generate, ["first"], Sampling(), seeds=[0])
        time.sleep(0.3)
        started = time.monotonic()
        with pytest.raises(TimeoutError, match="too late"):
            policy.generate(["second"], Sampling(), seeds=[0], on_progress=leaves)
        assert time.monotonic() - started < 1
        assert len(first.result()) == 1
    time.sleep(0.2)
    assert [call.prompts for call in inner.calls] == [("first",)]
    assert len(policy.generate(["third"], Sampling(), seeds=[0])) == 1
    policy.close(5)


def test_an_answer_that_was_left_keeps_nothing_of_its_batch_alive() -> None:
    """The batch's keys and values, which lie in the frames that ``on_text`` is called from: in reach of no garbage."""

    class Holding(ScriptedPolicy):
        kept: weakref.ref[object]

        def generate(self, *words: Any, **more: Any) -> list[Reply]:
            keys = Keys()
            self.kept = weakref.ref(keys)
            with suppress(NotWanted):
                more["on_text"](0, "a piece")
            return [Reply("a piece", 1, "stop")]

    class Keys:
        pass

    def leaves(index: int, piece: str | None) -> None:
        raise NotWanted

    inner = Holding(lambda prompt, sampling: prompt)
    policy = BatchingPolicy(inner)
    gc.disable()
    try:
        with pytest.raises(NotWanted) as caught:
            policy.generate(["x"], Sampling(), seeds=[0], on_text=leaves)
        policy.close(5)
        assert caught.value is not None
        assert inner.kept() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("has_engine", [True, False])
def test_a_reply_that_nobody_wants_leaves_the_engine_and_changes_no_other(
    tiny_folder: Path, tiny_recipe: Any, has_engine: bool
) -> None:
    policy = load(tiny_folder, tiny_recipe())
    if not has_engine:
        policy.engine = None
    prompts, sampling = rendered(policy, 4), Sampling(max_tokens=24)
    alone = policy.generate(prompts, sampling, seeds=range(4))

    def drop_the_second(index: int, piece: str | None) -> None:
        if index == 1:
            raise NotWanted

    replies = policy.generate(prompts, sampling, seeds=range(4), on_text=drop_the_second)
    assert [replies[index].text for index in (0, 2, 3)] == [alone[index].text for index in (0, 2, 3)]
    assert replies[1].num_tokens < alone[1].num_tokens


# -------------------------------------------------- the openai client


def test_the_openai_client_gets_rounds_as_reasoning_and_the_answer_as_content(
    tiny_folder: Path, tiny_recipe: Any
) -> None:
    openai = pytest.importorskip("openai", reason="needs the openai client of requirements-dev.txt")
    recipe = tiny_recipe()
    batching = BatchingPolicy(load(tiny_folder, recipe))
    with serving(batching, recipe, key="a-key") as (url, _):
        client = openai.OpenAI(base_url=url, api_key="a-key", max_retries=0)
        assert [model.id for model in client.models.list()] == ["it"]
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": CHAIN}]
        whole = client.chat.completions.create(model="it", messages=messages, n=2, seed=1, temperature=0.0)
        stream = client.chat.completions.create(
            model="it", messages=messages, seed=1, temperature=0.0, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        with pytest.raises(openai.AuthenticationError, match="key is missing or wrong"):
            openai.OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list()
        with pytest.raises(openai.NotFoundError, match="there is no model 'other'"):
            client.chat.completions.create(model="other", messages=messages)
    batching.close(5)
    message = whole.choices[0].message
    assert [choice.message.content for choice in whole.choices] == [message.content] * 2
    pieces = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(piece.content or "" for piece in pieces) == message.content
    reasoning = "".join(getattr(piece, "reasoning_content", None) or "" for piece in pieces)
    assert reasoning == message.reasoning_content
    assert reasoning.startswith("Round 1 of 3\n\n")
    assert "\n\nRound 3 of 3\n\n" in reasoning
    assert len(pieces) > 20, "as it is written"
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert chunks[-1].usage.completion_tokens * 2 == whole.usage.completion_tokens
    assert 0 < whole.usage.completion_tokens_details.reasoning_tokens < whole.usage.completion_tokens


def test_what_a_request_asks_for_is_what_the_policy_gets() -> None:
    policy = ScriptedPolicy(counting_up)
    with serving(policy) as (url, _):
        asked = body(temperature=0.4, top_p=0.8, max_completion_tokens=333, rounds=5, seed=3)
        found = post(url, asked).json()
        again = post(url, asked).json()
    assert found["choices"][0]["message"]["content"] == "\\boxed{5}" == again["choices"][0]["message"]["content"]
    assert len(policy.calls) == 10
    sampling = policy.calls[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.4, 0.8, 333)
    assert [call.seeds for call in policy.calls[:5]] == [call.seeds for call in policy.calls[5:]]


def test_the_question_is_the_last_message_of_the_user() -> None:
    policy = ScriptedPolicy(counting_up)
    parts = [{"type": "text", "text": "first part"}, {"type": "text", "text": "second part"}]
    messages = [
        {"role": "user", "content": "earlier"}, {"role": "assistant", "content": "said"},
        {"role": "user", "content": parts},
    ]  # fmt: skip
    with serving(policy) as (url, _):
        assert post(url, body() | {"messages": messages}).status_code == 200
    assert "first part\nsecond part" in policy.calls[0].prompts[0]
    assert "earlier" not in policy.calls[0].prompts[0]


def test_a_server_can_be_served_in_rounds(tmp_path: Path) -> None:
    def respond(exchange: Any) -> None:
        exchange.reply(counting_up(exchange.prompt, Sampling()))

    with ApiServer(respond, ["x"]) as upstream:
        solver = solve_job.job(None, TINY, served(upstream.url), None, Effort()).load(RecordingObserver())
        with serving(solver.policy, solver.recipe) as (url, _):
            found = post(url, body())
    assert found.json()["choices"][0]["message"]["content"] == "\\boxed{3}"


# -------------------------------------------------- wrong and hostile

IMAGE = {"type": "image_url", "image_url": {"url": "http://x"}}
BAD = [
    (b"{", 400, "not JSON"),
    (b"[" * 100_000, 400, "not JSON"),
    (b"\xff\xfe", 400, "not JSON"),
    ([], 400, "the body"),
    ({}, 400, "model: Field required"),
    (body() | {"messages": []}, 400, "messages: List should have at least 1 item"),
    (body() | {"messages": "hello"}, 400, "messages: Input should be a valid list"),
    (body() | {"messages": [{"role": "system", "content": "x"}]}, 400, "no message of the user"),
    (body() | {"messages": [{"role": "user", "content": [IMAGE]}]}, 400, "part of type 'image_url'"),
    (body(" "), 400, "the question is empty"),
    (body("\ud800"), 400, "half of a character"),
    (body("x" * 900_000), 400, "shorten it"),
    (body(n=9), 400, "n: Input should be less than or equal to 8"),
    (body(temperature="hot"), 400, "temperature"),
    (body(temperature=float("nan")), 400, "temperature"),
    (body(rounds=1), 400, "rounds"),
    (body(tools=[{"type": "function"}]), 400, "tools is not supported"),
    (body(stop=["x"]), 400, "stop is not supported"),
    (body(response_format={"type": "json_object"}), 400, "response_format is not supported"),
    (body(model="other"), 404, "there is no model 'other'"),
    (b"x" * 1_000_001, 413, "larger than 1,000,000 bytes"),
]  # fmt: skip


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serving(ScriptedPolicy(counting_up, context_tokens=10_000)) as (url, _):
        yield url


@pytest.mark.parametrize(("content", "status", "expected"), BAD)
def test_a_bad_request_is_an_error_of_the_apis_form(endpoint: str, content: Any, status: int, expected: str) -> None:
    found = post(endpoint, content)
    assert found.status_code == status
    error = found.json()["error"]
    assert expected in error["message"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert post(endpoint, body()).status_code == 200


def test_other_paths_methods_types_and_hosts_are_refused_in_the_same_form(endpoint: str) -> None:
    for found, status in (
        (httpx.get(f"{endpoint}/nothing"), 404),
        (httpx.get(f"{endpoint}/chat/completions"), 405),
        (httpx.post(f"{endpoint}/chat/completions", content=b"{}", headers={"Content-Type": "text/plain"}), 415),
        (httpx.get(f"{endpoint}/models", headers={"Host": "evil.example"}), 403),
    ):
        assert found.status_code == status
        assert found.json()["error"]["type"] == "invalid_request_error"
    assert httpx.get(endpoint.replace("/v1", "/health")).json() == {"status": "ok"}


def test_a_body_of_100_mb_is_refused_before_it_has_come(endpoint: str) -> None:
    sent = [0]

    def blocks() -> Iterator[bytes]:
        for _ in range(100):
            sent[0] += 1
            yield b" " * 1_000_000

    with suppress(httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        found = httpx.post(
            f"{endpoint}/chat/completions", content=blocks(), headers={"Content-Type": "application/json"}
        )
        assert found.status_code == 413
    assert sent[0] < 50


def test_an_upload_that_breaks_off_is_no_fault() -> None:
    arriving: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"},
    ]  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return arriving.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with serving(ScriptedPolicy(counting_up)) as (_, endpoint):
        scope = {
            "type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        }  # fmt: skip
        asyncio.run(endpoint.app(scope, receive, send))  # what it raises, uvicorn prints with a traceback
    assert sent[0]["status"] == 499


def test_every_loopback_address_is_answered_without_a_key() -> None:
    with serving(ScriptedPolicy(counting_up)) as (url, _):
        statuses = {
            host: httpx.get(f"{url}/models", headers={"Host": host}).status_code
            for host in (
                "localhost:1",
                "127.0.0.2:8000",
                "[::1]:8000",
                "192.168.0.1",
                "127.0.0.1.evil.example",
                "[::2]",
            )
        }
    assert list(statuses.values()) == [200, 200, 200, 403, 403, 403]


def test_too_many_at_once_are_told_to_come_back() -> None:
    with serving(ScriptedPolicy(slow(0.3)), at_once=2) as (url, _), ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda number: post(url, body(n=number)), [2, 1]))
        statuses = sorted(response.status_code for response in found)
        refused = next(response for response in found if response.status_code == 503)
        assert post(url, body()).status_code == 200, "there is room again"
    assert statuses == [200, 503]
    assert refused.headers["Retry-After"] == "5"
    assert refused.json()["error"]["code"] == "overloaded"


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    with serving(ScriptedPolicy(slow(0.4)), seconds=0.5) as (url, _):
        whole, streamed = post(url, body()), post(url, body(stream=True))
    assert (whole.status_code, whole.json()["error"]["code"]) == (504, "timeout")
    assert streamed.text.rstrip().endswith('"code": "timeout"}}')


def test_an_answer_that_fails_is_an_error_and_the_next_one_is_given(caplog: pytest.LogCaptureFixture) -> None:
    def script(prompt: str, sampling: Sampling) -> str:
        if "fail" in prompt:
            raise ValueError("secret details")
        return counting_up(prompt, sampling)

    with serving(ScriptedPolicy(script)) as (url, _):
        found = post(url, body("fail"))
        assert post(url, body()).status_code == 200
    assert (found.status_code, found.json()["error"]["type"]) == (500, "server_error")
    assert "secret" not in found.text
    assert "secret details" in caplog.text


@pytest.mark.parametrize("streams", [True, False])
def test_many_at_once_with_clients_that_hang_up_are_all_answered(
    tiny_folder: Path, tiny_recipe: Any, streams: bool
) -> None:
    recipe = tiny_recipe()
    batching = BatchingPolicy(load(tiny_folder, recipe))

    def ask(number: int) -> str | None:
        asked = body(CHAIN, stream=streams, seed=number)
        with suppress(httpx.ReadTimeout), httpx.stream(
            "POST", f"{url}/chat/completions", json=asked, timeout=0.05 if number % 4 == 0 else 60
        ) as response:  # fmt: skip
            if number % 4 == 0:
                return None  # hangs up at once
            return response.read().decode()
        return None

    with serving(batching, recipe) as (url, endpoint):
        with ThreadPoolExecutor(32) as threads:
            found = list(threads.map(ask, range(32)))
        deadline = time.monotonic() + 20
        while endpoint.num_answering and time.monotonic() < deadline:
            time.sleep(0.05)
        assert endpoint.num_answering == 0
    batching.close(5)
    answered = [text for number, text in enumerate(found) if number % 4]
    assert len(answered) == 24
    assert all(text and ("[DONE]" in text if streams else '"finish_reason"' in text) for text in answered)


def test_what_is_tested_is_what_users_install() -> None:
    assert "-r requirements-serve.txt" in (Path(__file__).parents[1] / "requirements-dev.txt").read_text()


# -------------------------------------------------- the command


def test_other_machines_need_a_key() -> None:
    for host in ("0.0.0.0", "192.168.0.1", "::", "example.org"):
        with pytest.raises(RunError, match="other machines could use the model; give --key"):
            serve_job.require_key(host, None)
        serve_job.require_key(host, "a-key")
    for host in ("127.0.0.1", "127.0.0.2", "localhost", "::1"):
        serve_job.require_key(host, None)
    with pytest.raises(RunError, match="ASCII without spaces"):
        serve_job.require_key("127.0.0.1", " ")


def test_a_command_line_without_a_model_is_told_by_its_own_name() -> None:
    found = CliRunner().invoke(cli.app, ["serve"])
    assert found.exit_code == 2
    assert "serve takes either --run DIR" in found.output


def test_a_port_that_is_taken_is_one_message_before_the_model_is_loaded() -> None:
    job = solve_job.job(None, TINY, [], None, Effort())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = serve_job.Address("127.0.0.1", taken.getsockname()[1])
        observer = RecordingObserver()
        with (
            pytest.raises(RunError, match="choose another --port or --host"),
            serve_job.ServeJob(job, address, None, 1, 1.0).listening(observer),
        ):
            pass
        assert observer.events == []
    with (
        pytest.raises(RunError, match=r"no\.such\.host\.invalid:0: cannot be listened on"),
        serve_job.ServeJob(job, serve_job.Address("no.such.host.invalid", 0), None, 1, 1.0).listening(observer),
    ):
        pass
