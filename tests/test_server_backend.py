"""`model.backend = "server"`: a model behind an OpenAI-compatible API, and all that can go wrong with one."""

import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from motif_lite import cli
from motif_lite.errors import ModelError, RecipeError, ServerError
from motif_lite.jobs import checking, score_job, solve_job, train_job
from motif_lite.nouns import Conversation, NotWanted, Reply, Sampling, TokenProgress
from motif_lite.policies.protocol import trainable
from motif_lite.policies.server import messages
from motif_lite.policies.server.policy import ServerPolicy
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.kept_replies import KeptReplies
from motif_lite.solving.solver import Effort
from tests.api_server import ApiServer, Exchange
from tests.fakes import GOOD_FORM, RecordingObserver

ROOT = Path(__file__).parents[1]
TINY = ROOT / "recipes" / "tiny_cpu.toml"
SAMPLING = Sampling(max_tokens=50, temperature=0.5, top_p=0.9)


def served(url: str, *more: str) -> list[str]:
    """Changes of a recipe."""
    return [
        'model.backend="server"', f'model.url="{url}"', "model.max_seq_length=4096", "rollout.max_prompt_tokens=1024",
        *more,
    ]  # fmt: skip


def policy_at(url: str, *more: str, pauses: Sequence[float] = (0.01, 0.01)) -> ServerPolicy:
    return ServerPolicy(checking.check(TINY, served(url, *more)).model, "a model", pauses)


def ask(policy: ServerPolicy, *questions: str, sampling: Sampling = SAMPLING, **listening: Any) -> list[Reply]:
    prompts = [policy.render([{"role": "user", "content": question}]) for question in questions]
    return policy.generate(prompts, sampling, seeds=range(len(prompts)), **listening)


def echo(exchange: Exchange) -> None:
    exchange.reply(f"<answer>{exchange.prompt}</answer>")


# ------------------------------------------------------------------------------------------------- prompts as messages

conversations = st.lists(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["system", "user", "assistant"]),
        st.text() | st.sampled_from(["user 3\nabc\n", "system 0\n\n", "\n"]),
    ),
    min_size=1,
)


@settings(deadline=None, max_examples=50)
@given(conversations)
def test_a_conversation_comes_back_from_its_text_whatever_its_contents_say(conversation: Conversation) -> None:
    found = messages.read(messages.written(conversation))
    assert [message["role"] for message in found] == [message["role"] for message in conversation]
    for message, said in zip(found, conversation, strict=True):
        assert message["content"] == messages._MARK_STARTS.sub(r"\g<0> ", said["content"])


def test_special_tokens_of_common_templates_are_broken_in_contents() -> None:
    marks = ["<|im_end|>", "</s>", "<s>", "[INST]", "[/INST]", "<end_of_turn>", "<\uff5cUser\uff5c>", "<eos>"]
    text = messages.written([{"role": "user", "content": " ".join(marks)}])
    assert not [mark for mark in marks if mark in text]
    assert messages.read(text)[0]["content"].replace("< ", "<").replace("[ ", "[") == " ".join(marks)
    assert messages.read("no rendered text") == [{"role": "user", "content": "no rendered text"}]
    assert messages.written([{"role": "user", "content": "1 < 2, <reasoning>, [1]"}]).endswith("[1]\n")


def test_a_reply_that_has_begun_is_refused() -> None:
    conversation: Conversation = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "1 is"}]
    with pytest.raises(ModelError, match=r"cannot continue a reply that has begun .* take another strategy"):
        policy_at("http://localhost:1/v1").render(conversation)


def test_tokens_are_estimated_and_ends_kept_by_the_same_estimate() -> None:
    policy = policy_at("http://localhost:1/v1")
    assert [policy.count_tokens(text) for text in ("", "a", "abc", "abcd", "\u00e9\u00e9")] == [0, 1, 1, 2, 2]
    assert policy.keep_end("abcdef", 1) == "def"
    assert policy.keep_end("a\u00e9\u00e9", 1) == "\u00e9", "half a character is left out"
    assert policy.keep_end("abc", 0) == ""


# ------------------------------------------------------------------------------------------------------------ requests


def test_each_prompt_gets_its_own_reply_with_the_recipes_sampling_and_its_seed() -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(0.05)
        echo(exchange)

    with ApiServer(slow, ["other"]) as server:
        policy = policy_at(server.url, "model.requests=4", "model.extra_body={repetition_penalty=1.0}")
        replies = ask(policy, *(f"question {number}" for number in range(20)))
    assert [reply.text for reply in replies] == [f"<answer>question {number}</answer>" for number in range(20)]
    assert {reply.num_tokens for reply in replies} == {7}
    assert 2 <= server.most_at_once <= 4
    body = next(body for body in server.bodies if body["seed"] == 3)
    assert body == {
        "model": "a model", "messages": [{"role": "user", "content": "question 3"}], "max_tokens": 50,
        "temperature": 0.5, "top_p": 0.9, "seed": 3, "repetition_penalty": 1.0,
    }  # fmt: skip


def test_settings_that_are_off_are_left_to_the_server() -> None:
    with ApiServer(echo) as server:
        ask(policy_at(server.url), "1?", sampling=Sampling(max_tokens=5, top_k=3, min_p=0.1))
        ask(policy_at(server.url, "model.chat_template_kwargs={enable_thinking=false}"), "1?")
    assert (server.bodies[0]["top_k"], server.bodies[0]["min_p"]) == (3, 0.1)
    assert not {"top_k", "min_p", "stop"} & server.bodies[1].keys()
    assert server.bodies[1]["chat_template_kwargs"] == {"enable_thinking": False}


def test_the_key_is_sent_and_kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTIF_LITE_API_KEY", "a-secret")
    with ApiServer(echo) as server:
        ask(policy_at(server.url), "1?")
    assert server.headers[0]["Authorization"] == "Bearer a-secret"


@pytest.mark.parametrize("key", ["\u00fcsecret", "secret\r", "a secret", "secret\x1b"])
def test_a_key_that_no_header_holds_is_refused_without_being_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTIF_LITE_API_KEY", key)
    with pytest.raises(ServerError, match="MOTIF_LITE_API_KEY: a key is ASCII without spaces") as caught:
        ask(policy_at("http://localhost:1/v1"), "1?")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy", ["socks://me:secret@127.0.0.1:1080/", "socks5://127.0.0.1:1080", "http://me:sec/ret@x"]
)
def test_a_proxy_that_is_none_is_one_message(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ServerError, match=r"check .*ALL_PROXY") as caught:
        ask(policy_at("http://server.invalid/v1"), "1?")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("listens", [False, True])
def test_a_reply_ends_with_the_text_that_ends_it(listens: bool) -> None:
    pieces: list[str] = []
    listening: dict[str, Any] = {"on_text": lambda index, piece: pieces.append(piece or "")} if listens else {}
    with ApiServer(lambda exchange: exchange.reply("a </answer> b", finish="length")) as server:
        [reply] = ask(policy_at(server.url), "1?", sampling=Sampling(stop=["</answer>"]), **listening)
        [whole] = ask(policy_at(server.url), "1?", **listening)
    assert (reply.text, reply.finish) == ("a </answer>", "stop")
    assert (whole.text, whole.finish) == ("a </answer> b", "length")
    assert not listens or "".join(pieces) == "a </answer>a </answer> b"


def test_replies_are_told_as_they_are_streamed() -> None:
    told: dict[int, list[str | None]] = {}
    with ApiServer(echo) as server:
        replies = ask(
            policy_at(server.url), "one", "two", on_text=lambda index, piece: told.setdefault(index, []).append(piece)
        )
    assert ["".join(filter(None, told[index])) for index in (0, 1)] == [reply.text for reply in replies]
    assert told[0][-1] is None
    assert len(told[0]) > 10
    assert [reply.num_tokens for reply in replies] == [7, 7]


def test_a_reply_that_nobody_wants_is_hung_up_and_the_others_go_on() -> None:
    def one_of_two(index: int, piece: str | None) -> None:
        if index == 1:
            raise NotWanted

    with ApiServer(echo) as server:
        replies = ask(policy_at(server.url), "one", "two", on_text=one_of_two)
    assert replies[0].text == "<answer>one</answer>"
    assert len(replies[1].text) < len(replies[0].text)


def test_unknown_token_counts_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with ApiServer(lambda exchange: exchange.reply("x", tokens=None)) as server:
        assert [reply.num_tokens for reply in ask(policy_at(server.url), "1?", "2?")] == [0, 0]
    assert [record.getMessage() for record in caplog.records].count(
        f"{server.url} reports no usage: generated tokens are unknown, and count as 0"
    ) == 1


def test_progress_is_told_while_nothing_comes_so_that_a_stop_is_heard() -> None:
    hold = threading.Event()

    def stop(progress: TokenProgress) -> None:
        raise KeyboardInterrupt

    with ApiServer(lambda exchange: (hold.wait(10), None)[1]) as server:
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            ask(policy_at(server.url), "1?", on_progress=stop)
        assert time.monotonic() - started < 3
        hold.set()


# -------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(status: int, caplog: pytest.LogCaptureFixture) -> None:
    left = [2]

    def busy(exchange: Exchange) -> None:
        if left[0]:
            left[0] -= 1
            exchange.send({"error": {"message": "come back"}}, status)
        else:
            echo(exchange)

    with ApiServer(busy) as server:
        assert ask(policy_at(server.url), "1?")[0].text == "<answer>1?</answer>"
    assert "come back; trying again" in caplog.text


def test_the_pause_that_a_server_asks_for_is_kept() -> None:
    times: list[float] = []

    def busy(exchange: Exchange) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            exchange.send({}, 503, {"Retry-After": "1"})
        else:
            echo(exchange)

    with ApiServer(busy) as server:
        ask(policy_at(server.url), "1?")
    assert times[1] - times[0] >= 1


def hangs_up(exchange: Exchange) -> None:
    exchange.handler.connection.shutdown(socket.SHUT_RDWR)


def is_slow(exchange: Exchange) -> None:
    time.sleep(2)


RUBBISH = [
    (b"<html>welcome</html>", "no JSON: '<html>welcome"),
    (b"", "no JSON: ''"),
    ([], "Input should be"),
    ({}, "choices: Field required"),
    ({"choices": []}, "choices: List should have at least 1 item"),
    ({"choices": [{"message": {"content": 5}}]}, "content: Input should be a valid string"),
    ({"choices": "abc"}, "choices: Input should be a valid list"),
    (b"[" * 100_000, "no JSON"),
    (b'{"choices": ' + b"1" * 5000 + b"}", "no JSON"),
    (b"x" * ((1 << 24) + 10), "more than 16,777,216 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), RUBBISH)
def test_rubbish_is_one_message(content: object, expected: str) -> None:
    with (
        ApiServer(lambda exchange: exchange.send(content)) as server,
        pytest.raises(ServerError, match=re.escape(expected)) as caught,
    ):
        ask(policy_at(server.url), "1?")
    assert "OpenAI-compatible API?" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"data: {\n\n", "no JSON"),
        (b'data: {"choices": [{"delta": {"content": 1}}]}\n\n', "valid string"),
        (b'data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
        (b'{"choices": [{"message": {"content": "whole"}}]}', "streams no pieces"),
        (b"data: " + b"x" * (1 << 20) + b"yy", "a line of more than"),
    ],
)
def test_rubbish_in_a_stream_is_one_message(sent: bytes, expected: str) -> None:
    with (
        ApiServer(lambda exchange: exchange.send(sent)) as server,
        pytest.raises(ServerError, match=re.escape(expected)),
    ):
        ask(policy_at(server.url), "1?", on_text=lambda index, piece: None)


def test_a_stream_that_breaks_off_is_not_told_twice() -> None:
    def breaks(exchange: Exchange) -> None:
        exchange.send(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', headers={"Content-Length": "500"})
        hangs_up(exchange)

    told: list[str | None] = []
    with ApiServer(breaks) as server, pytest.raises(ServerError, match="broke off in the middle of a reply"):
        ask(policy_at(server.url), "1?", on_text=lambda index, piece: told.append(piece))
    assert told == ["a"]


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_a_reply_that_a_server_gave_up_is_asked_for_again(reason: str) -> None:
    left = [2]

    def gives_up(exchange: Exchange) -> None:
        left[0] -= 1
        exchange.reply("<answer>1", finish=reason if left[0] >= 0 else "stop")

    said = f'it gave a reply up, see its log: finish_reason "{reason}"'
    with ApiServer(gives_up) as server:
        assert ask(policy_at(server.url), "1?")[0].finish == "stop"
        assert len(server.bodies) == 3
        left[0] = 9
        with pytest.raises(ServerError, match=f"no reply after 3 tries .{said}"):
            ask(policy_at(server.url), "1?")
        with pytest.raises(ServerError, match=f"broke off in the middle of a reply .{said}"):
            ask(policy_at(server.url), "1?", on_text=lambda index, piece: None)


@pytest.mark.parametrize("reason", [None, "", "eos_token", "tool_calls", "content_filter"])
def test_other_reasons_than_those_of_the_api_and_none_are_an_end(reason: str | None) -> None:
    with ApiServer(lambda exchange: exchange.reply("whole", finish=reason)) as server:
        either: list[dict[str, Any]] = [{}, {"on_text": lambda index, piece: None}]
        for listening in either:
            [reply] = ask(policy_at(server.url), "1?", **listening)
            assert (reply.text, reply.finish) == ("whole", "stop")


def ends_by_closing(exchange: Exchange, *lines: bytes) -> None:
    """A stream without a length, as from servers that speak HTTP/1.0."""
    exchange.handler.send_response(200)
    exchange.handler.send_header("Connection", "close")
    exchange.handler.end_headers()
    exchange.handler.wfile.write(b"".join(b"data: " + line + b"\n\n" for line in lines))


LETTER, END = b'{"choices": [{"delta": {"content": "a"}}]}', b'{"choices": [{"delta": {}, "finish_reason": "stop"}]}'


@pytest.mark.parametrize("last", [[b"[DONE]"], [END], []])
def test_a_stream_is_complete_where_the_server_says_so(last: list[bytes]) -> None:
    expected: AbstractContextManager[object] = (
        nullcontext() if last else pytest.raises(ServerError, match=r"broke off .* without \[DONE\]")
    )
    with ApiServer(lambda exchange: ends_by_closing(exchange, LETTER, *last)) as server, expected:
        assert ask(policy_at(server.url), "1?", on_text=lambda index, piece: None)[0].text == "a"


def test_signs_of_life_alone_do_not_keep_a_stream_alive() -> None:
    def lives(exchange: Exchange) -> None:
        ends_by_closing(exchange, LETTER)
        for _ in range(30):
            time.sleep(0.1)
            exchange.handler.wfile.write(b": still there\n\n")

    started = time.monotonic()
    with ApiServer(lives) as server, pytest.raises(ServerError, match=r"broke off .*\(TimeoutError\)"):
        ask(policy_at(server.url, "model.request_seconds=1"), "1?", on_text=lambda index, piece: None)
    assert time.monotonic() - started < 2.5


@pytest.mark.parametrize(
    ("respond", "expected"),
    [
        (hangs_up, "no reply after 3 tries"),
        (is_slow, "no reply after 3 tries (TimeoutError)"),
        (lambda exchange: exchange.send({}, 302, {"Location": "http://localhost:1/"}), "status 302"),
        (
            lambda exchange: exchange.send({"error": {"message": "no such model"}}, 404),
            "no such model; check model.url",
        ),
        (lambda exchange: exchange.send({"error": "bad \x1b[2J key"}, 401), "MOTIF_LITE_API_KEY"),
        (lambda exchange: exchange.send({"message": "too long"}, 400), "too long; the server refuses the request"),
        (lambda exchange: exchange.send(b"x" * 100_000, 400), "sends more than 65,536 bytes"),
    ],
)
def test_a_server_that_dies_or_refuses_is_one_message(respond: Callable[[Exchange], None], expected: str) -> None:
    with ApiServer(respond) as server, pytest.raises(ServerError, match=re.escape(expected)) as caught:
        ask(policy_at(server.url, "model.request_seconds=1"), "1?", "2?")
    assert str(caught.value).isprintable()


def test_replies_with_half_characters_can_be_written() -> None:
    with ApiServer(lambda exchange: exchange.reply("a\ud800b")) as server:
        assert ask(policy_at(server.url), "1?")[0].text == "a?b"


# --------------------------------------------------------------------------------------------------- which model


def loaded(url: str, name: str) -> ServerPolicy:
    recipe = checking.check(TINY, served(url, f'model.name="{name}"'))
    return ServerPolicy.load(recipe, recipe.model.name)


def test_the_model_is_the_one_of_that_name_or_the_only_one() -> None:
    with ApiServer(echo, ["a", "b"]) as server:
        assert loaded(server.url, "b").served == "b"
        with pytest.raises(ServerError, match=r"does not serve model\.name = 'c'; it serves a, b"):
            loaded(server.url, "c")
    with ApiServer(echo, ["only"]) as server:
        assert loaded(server.url, "c").served == "only"
    with ApiServer(echo) as without_a_list, ApiServer(echo, []) as with_an_empty_one:
        assert [loaded(server.url, "c").served for server in (without_a_list, with_an_empty_one)] == ["c", "c"]


def test_a_server_that_is_down_is_one_message() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ServerError, match=r"no reply after 3 tries .*; start the server, or correct model.url"):
            loaded(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", "c")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (['model.backend="server"'], 'needs model.url, e.g. "http://localhost:8000/v1"'),
        (['model.url="http://localhost/v1"'], "model.url is for model.backend = \"server\"; with 'transformers'"),
        (["model.requests=4"], 'model.requests is for model.backend = "server"'),
        (["model.request_seconds=4"], 'model.request_seconds is for model.backend = "server"'),
        (served("localhost:8000"), "is not an http or https URL"),
        (served("http://[::1/v1"), "is not a URL"),
        (served("http://[v1.x]/v1"), "is not a URL"),
        (served("http://xn--a/v1"), "is not a URL"),
        (served("http://me:secret@localhost/v1"), "MOTIF_LITE_API_KEY instead"),
        (served("http://localhost/v1?key=1"), "has a query"),
        (served("http://localhost/v1", "model.extra_body={seed=1}"), "seed is set by the program"),
        (served("http://localhost/v1", "model.requests=0"), "model.requests: input should be greater"),
        (
            served("http://localhost/v1", "evaluation.strategies=['delethink']"),
            "evaluation.strategies names delethink, whose rounds continue a reply",
        ),
        (served("http://localhost/v1", "rollout.strategy='delethink'"), "rollout.strategy names delethink"),
    ],
)
def test_addresses_that_are_none_are_refused(changes: list[str], expected: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(expected)) as caught:
        checking.check(TINY, changes)
    assert "secret" not in str(caught.value)


# -------------------------------------------------------------------------------------------------------- commands


def program(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


def flags(changes: Sequence[str]) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


URL = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "training needs the model in this process"),
        (["--dry-run"], "--dry-run needs the model"),
        (["--plan"], "--plan needs the model"),
        (
            ["--evaluate-only", "--adapter", str(ROOT / "tests/data/f60840b/checkpoints/checkpoint-4")],
            "--adapter needs",
        ),
    ],
)
def test_what_a_server_cannot_do_is_refused_with_the_remedy(arguments: list[str], expected: str) -> None:
    found = program("--recipe", TINY, *flags(served(URL)), *arguments)
    assert found.exit_code == 2
    text = " ".join(found.output.split())
    assert expected in text
    assert "set model.backend to 'transformers' or 'unsloth'" in text


def test_adapters_are_refused_where_a_server_has_the_model() -> None:
    adapter = ROOT / "tests/data/f60840b/checkpoints/checkpoint-4"
    with pytest.raises(RecipeError, match="--adapter needs"):
        solve_job.job(None, TINY, served(URL), str(adapter), Effort())
    with pytest.raises(RecipeError, match="--adapter needs"):
        score_job.job(TINY, served(URL), ROOT / "recipes/tiny_openings.jsonl", num_futures=1, adapter=str(adapter))
    with pytest.raises(ModelError, match="neither trained here nor given an adapter"):
        trainable(policy_at(URL))


def counting_up(exchange: Exchange) -> None:
    """Adds one to the progress in each round."""
    found = re.search(r'Progress in round \d+: "\\boxed{(\d+)}"', exchange.prompt)
    exchange.reply(GOOD_FORM.format(f"\\boxed{{{int(found[1]) + 1 if found else 1}}}"))


def test_solve_asks_a_server_round_by_round(tmp_path: Path) -> None:
    with ApiServer(counting_up, ["it"]) as server:
        found = program("solve", "--recipe", TINY, *flags(served(server.url)), "--samples", "3", "--json", "1+1?")
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout.splitlines()[-1])
    assert (answer["answer"], answer["share"], answer["tokens"]) == ("3", 1.0, 63)
    assert len(server.bodies) == 9


def test_a_runs_own_adapter_is_taken_to_be_served() -> None:
    run = ROOT / "tests/data/f60840b"
    job = solve_job.job(run, None, served("http://127.0.0.1:9/v1"), None, Effort())
    assert (job.adapter, job.is_served_run) == (None, True)
    observer = RecordingObserver()
    with ApiServer(counting_up, ["it"]) as server:
        solve_job.job(run, None, served(server.url), None, Effort()).load(observer)
    assert "note: f60840b: its adapter is not loaded; the server's model is taken for it" in observer.notes
    assert any("seeds are sent, but a server's samples need not repeat" in note for note in observer.notes)


def test_score_asks_a_server() -> None:
    openings = ROOT / "recipes" / "tiny_openings.jsonl"
    with ApiServer(counting_up, ["it"]) as server:
        scores = score_job.job(TINY, served(server.url), openings, num_futures=2, adapter=None).perform(
            RecordingObserver()
        )
    assert scores.num_futures == 2
    assert scores.num_tokens == 7 * len(server.bodies)


EVALUATION = (
    "evaluation.strategies=['multi_round']", "evaluation.num_samples=0", "model.requests=4",
    "evaluation.benchmarks.chain_sum.num_problems=20",
)  # fmt: skip


def evaluate(url: str, out: Path, *more: str) -> RecordingObserver:
    observer = RecordingObserver()
    train_job.job(TINY, served(url, *EVALUATION, *more), out, evaluate_only=True).perform(observer)
    return observer


def test_a_server_that_dies_costs_nothing_that_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motif_lite.policies.server.connection.PAUSES", (0.01,))
    monkeypatch.setattr(ServerPolicy.__init__, "__defaults__", ((0.01,),))
    num_answered = [0]

    def dies(exchange: Exchange) -> None:
        num_answered[0] += 1
        if num_answered[0] > 40:  # three calls for each of eight problems in a part: in the middle of the second
            hangs_up(exchange)
        else:
            counting_up(exchange)

    out = tmp_path / "run"
    with ApiServer(dies, ["it"]) as server, pytest.raises(ServerError) as caught:
        evaluate(server.url, out)
    assert f"to continue: python run.py --evaluate-only --out {out}" in str(caught.value)
    with ApiServer(counting_up, ["it"]) as server:
        evaluate(server.url, out)  # the same command, though the server has another port
    # 20 of 60 are missing, and what was on its way when another request failed
    assert 20 <= len(server.bodies) <= 23, "each reply that came is kept, though its part was not complete"
    assert not RunDirectory.open(out).kept_replies.exists()
    [measured] = RunDirectory.open(out).evaluation().measurements
    assert (measured.num_problems, measured.generated_tokens) == (20, 20 * 3 * 7)
    with ApiServer(counting_up, ["another"]) as server, pytest.raises(Exception, match="has changed since"):
        evaluate(server.url, out)


def test_a_kept_reply_that_was_cut_off_is_asked_for_again_and_spoils_none_that_follows(tmp_path: Path) -> None:
    path = tmp_path / "unfinished" / "replies.jsonl"
    first, second = Reply("one", 1, "stop"), Reply("\ud800 two", 2, "length")
    kept = KeptReplies(path)
    kept.add("a", first)
    kept.add("b", second)
    path.write_bytes(path.read_bytes()[:-5])
    for _ in range(2):
        kept = KeptReplies(path)
        assert (kept.find("a"), kept.find("b")) == (first, None)
    kept.add("b", second)
    assert KeptReplies(path).find("b") == second
    kept.drop()
    assert not path.exists()


def test_a_recipe_that_was_measured_on_a_server_says_so(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with ApiServer(counting_up, ["it"]) as server:
        observer = evaluate(server.url, out, "evaluation.benchmarks.chain_sum.num_problems=4")
    recipe: Recipe = RunDirectory.open(out).resolved(checking.TABLES)
    assert (recipe.model.backend, recipe.model.url, recipe.rollout.max_width) == ("server", server.url, 4)
    assert json.loads((out / "inputs.json").read_text())["model"] == {"served": "it"}
    assert any("tokens of prompts are estimated" in note for note in observer.notes)
    assert logging.getLogger("httpx").getEffectiveLevel() >= logging.INFO
