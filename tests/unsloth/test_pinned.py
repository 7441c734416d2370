"""The version that requirements.txt pins: its own trainer and model did the work, and it knows what we say to it."""

import inspect
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from motif_lite.jobs import checking as recipes
from motif_lite.jobs import train_job
from motif_lite.policies.engine import checking
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.directory import RunDirectory
from tests.fakes import RecordingObserver, write
from tests.unsloth.conftest import ROOT, Finished, recorder
from tests.unsloth.test_policy import GREEDY, disturb_adapter, load, prompts


def test_this_is_the_version_that_the_requirements_pin() -> None:
    import unsloth
    import unsloth_zoo

    pins = dict(re.findall(r"^(\w+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert unsloth.__version__ == pins["unsloth"]
    assert unsloth_zoo.__version__ == pins["unsloth_zoo"]


def test_nothing_is_compiled_before_the_first_update_unless_the_user_asks(tmp_path: Path) -> None:
    from unsloth.utils import prefix_grouper
    from unsloth_zoo.temporary_patches import common

    assert (common.UNSLOTH_COMPILE_DISABLE, prefix_grouper.prefix_grouper_enabled()) == (True, False)
    asked = {"UNSLOTH_COMPILE_DISABLE": "0", "UNSLOTH_GRPO_PREFIX_GROUPER": "1"}
    code = "import os; from motif_lite.policies import unsloth_policy; print(*(os.environ[name] for name in %r))"
    done = subprocess.run(
        [sys.executable, "-c", code % list(asked)], cwd=ROOT, env=os.environ | asked, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] == ["0 1"], done.stderr


def test_the_trainer_the_model_and_the_loss_were_unsloths(finished: Finished) -> None:
    assert "UnslothGRPOTrainer" in [kind.__name__ for kind in type(finished.trainer).mro()]
    assert type(finished.trainer.args).__name__ == "UnslothGRPOConfig" or hasattr(
        finished.trainer.args, "unsloth_logit_chunk_multiplier"
    )
    assert finished.trainer._policy.engine.decodes, "the engine wrote all replies, by Unsloth's weights"
    assert not finished.count("unsloth_fast_generate")
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

    recipe = recipes.check(
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


def test_where_the_decoder_is_not_the_models_unsloth_writes_the_same_with_one_warning(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    policy = load(make_recipe())
    disturb_adapter(policy)
    expected = write(policy, prompts(policy), GREEDY)
    assert policy.engine is not None
    monkeypatch.setattr(checking, "_share", lambda *_: 1.0)
    with caplog.at_level(logging.WARNING):
        found = [write(policy, prompts(policy), GREEDY) for _ in range(2)]
    assert [[reply.token_ids for reply in each] for each in found] == 2 * [[reply.token_ids for reply in expected]]
    assert policy.engine is None
    said = [
        record.getMessage() for record in caplog.records if "replies are generated by Unsloth" in record.getMessage()
    ]
    assert len(said) == 1
    assert "attention of layer 0" in said[0]
    assert policy.writes_openings
    rows = policy.write_rows([policy.encode(prompts(policy)[0])], GREEDY, seeds=[1])
    assert [reply.token_ids for reply in rows] == [found[0][0].token_ids], (
        "openings still come from us, so a resumed run finds its random numbers"
    )
