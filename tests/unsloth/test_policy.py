"""Our Unsloth backend with the real package: what the transformers backend promises, it keeps."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from motif_lite.errors import MissingHardwareError, ModelError
from motif_lite.jobs import dry_run_job
from motif_lite.nouns import Sampling, TokenProgress
from motif_lite.policies import backends
from motif_lite.policies.engine.sampler import Generated, Request
from motif_lite.policies.local import LocalPolicy
from motif_lite.recipe.schema import Recipe
from motif_lite.views.dry_run import Screen
from tests.conftest import copy_without
from tests.fakes import RecordingObserver, write
from tests.random_models import write_random
from tests.unsloth.conftest import PINNED, ROOT, WORKING_FOLDER, Finished, recorder

MakeRecipe = Callable[..., Recipe]
GREEDY = Sampling(max_tokens=4, temperature=0.0)
SAMPLED = Sampling(max_tokens=4, temperature=0.9, top_p=0.9)


def load(recipe: Recipe, folder: Path | None = None) -> LocalPolicy:
    policy = backends.backend("unsloth").load(recipe, str(folder or recipe.model.name))
    assert isinstance(policy, LocalPolicy)
    return policy


@pytest.fixture(scope="module")
def loaded(make_recipe: MakeRecipe) -> LocalPolicy:
    policy = load(make_recipe())
    disturb_adapter(policy)
    return policy


@pytest.fixture
def policy(loaded: LocalPolicy) -> Iterator[LocalPolicy]:
    """As TRL leaves the model while it calls the rewards: in Unsloth's training mode."""
    import unsloth

    weights = {name: weight.detach().clone() for name, weight in loaded.model.named_parameters() if "lora" in name}
    unsloth.FastLanguageModel.for_training(loaded.model)
    yield loaded
    for name, weight in loaded.model.named_parameters():
        if name in weights:
            weight.data.copy_(weights[name])


def disturb_adapter(policy: LocalPolicy, seed: int = 1, scale: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data.copy_(scale * torch.randn(weight.shape, generator=generator))


def prompts(policy: LocalPolicy) -> list[str]:
    return [policy.render([{"role": "user", "content": text}]) for text in ("a0b4=", "a7=", "a1b2c3d4=")]


def adapter(model: Any) -> dict[str, torch.Tensor]:
    return {name.replace(".default", ""): weight for name, weight in model.named_parameters() if "lora" in name}


def test_a_whole_run_goes_through_unsloth(finished: Finished) -> None:
    for name in ("from_pretrained", "get_peft_model", "for_inference", "for_training", "train"):
        assert finished.count(name), name
    assert finished.count("_generate_and_score_completions") >= 1
    assert finished.count("compute_loss") == 2, "two openings, one at a time"
    assert finished.count("save_pretrained") >= 2, "the checkpoint and the adapter"
    [line] = finished.run.metrics()
    assert line.sampling_mismatch is not None, "the engine drew, and Unsloth's trainer read it once more"
    assert line.sampling_mismatch < 1e-3
    assert line.tokens["openings"] > 0 < line.tokens["futures"]
    assert (line.grad_norm or 0.0) > 0
    assert {each.when for each in finished.run.evaluation().measurements} == {"before", "after"}
    assert (finished.run.root / "report.html").exists()


def test_the_log_of_a_run_names_the_versions_and_the_trainer(finished: Finished) -> None:
    import unsloth

    log = (finished.run.root / "run.log").read_text()
    assert f"training with {type(finished.trainer).__base__}; unsloth {unsloth.__version__}" in log


def test_a_step_moves_the_adapter_and_what_is_saved_loads_again(finished: Finished, make_recipe: MakeRecipe) -> None:
    from safetensors.torch import load_file

    saved = load_file(finished.run.adapter / "adapter_model.safetensors")
    assert any(weight.any() for name, weight in saved.items() if "lora_B" in name), "B is zero at first"
    assert saved.keys() == adapter(finished.trainer.model).keys()
    fresh = load(make_recipe())
    assert not any(weight.any() for name, weight in adapter(fresh.model).items() if "lora_B" in name)
    fresh.load_adapter(finished.run.adapter)
    for name, weight in adapter(fresh.model).items():
        assert torch.equal(weight, saved[name])
        assert torch.equal(weight, adapter(finished.trainer.model)[name])


def test_a_left_padded_batch_writes_what_each_prompt_alone_writes(policy: LocalPolicy) -> None:
    texts = prompts(policy)
    assert len({policy.count_tokens(text) for text in texts}) == 3
    together = write(policy, texts, GREEDY)
    assert [write(policy, [text], GREEDY)[0] for text in texts] == together


def test_sampled_replies_hang_on_their_seeds_and_not_on_the_width(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(width: int, seed: int) -> list[tuple[int, ...]]:
        monkeypatch.setattr(policy, "max_width", width)
        return [reply.token_ids for reply in write(policy, prompts(policy), SAMPLED, seed=seed)]

    together = written(3, seed=0)
    assert written(2, seed=0) == together != written(3, seed=1)


def test_the_padding_side_that_unsloth_flips_does_not_matter_and_is_put_back(policy: LocalPolicy) -> None:
    replies = []
    for side in ("left", "right"):
        policy.tokenizer.padding_side = side
        replies.append(write(policy, prompts(policy), GREEDY))
        assert policy.tokenizer.padding_side == side
    assert replies[0] == replies[1]


def test_generation_in_mid_training_comes_from_the_adapter_as_it_stands(policy: LocalPolicy) -> None:
    before = write(policy, prompts(policy), GREEDY)
    assert write(policy, prompts(policy), GREEDY) == before
    disturb_adapter(policy, seed=2, scale=0.5)
    assert write(policy, prompts(policy), GREEDY) != before


STOCK = """
import json, sys
from pathlib import Path
from motif_lite.jobs import checking
from motif_lite.nouns import Sampling, TokenProgress
from motif_lite.policies import backends
root, folder, adapter, changes, prompts = json.loads(sys.argv[1])
assert "unsloth" not in sys.modules
recipe = checking.check(Path(root) / "recipes" / "tiny_cpu.toml", changes)
policy = backends.backend("transformers").load(recipe, folder)
policy.load_adapter(Path(adapter))
replies = policy.generate(prompts, Sampling(max_tokens=4, temperature=0.0), seeds=range(len(prompts)))
print(json.dumps([[reply.text, reply.logprobs] for reply in replies]))
"""


def test_it_writes_what_transformers_writes_with_the_same_weights(
    policy: LocalPolicy, random_folder: Path, tmp_path: Path
) -> None:
    policy.save_adapter(tmp_path)
    texts = prompts(policy)
    changes = ["lora.rank=4", 'model.dtype="float32"']
    arguments = json.dumps([str(ROOT), str(random_folder), str(tmp_path), changes, texts])
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("UNSLOTH", "TRITON"))}
    done = subprocess.run(
        [sys.executable, "-c", STOCK, arguments],
        env=environment | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    stock = json.loads(done.stdout.splitlines()[-1])
    for reply, (text, logprobs) in zip(write(policy, texts, GREEDY), stock, strict=True):
        assert reply.text == text
        assert reply.logprobs == pytest.approx(logprobs, abs=1e-3)


def flags(model: Any) -> list[tuple[object, ...]]:
    names = ("training", "gradient_checkpointing", "_flag_for_generation")
    of_modules = [tuple(vars(module).get(name) for name in names) for module in model.modules()]
    return [*of_modules, (model.config.use_cache,)]


def test_modes_are_as_they_were_after_generating(policy: LocalPolicy) -> None:
    policy.model.get_base_model().model.layers[0].mlp.eval()  # one that is not like the others
    before = flags(policy.model)
    write(policy, prompts(policy)[:1], GREEDY)
    assert flags(policy.model) == before


def test_modes_are_as_they_were_after_an_exception(policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unsloth's own switch back to training is not in a `finally`."""
    monkeypatch.setenv("UNSLOTH_RETURN_HIDDEN_STATES", "1")  # as its loss leaves it
    policy.tokenizer.padding_side = "right"
    policy.model.get_base_model().model.layers[0].mlp.eval()
    before = flags(policy.model)
    inside: list[object] = []

    def fail(progress: TokenProgress) -> None:
        inside.extend([policy.model.training, os.environ["UNSLOTH_RETURN_HIDDEN_STATES"]])
        raise RuntimeError("in mid-generation")

    with pytest.raises(RuntimeError, match="in mid-generation"):
        write(policy, prompts(policy)[:1], GREEDY, on_progress=fail)
    assert inside == [False, "0"]
    assert flags(policy.model) == before
    assert os.environ["UNSLOTH_RETURN_HIDDEN_STATES"] == "1"
    assert policy.tokenizer.padding_side == "right"


AWKWARD = (
    "seed=11", "rollout.openings={max_tokens=17, temperature=0.7, top_p=0.9, top_k=5}",
    "rewards={strict_format=0.25, future_accuracy=3.0}", "rollout.num_openings=6", "training.problems_per_step=2",
    "training.micro_batch_size=4", "training.learning_rate=2e-4", 'training.lr_schedule="linear"',
    "training.warmup_fraction=0.2", 'training.optimizer="adamw_torch_fused"', "training.adam_beta1=0.8",
    "training.adam_beta2=0.95", "training.weight_decay=0.03", "training.max_grad_norm=0.4", "training.beta=0.01",
    "training.epsilon=0.3", "training.save_every=7", "training.keep_checkpoints=3", "training.max_steps=9",
)  # fmt: skip


@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
@pytest.mark.parametrize("loss_type", ["bnpo", "dr_grpo", "dapo", "grpo"])
def test_every_field_of_the_trainer_keeps_our_value(
    make_recipe: MakeRecipe, loaded: LocalPolicy, tmp_path: Path, loss_type: str, scale_rewards: str
) -> None:
    from motif_lite.policies import unsloth_policy
    from motif_lite.training import options

    recipe = make_recipe(*AWKWARD, f'training.loss_type="{loss_type}"', f'training.scale_rewards="{scale_rewards}"')
    loaded.trainer_options = unsloth_policy._trainer_options(recipe)
    wanted = options.grpo_options(recipe, loaded, tmp_path)
    config = options.grpo_config(recipe, loaded, tmp_path)
    assert changed(config, wanted) == ({"gradient_checkpointing_kwargs": {"use_reentrant": True}} if PINNED else {})


def test_every_field_keeps_our_value_in_the_trainer_that_was_built(
    finished: Finished, make_recipe: MakeRecipe, loaded: LocalPolicy
) -> None:
    from motif_lite.training import options

    wanted = options.grpo_options(make_recipe(), loaded, finished.run.unfinished)
    known: dict[str, Any] = {"gradient_checkpointing_kwargs": {"use_reentrant": True}}
    # The CPU backend knows one AdamW only.
    assert changed(finished.trainer.args, wanted) == (known if PINNED else {"optim": "adamw_torch_fused"})
    assert finished.trainer.args.generation_batch_size == 2
    assert finished.trainer.num_generations == 2


def changed(config: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """The fields that are not as they were asked for."""
    found = {name: getattr(config, name) for name in wanted if name != "report_to"}
    plain = {name: getattr(value, "value", value) for name, value in found.items()}  # an enumeration's value
    return {name: value for name, value in plain.items() if value != wanted[name]}


def test_replies_of_an_engine_are_read_as_all_others(policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of vLLM, which needs a GPU: rows of tokens, one that ends and one that is cut off."""
    letters, end = policy.tokenizer("a0", add_special_tokens=False)["input_ids"], policy.stop_ids[0]

    class Engine:
        def sequences(self, requests: list[Request], sampling: Sampling) -> Iterator[tuple[int, Generated]]:
            assert [request.ids for request in requests] == [policy.encode(text) for text in texts]
            yield 1, Generated(letters, [-1.0, -2.0], "length")
            yield 0, Generated([*letters, end], [-1.0, -2.0, -3.0], "stop")

    texts = prompts(policy)[:2]
    monkeypatch.setattr(policy, "vllm", Engine(), raising=False)
    replies = write(policy, texts, GREEDY)
    assert [(reply.text, reply.num_tokens, reply.finish) for reply in replies] == [
        ("a0", 3, "stop"),
        ("a0", 2, "length"),
    ]


def test_fast_inference_without_vllm_is_refused_before_anything_is_loaded(make_recipe: MakeRecipe) -> None:
    loads = len(recorder.arguments["from_pretrained"])
    with pytest.raises(MissingHardwareError, match=r"requirements-vllm\.txt .*or set model\.fast_inference to false"):
        load(make_recipe("model.fast_inference=true"))
    assert len(recorder.arguments["from_pretrained"]) == loads


def test_the_cpu_is_no_device_of_this_backend(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSLOTH_FORCE_CPU", raising=False)
    with pytest.raises(MissingHardwareError, match=r"set model\.device to 'auto'"):
        load(make_recipe('model.device="cpu"'))


def test_targets_that_do_not_fit_are_refused(make_recipe: MakeRecipe) -> None:
    with pytest.raises(ModelError, match=r"lora\.targets do not fit"):
        load(make_recipe('lora.targets=["no_such_proj"]'))


def test_a_model_that_lacks_some_weights_is_refused(
    make_recipe: MakeRecipe, random_folder: Path, tmp_path: Path
) -> None:
    folder = copy_without(random_folder, tmp_path / "model", "mlp.up_proj")
    with pytest.raises(ModelError, match="weights are missing"):
        load(make_recipe(), folder)


def test_folders_that_are_no_models_are_refused_with_the_remedy(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        load(make_recipe(), tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        load(make_recipe(), tmp_path / "nowhere")


def test_nothing_is_written_into_the_working_folder(finished: Finished) -> None:
    """Unsloth would put its compiled trainers there. The last test of all, after everything else has run."""
    assert list(WORKING_FOLDER.iterdir()) == []
    cache = Path(os.environ["MOTIF_LITE_CACHE"])
    compiled = Path(os.environ["UNSLOTH_COMPILE_LOCATION"])
    assert compiled.parent == cache
    assert f"-{torch.__version__}" in compiled.name
    if PINNED:
        assert (compiled / "UnslothGRPOTrainer.py").exists()


def test_a_dry_run_tries_a_step_through_unsloth_and_keeps_nothing(changes: list[str]) -> None:
    console = Console(file=io.StringIO(), width=100)
    before = recorder.calls.copy()
    dry_run_job.job(ROOT / "recipes" / "tiny_cpu.toml", changes, None).perform(RecordingObserver(), Screen(console))
    assert isinstance(console.file, io.StringIO)
    screen = console.file.getvalue()
    assert "backend unsloth" in screen
    assert "7 of 7 linear layers" in screen
    assert "prompt of round 2" in screen
    assert "this recipe would train" in screen
    called = recorder.calls - before
    assert sum(number for label, number in called.items() if label.endswith(": train")) == 1
    assert not any(label.endswith(": save_pretrained") for label in called)
    assert list(WORKING_FOLDER.iterdir()) == []


def test_absolute_positions_are_refused_where_trl_pads_on_the_left(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Unsloth's own trainer moves the padding behind the row; with its CPU backend the trainer is TRL's."""
    if PINNED:
        import inspect
        import sys

        trainer = sys.modules["UnslothGRPOTrainer"]
        assert trainer.left_pack_padding(torch.tensor([[0, 0, 5, 6], [0, 7, 8, 9]]), 0).tolist() == [
            [5, 6, 0, 0], [7, 8, 9, 0],
        ]  # fmt: skip
        assert "left_pack_padding(input_ids" in inspect.getsource(trainer.grpo_accumulated_loss)
        return
    folder = write_random(tmp_path, "gpt2", n_embd=16, n_layer=2, n_head=2, n_positions=64)
    with pytest.raises(ModelError, match="a gpt2 model counts padding as positions"):
        load(make_recipe(), folder)
