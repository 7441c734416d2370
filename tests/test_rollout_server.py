"""Replies from a vLLM server: a server that speaks its protocol, with a real model and its adapters behind it."""

import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from motif_lite.errors import ModelError, RecipeError, RunError, ServerError
from motif_lite.jobs import adapter_choice, checking, train_job
from motif_lite.jobs.stopping import Interrupted
from motif_lite.nouns import Reply, Sampling
from motif_lite.policies.server import rollouts
from motif_lite.policies.server.rollouts import RolloutServer
from motif_lite.policies.transformers_policy import TransformersPolicy
from motif_lite.runs.directory import RunDirectory
from tests.api_server import Body, Exchange
from tests.conftest import write_random_qwen
from tests.fakes import RecordingObserver
from tests.vllm_server import TINY, VllmServer, tiny_policy

SMALL = [
    "rollout.num_openings=2", "rollout.num_futures=1", "training.problems_per_step=2", "training.micro_batch_size=4",
    "training.max_steps=3", "training.save_every=1", "data.num_problems=16", "evaluation.before=false",
    'evaluation.strategies=["multi_round"]', "evaluation.greedy=false",
    "evaluation.benchmarks.chain_sum.num_problems=4", "training.importance_cap=2.0",
]  # fmt: skip

GREEDY, SAMPLED = Sampling(max_tokens=20, temperature=0), Sampling(max_tokens=20, temperature=1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RolloutServer.__init__, "__defaults__", ((0.01, 0.01),))


def at(server: VllmServer, folder: Path) -> list[str]:
    return [f'rollout.server="{server.api.url}"', f'rollout.server_folder="{folder}"']


def ask(policy: TransformersPolicy, sampling: Sampling, count: int = 4) -> list[Reply]:
    prompts = [policy.render([{"role": "user", "content": f"{number} + 4 = ?"}]) for number in range(count)]
    return policy.generate(prompts, sampling, seeds=range(count))


def trained(policy: TransformersPolicy, by: float) -> None:
    """Make the adapter another one."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight += by * torch.randn(weight.shape, generator=generator)


# ------------------------------------------------------------------------------------------------- replies


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_replies_are_those_of_the_model_here_before_and_after_a_step(
    sampling: Sampling, tiny_folder: Path, tmp_path: Path
) -> None:
    server = VllmServer(tiny_folder)
    with server.api:
        here, there = tiny_policy(tiny_folder), tiny_policy(tiny_folder, *at(server, tmp_path))
        first = ask(there, sampling)
        assert first == ask(here, sampling)
        for policy in (here, there):
            trained(policy, 0.1)
        second = ask(there, sampling)
        assert second == ask(here, sampling) != first
        torch.testing.assert_close(
            [reply.logprobs for reply in second], [reply.logprobs for reply in ask(here, sampling)], rtol=0, atol=1e-4
        )
    assert server.orders == ["load", "load", "unload"]
    assert len(server.adapters) == 1
    assert [folder.name for folder in tmp_path.iterdir()] == list(server.adapters), "earlier ones are removed"


def test_the_same_adapter_is_sent_once(tiny_folder: Path, tmp_path: Path) -> None:
    server = VllmServer(tiny_folder)
    with server.api:
        policy = tiny_policy(tiny_folder, *at(server, tmp_path))
        for _ in range(3):
            ask(policy, SAMPLED, 1)
    assert server.orders == ["load"]
    assert server.num_written == 3 + 1, "three replies and a probe"


def test_texts_that_end_a_reply_end_it_there(tiny_folder: Path, tmp_path: Path) -> None:
    server = VllmServer(tiny_folder)
    with server.api:
        policy = tiny_policy(tiny_folder, *at(server, tmp_path))
        sampling = Sampling(max_tokens=20, temperature=0, stop=["<answer>"])
        assert ask(policy, sampling) == ask(tiny_policy(tiny_folder), sampling)


def test_closing_leaves_nothing_there(tiny_folder: Path, tmp_path: Path) -> None:
    server = VllmServer(tiny_folder)
    with server.api:
        policy = tiny_policy(tiny_folder, *at(server, tmp_path))
        ask(policy, SAMPLED, 1)
        policy.close()
        policy.close()
    assert server.orders == ["load", "unload"]
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------- what goes wrong


def test_closing_waits_for_no_server(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, asked = VllmServer(tiny_folder), threading.Event()
    monkeypatch.setattr(server, "_unload", lambda exchange, body: asked.wait(60))
    monkeypatch.setattr(rollouts, "_CLOSING_SECONDS", 0.2)
    with server.api:
        policy = tiny_policy(tiny_folder, *at(server, tmp_path))
        ask(policy, SAMPLED, 1)
        policy.close()
        asked.set()
    assert re.search(r"motif_lite-\w+-\w+ may stay loaded on the server: http.* no answer in 0.2 seconds", caplog.text)
    assert list(tmp_path.iterdir()) == []


def test_closing_drops_each_adapter_that_the_server_knows(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = VllmServer(tiny_folder)
    with server.api:
        policy = tiny_policy(tiny_folder, *at(server, tmp_path))
        ask(policy, SAMPLED, 1)
        assert policy.elsewhere is not None
        policy.elsewhere._given.insert(0, "motif_lite-unknown")
        (tmp_path / "motif_lite-unknown").mkdir()
        policy.close()
    assert server.adapters == {}
    assert list(tmp_path.iterdir()) == []
    [warning] = [record.message for record in caplog.records if "may stay loaded" in record.message]
    assert warning.startswith("motif_lite-unknown may stay loaded on the server: http")


def test_an_adapter_that_is_half_written_is_removed(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted(folder: str, **options: Any) -> None:
        (Path(folder) / "adapter_config.json").touch()
        raise Interrupted

    server = VllmServer(tiny_folder)
    with server.api:
        policy = tiny_policy(tiny_folder, *at(server, tmp_path))
        monkeypatch.setattr(policy.model, "save_pretrained", interrupted)
        with pytest.raises(Interrupted):
            ask(policy, SAMPLED, 1)
        assert [folder.suffix for folder in tmp_path.iterdir()] == [".unfinished"]
        policy.close()
    assert list(tmp_path.iterdir()) == []
    assert server.orders == []
    assert "may stay loaded" not in caplog.text, "the server was told of none"


def test_no_memory_to_compare_is_said_as_such(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(**arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    server = VllmServer(tiny_folder)
    with server.api:
        policy = tiny_policy(tiny_folder, *at(server, tmp_path))
        monkeypatch.setattr(policy.model, "forward", exhausted)
        with pytest.raises(ModelError, match=r"out of memory while the model here read a prompt of \d+ tokens"):
            ask(policy, SAMPLED, 1)
        policy.close()
    assert server.orders == ["load", "unload"]
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_that_was_not_taken_is_noticed(tiny_folder: Path, tmp_path: Path) -> None:
    server = VllmServer(tiny_folder, takes_adapters=False)
    with server.api:
        policy = tiny_policy(tiny_folder, *at(server, tmp_path))
        ask(policy, SAMPLED, 1)  # a fresh adapter changes nothing
        trained(policy, 0.1)
        with pytest.raises(ServerError, match=r"it has not taken the adapter motif_lite-\w+-\w+: .* --enable-lora"):
            ask(policy, SAMPLED, 1)


def test_another_model_is_noticed(tiny_folder: Path, tmp_path: Path) -> None:
    from motif_lite.planning.shapes import TINY as shape

    other = write_random_qwen(tmp_path / "other", shape)
    server = VllmServer(other)
    with server.api:
        policy = tiny_policy(tiny_folder, *at(server, tmp_path / "adapters"))
        with pytest.raises(ServerError, match=r"which is no rounding; serve the same model\.name"):
            ask(policy, SAMPLED, 1)


def test_a_server_that_was_restarted_between_two_steps_gets_the_next_adapter(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = VllmServer(tiny_folder)
    with server.api:
        here, there = tiny_policy(tiny_folder), tiny_policy(tiny_folder, *at(server, tmp_path))
        ask(there, SAMPLED, 1)
        [first] = server.adapters
        server.adapters.clear()
        for policy in (here, there):
            trained(policy, 0.1)
        assert ask(there, SAMPLED, 1) == ask(here, SAMPLED, 1)
    assert f"{first} may stay loaded on the server: {server.api.url}: status 404" in caplog.text
    assert [folder.name for folder in tmp_path.iterdir()] == list(server.adapters) != [first]


def test_an_adapter_is_loaded_though_the_answer_was_lost(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(exchange: Exchange, body: Body) -> None:
        if body["lora_name"] in server.adapters:
            refuse(exchange, body)
        else:
            server.adapters[body["lora_name"]] = Path(body["lora_path"])
            exchange.handler.close_connection = True

    server = VllmServer(tiny_folder)
    refuse = server._load
    monkeypatch.setattr(server, "_load", lost)
    with server.api:
        policy = tiny_policy(tiny_folder, *at(server, tmp_path))
        assert ask(policy, SAMPLED) == ask(tiny_policy(tiny_folder), SAMPLED)
        policy.close()
    assert server.orders == ["unload"], "and refused when it was asked again"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reason", ["abort", None])
def test_a_reply_that_was_broken_off_is_asked_for_again_and_never_taken_for_a_whole_one(
    reason: str | None, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_left = [2]

    def complete(exchange: Exchange, body: Body) -> None:
        if num_left[0] and body["max_tokens"] == SAMPLED.max_tokens:  # not the probe's
            num_left[0] -= 1
            choice = {"token_ids": [1], "logprobs": {"token_logprobs": [-0.5]}, "finish_reason": reason}
            exchange.send({"choices": [choice]})
        else:
            whole(exchange, body)

    server = VllmServer(tiny_folder)
    whole = server._complete
    monkeypatch.setattr(server, "_complete", complete)
    with server.api:
        policy = tiny_policy(tiny_folder, *at(server, tmp_path))
        assert ask(policy, SAMPLED, 1) == ask(tiny_policy(tiny_folder), SAMPLED, 1)
        num_left[0] = 3
        with pytest.raises(ServerError) as told:
            ask(policy, SAMPLED, 1)
    said = f"it gave a reply up, see its log: finish_reason {json.dumps(reason)}"
    assert f"no reply after 3 tries ({said})" in str(told.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"token_ids": [1, 2]}, "2 tokens with 1 log-probabilities are no reply"),
        ({"token_ids": [10**6]}, "does the server have the same model.name"),
        ({"token_ids": None}, "choices.0.token_ids"),
        ({"logprobs": None}, "choices.0.logprobs"),
    ],
)
def test_what_is_no_reply_is_refused(
    changes: dict[str, Any], said: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def complete(exchange: Any, body: Any) -> None:
        choice = {"token_ids": [1], "logprobs": {"token_logprobs": [-0.5]}, "finish_reason": "stop"}
        exchange.send({"choices": [choice | changes]})

    server = VllmServer(tiny_folder)
    monkeypatch.setattr(server, "_complete", complete)
    with server.api, pytest.raises(ServerError) as told:
        ask(tiny_policy(tiny_folder, *at(server, tmp_path)), SAMPLED, 1)
    assert said in str(told.value)


def test_a_server_without_adapters_says_so(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = VllmServer(tiny_folder)
    monkeypatch.setattr(server, "_load", lambda exchange, body: exchange.send({"detail": "Not Found"}, 404))
    with server.api, pytest.raises(ServerError, match=r"load_lora_adapter.* VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        ask(tiny_policy(tiny_folder, *at(server, tmp_path)), SAMPLED, 1)


def test_a_folder_that_cannot_be_written_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = VllmServer(tiny_folder)
    with server.api, pytest.raises(Exception, match=r"choose another rollout\.server_folder"):
        ask(tiny_policy(tiny_folder, *at(server, tmp_path / "file")), SAMPLED, 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (['rollout.server="http://a/v1"'], "rollout.server needs rollout.server_folder"),
        (['rollout.server_folder="a"'], "rollout.server_folder needs rollout.server"),
        (
            ['rollout.server="http://a/v1"', 'rollout.server_folder="a"', 'model.backend="unsloth"'],
            "rollout.server is for model.backend = \"transformers\"; with 'unsloth' leave it out",
        ),
        (["model.requests=4"], 'model.requests is for model.backend = "server"'),
    ],
)
def test_recipes_that_do_not_say_enough(changes: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as told:
        checking.check(TINY, changes)
    assert said in str(told.value)


def test_a_trained_model_is_asked_without_the_server(tiny_folder: Path, tmp_path: Path) -> None:
    recipe = checking.check(TINY, [
        f'model.name="{tiny_folder}"', 'rollout.server="http://127.0.0.1:9/v1"', f'rollout.server_folder="{tmp_path}"',
    ])  # fmt: skip
    _, policy = adapter_choice.loaded(recipe, None, RecordingObserver())
    assert isinstance(policy, TransformersPolicy)
    assert ask(policy, GREEDY, 1)


# ------------------------------------------------------------------------------------------------- a whole run


def train(out: Path, changes: Sequence[str], *, resume: bool = False) -> RunDirectory:
    job = train_job.job(None if resume else TINY, list(changes), out, resume=resume)
    job.perform(RecordingObserver())
    return RunDirectory.open(out)


def told(run: RunDirectory) -> list[Any]:
    """All rollouts, without what depends on the clock."""
    return [json.loads(line) for line in (run.root / "rollouts.jsonl").read_text().splitlines()]


def assert_the_same(run: RunDirectory, other: RunDirectory) -> None:
    assert told(run) == told(other)
    weights, others = (load_file(each.adapter / "adapter_model.safetensors") for each in (run, other))
    torch.testing.assert_close(weights, others, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> RunDirectory:
    """The run whose replies are written here."""
    return train(tmp_path_factory.mktemp("local") / "run", [f'model.name="{tiny_folder}"', *SMALL])


def test_a_run_with_a_server_is_the_run_without(local: RunDirectory, tiny_folder: Path, tmp_path: Path) -> None:
    server = VllmServer(tiny_folder)
    with server.api:
        run = train(tmp_path / "run", [f'model.name="{tiny_folder}"', *SMALL, *at(server, tmp_path / "adapters")])
    assert_the_same(run, local)
    assert run.evaluation().measurements[0].num_correct == local.evaluation().measurements[0].num_correct
    num_adapters = server.orders.count("load")
    assert 2 < num_adapters <= 4, "a fresh one, and one after each step that has changed it"
    assert server.orders == ["load", *["load", "unload"] * (num_adapters - 1), "unload"]
    assert list((tmp_path / "adapters").iterdir()) == []
    assert [line.sampling_mismatch for line in run.metrics()] == pytest.approx([0, 0, 0], abs=1e-4)
    assert [line.importance_weight for line in run.metrics()] == pytest.approx([1, 1, 1], abs=1e-4)


def test_a_server_that_dies_in_mid_step_costs_that_step_alone(
    local: RunDirectory, tiny_folder: Path, tmp_path: Path
) -> None:
    out, changes = tmp_path / "run", [f'model.name="{tiny_folder}"', *SMALL]
    dying = VllmServer(tiny_folder, dies_after=20)  # 13 for a step, with its probe
    with dying.api, pytest.raises(ServerError) as caught:
        train(out, [*changes, *at(dying, tmp_path / "adapters")])
    assert "no reply after 3 tries" in str(caught.value)
    assert f"python run.py --resume --out {out}" in str(caught.value)
    assert len(RunDirectory(out).metrics()) == 1
    assert list((tmp_path / "adapters").iterdir()) == []
    server = VllmServer(tiny_folder)
    with server.api:
        run = train(out, [f'rollout.server="{server.api.url}"'], resume=True)
    assert_the_same(run, local)
    with pytest.raises(RunError, match="seed"):
        train(out, ["seed=9"], resume=True)
