"""Shapes against real models: every weight is counted."""

import json
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from motif_lite.errors import ModelError
from motif_lite.planning import shapes
from motif_lite.planning.shapes import KNOWN, TINY, ModelShape
from motif_lite.recipe.schema import LORA_TARGETS

CONFIG = {
    "model_type": "qwen2", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 270, "tie_word_embeddings": True,
}  # fmt: skip


def written(folder: Path, text: str) -> str:
    (folder / "config.json").write_text(text, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_shape_has_every_weight_of_the_real_architecture(name: str) -> None:
    import torch
    from transformers import Qwen2ForCausalLM

    from benchmarks.random_model import config_of

    shape = KNOWN[name]
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config_of(shape))
    assert shape.num_linear_weights + shape.num_other_weights == sum(weight.numel() for weight in model.parameters())


def test_a_folders_shape_counts_its_weights_and_those_of_its_adapter(qwen_folder: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    shape = shapes.of(str(qwen_folder))
    model = AutoModelForCausalLM.from_pretrained(qwen_folder)
    assert shape.num_linear_weights + shape.num_other_weights == model.num_parameters()
    targets = ["q_proj", "v_proj", "down_proj"]
    lora = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=targets))
    trained, _ = lora.get_nb_trainable_parameters()
    assert shape.num_lora_weights(8, targets) == trained


def test_the_tiny_models_shape_is_that_of_the_folder_that_is_built(tiny_folder: Path) -> None:
    assert shapes.of("tiny") == TINY
    assert shapes.of(str(tiny_folder)) == TINY


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen2.5-3B-Instruct", "unsloth/Qwen2.5-3B-Instruct-unsloth-bnb-4bit", "qwen2.5-3b-instruct"]
)
def test_known_models_need_no_download_whoever_republishes_them(name: str) -> None:
    assert shapes.of(name) == KNOWN["qwen2.5-3b-instruct"]


def test_what_a_config_leaves_out_has_the_architectures_default() -> None:
    llama = {key: value for key, value in CONFIG.items() if key not in ("num_key_value_heads", "tie_word_embeddings")}
    shape = ModelShape.from_config(llama | {"model_type": "llama"}, "config.json")
    assert (shape.kv_dim, shape.tied_embeddings, shape.attention_bias) == (32, False, False)
    assert ModelShape.from_config(CONFIG | {"head_dim": 16}, "config.json").attention_dim == 64


def test_an_adapter_on_all_projections_of_the_3b_model_has_120_million_weights() -> None:
    assert KNOWN["qwen2.5-3b-instruct"].num_lora_weights(64, list(LORA_TARGETS)) == 119_734_272


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "cannot be read"),
        ("[1]", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("{}", "hidden_size"),
        (json.dumps(CONFIG | {"num_hidden_layers": "2"}), "num_hidden_layers"),
        (json.dumps(CONFIG | {"vocab_size": -1}), "vocab_size"),
        (json.dumps(CONFIG | {"num_attention_heads": True}), "num_attention_heads"),
        (json.dumps(CONFIG | {"hidden_size": 10**400}), "hidden_size"),
        (json.dumps(CONFIG | {"num_local_experts": 8}), "experts"),
    ],
)
def test_a_config_that_is_not_a_models_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint) as caught:
        shapes.of(written(tmp_path, text))
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nothing", "~/no such model"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        shapes.of(name)


def test_a_folder_without_a_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json: cannot be read"):
        shapes.of(str(tmp_path))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server of files on this machine in the hub's place."""

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        where = f"http://127.0.0.1:{server.server_port}"
        template = where + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield tmp_path
        server.shutdown()


def test_an_unknown_models_config_is_fetched_from_the_hub_and_nothing_else_is(hub: Path) -> None:
    folder = hub / "somebody" / "a-model" / "resolve" / "main"
    folder.mkdir(parents=True)
    written(folder, json.dumps(CONFIG))
    assert shapes.of("somebody/a-model") == ModelShape.from_config(CONFIG, "")


@pytest.mark.usefixtures("hub")
def test_a_model_that_the_hub_has_not_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ModelError, match=r"404.*local folder"):
        shapes.of("nobody/has-this-model")


@pytest.mark.parametrize("name", ["not a name", "a/b/c", "x" * 5000, "\0", "..", "a\nb"])
def test_a_name_that_no_model_can_have_is_an_error_and_not_a_crash(name: str) -> None:
    with pytest.raises(ModelError):
        shapes.of(name)


def test_a_model_that_counts_padding_is_refused_before_anything_is_planned() -> None:
    """Its sizes have other names, which is not what is wrong with it."""
    with pytest.raises(
        shapes.UntrainableError, match=r"config\.json: a gpt2 model counts padding as positions .* take"
    ):
        ModelShape.from_config({"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2}, "config.json")
