"""The version that requirements.txt pins: its own trainer and model did the work, and it knows what we say to it."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from motif_lite.jobs import checking, train_job
from motif_lite.runs.directory import RunDirectory
from tests.fakes import RecordingObserver
from tests.unsloth.conftest import ROOT, Finished, recorder


def test_this_is_the_version_that_the_requirements_pin() -> None:
    import unsloth
    import unsloth_zoo

    pins = dict(re.findall(r"^(\w+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert unsloth.__version__ == pins["unsloth"]
    assert unsloth_zoo.__version__ == pins["unsloth_zoo"]


def test_the_trainer_the_model_and_the_loss_were_unsloths(finished: Finished) -> None:
    assert "UnslothGRPOTrainer" in [kind.__name__ for kind in type(finished.trainer).mro()]
    assert type(finished.trainer.args).__name__ == "UnslothGRPOConfig" or hasattr(
        finished.trainer.args, "unsloth_logit_chunk_multiplier"
    )
    for name in ("fast_rms_layernorm", "fast_rope_embedding", "grpo_accumulated_loss"):
        assert finished.count(name), name


@pytest.mark.parametrize("name", ["from_pretrained", "get_peft_model", "for_inference", "for_training"])
def test_every_keyword_that_we_pass_is_a_parameter_with_that_name(finished: Finished, name: str) -> None:
    """Not one that ends in a **kwargs: Unsloth drops what it does not know."""
    from unsloth import FastLanguageModel

    parameters = inspect.signature(getattr(FastLanguageModel, name)).parameters
    named = {key for key, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}
    for _, keywords in recorder.arguments[name]:
        assert keywords.keys() <= named


def test_logits_in_chunks_are_computed_anew_for_the_backward_pass_and_give_the_same_step(
    finished: Finished, changes: list[str], tmp_path: Path
) -> None:
    from unsloth_zoo import rl_replacements

    recorder.watch(rl_replacements, "chunked_hidden_states_selective_log_softmax_recompute")
    few = [*changes, "training.logit_chunks=2", "evaluation.before=false", "evaluation.after=false"]
    train_job.job(ROOT / "recipes" / "tiny_cpu.toml", few, tmp_path / "run").perform(RecordingObserver())
    assert recorder.arguments["chunked_hidden_states_selective_log_softmax_recompute"]
    [whole], [chunked] = finished.run.metrics(), RunDirectory(tmp_path / "run").metrics()
    for name in ("loss", "grad_norm", "reward"):
        assert getattr(chunked, name) == pytest.approx(getattr(whole, name), rel=1e-4)
    assert (chunked.grad_norm or 0.0) > 0


def test_every_trainer_option_is_a_parameter_with_that_name(tmp_path: Path) -> None:
    import trl

    from motif_lite.policies import unsloth_policy, vllm_engine
    from motif_lite.training.options import grpo_config, grpo_options

    recipe = checking.check(
        ROOT / "recipes" / "motif_gsm8k.toml", ["training.logit_chunks=3", "training.micro_batch_size=4"]
    )
    policy: Any = SimpleNamespace(device_type="cpu", trainer_options={})
    options = grpo_options(recipe, policy, tmp_path)
    own = unsloth_policy._trainer_options(recipe)
    assert own["unsloth_logit_chunk_multiplier"] == 3
    options |= own | vllm_engine.trainer_options(recipe)
    assert options.keys() <= inspect.signature(trl.GRPOConfig).parameters.keys()
    policy.trainer_options = own
    assert grpo_config(recipe, policy, tmp_path).unsloth_logit_chunk_multiplier == 3
