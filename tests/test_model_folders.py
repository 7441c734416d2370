"""Folders that are no model for this program: each message names the remedy that helps."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from motif_lite.errors import ModelError
from motif_lite.planning import shapes
from motif_lite.planning.machine import lacks_memory
from motif_lite.policies.model_folder import explain_loading, require_numbers, require_trainable_kind
from motif_lite.policies.out_of_memory import is_out_of_memory
from motif_lite.recipe.schema import Recipe
from tests.chats import CHATML, CHATML_MARKS, TURNS, chat_tokenizer
from tests.fakes import write
from tests.random_models import write_random
from tests.test_policies import SAMPLED, load

NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


def folder_of(path: Path, **config: Any) -> str:
    (path / "config.json").write_text(json.dumps(config))
    return str(path)


@pytest.mark.parametrize(
    ("config", "load_in_4bit", "message"),
    [
        ({"model_type": "qwen2_5_vl", "vision_config": {}}, False, "of text and images or sound (qwen2_5_vl)"),
        ({"model_type": "smolvlm", "vision_config": {}}, False, "take a text-only model of the same family"),
        ({"model_type": "qwen2_audio", "audio_config": {}}, False, "take a text-only model"),
        ({"model_type": "t5", "is_encoder_decoder": True}, False, "a t5 has an encoder and a decoder"),
        ({"model_type": "clip"}, False, "is no causal language model"),
        ({"model_type": "qwen2", "quantization_config": NF4}, False, "quantised to 4 bits already; --set model.load_in_4bit=true"),  # noqa: E501
        ({"model_type": "qwen2", "quantization_config": {"quant_method": "gptq"}}, True, "quantised with gptq"),
        ({"model_type": "qwen2", "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, True, "quantised in 8 bits"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_told_by_its_configuration(
    tmp_path: Path, config: dict[str, Any], load_in_4bit: bool, message: str
) -> None:
    with pytest.raises(ModelError) as caught:
        require_trainable_kind(folder_of(tmp_path, **config), load_in_4bit=load_in_4bit)
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("config", "load_in_4bit"),
    [({"model_type": "qwen2"}, True), ({"model_type": "qwen2", "quantization_config": NF4}, True), ({"model_type": "gemma3"}, False)],  # noqa: E501
)  # fmt: skip
def test_what_can_be_trained_is_let_through(tmp_path: Path, config: dict[str, Any], load_in_4bit: bool) -> None:
    require_trainable_kind(folder_of(tmp_path, **config), load_in_4bit=load_in_4bit)


def test_the_shape_of_a_model_that_sees_is_that_of_its_language_model(tmp_path: Path) -> None:
    text = {
        "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 300,
    }  # fmt: skip
    assert shapes.of(folder_of(tmp_path, model_type="gemma3", text_config=text)).num_layers == 2


def test_a_lack_of_memory_is_no_fault_of_the_folder(tmp_path: Path) -> None:
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    assert lacks_memory(error)
    assert lacks_memory(ImportError("libtorch.so: failed to map segment from shared object"))
    assert not lacks_memory(RuntimeError("shapes do not match"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert not is_out_of_memory(RuntimeError("could not create a primitive descriptor for a matmul primitive"))
    assert not is_out_of_memory(RuntimeError("can't start new thread")), "less at a time does not help"
    assert "there is not enough memory to load it" in explain_loading(str(tmp_path), error)


# -------------------------------------------------------------------------------------------- where a reply ends


def test_a_turn_ends_where_the_template_ends_it(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    """The folder declares <|endoftext|> and the template writes <|im_end|>, as the first Qwen2.5 base models."""
    policy = load(write_random(tmp_path, "llama", eos="<|endoftext|>"), tiny_recipe("lora.rank=4"))
    end = policy.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert policy.stop_ids == [policy.tokenizer.eos_token_id, end]
    assert policy.model.generation_config.eos_token_id == policy.stop_ids, "what TRL masks replies by"
    letters = policy.encode("</answer>")
    read = policy.read_reply([*letters, end, *letters])
    assert (read.text, read.finish, read.num_tokens) == ("</answer>", "stop", len(letters) + 1)
    replies = write(policy, [policy.render([{"role": "user", "content": f"{n}?"}]) for n in range(40)], SAMPLED)
    ended = [reply.token_ids for reply in replies if reply.finish == "stop"]
    assert {ids[-1] for ids in ended} == {*policy.stop_ids}, "random weights write either, sooner or later"
    assert not any(token in policy.stop_ids for reply in replies for token in reply.token_ids[:-1])


def test_an_end_that_is_text_ends_a_reply_and_is_not_part_of_it(
    tmp_path: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    folder = write_random(tmp_path, "llama", eos="<|endoftext|>")
    chat_tokenizer(["<|endoftext|>"], CHATML, names={"eos_token": "<|endoftext|>"}).save_pretrained(folder)
    policy = load(folder, tiny_recipe("lora.rank=4"))
    assert policy.turn_ends.texts == ["<|im_end|>"]
    read = policy.read_reply(policy.encode("so it is<|im_end|>"))
    assert (read.text, read.finish) == ("so it is", "stop")


def test_think_marks_stay_readable_where_they_are_special_tokens(
    tmp_path: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    folder = write_random(tmp_path, "llama", vocab_size=280)
    marks = [*CHATML_MARKS, "<think>", "</think>"]
    chat_tokenizer(marks, CHATML, names={"eos_token": "<|im_end|>"}).save_pretrained(folder)
    policy = load(folder, tiny_recipe("lora.rank=4"))
    ids = [*policy.encode("<think>hm</think>yes"), policy.stop_ids[0]]
    assert policy.read_reply(ids).text == "<think>hm</think>yes"


def test_a_run_is_not_begun_with_a_template_that_never_asks(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(ModelError, match="ignores add_generation_prompt"):
        load(write_random(tmp_path, "llama", template=TURNS), tiny_recipe("lora.rank=4"))


def test_padding_that_the_model_does_not_know_is_replaced(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    folder = write_random(tmp_path, "llama")
    marks, names = [*CHATML_MARKS, "<|pad|>"], {"eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
    chat_tokenizer(marks, CHATML, names=names).save_pretrained(folder)
    policy = load(folder, tiny_recipe("lora.rank=4"))
    assert policy.tokenizer.pad_token_id == policy.stop_ids[0]


@pytest.mark.parametrize(
    ("declared", "known", "unknown"),
    [
        ([0, 60_000], [0], ["60000"]),
        (-1, [], ["-1"]),
        ("<|im_end|>", ["<|im_end|>"], []),
        (["<|im_end|>", "<|eot|>"], ["<|im_end|>"], ["'<|eot|>'"]),
        ([[2]], [], ["[2]"]),
    ],
    ids=str,
)
def test_an_end_that_is_declared_and_no_token_is_told_and_left_out(
    tmp_path: Path, tiny_recipe: Callable[..., Recipe], caplog: pytest.LogCaptureFixture,
    declared: Any, known: list[Any], unknown: list[str],
) -> None:  # fmt: skip
    path = write_random(tmp_path, "llama", num_hidden_layers=1) / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": declared}))
    policy = load(tmp_path, tiny_recipe("lora.rank=4"))
    to_id = policy.tokenizer.convert_tokens_to_ids
    end = to_id("<|im_end|>")
    assert policy.stop_ids == list(dict.fromkeys([*(to_id(t) if isinstance(t, str) else t for t in known), end]))
    assert all(isinstance(text, str) for text in policy.facts().ends)
    told = [each.getMessage() for each in caplog.records if "eos_token_id" in each.getMessage()]
    assert told == [
        f"{tmp_path}: generation_config.json: eos_token_id: {token} is no token of its tokenizer, and ends no reply"
        for token in unknown
    ]


# ------------------------------------------------------------------------------------------------------ the weights


def test_weights_that_are_no_numbers_are_refused_with_their_name(
    tmp_path: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    from safetensors.torch import load_file, save_file

    path = write_random(tmp_path, "llama", num_hidden_layers=1) / "model.safetensors"
    weights = load_file(path)
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"not finite numbers \(model\.layers\.0\.mlp\.up_proj\.weight\)"):
        load(tmp_path, tiny_recipe("lora.rank=4"))


def test_weights_whose_sum_alone_is_too_large_are_taken() -> None:
    import torch

    layer = torch.nn.Linear(4, 4, bias=False).to(torch.float16)
    torch.nn.init.constant_(layer.weight, 60_000)
    require_numbers("folder", layer)
    layer.weight.data[0, 0] = float("inf")
    with pytest.raises(ModelError, match=r"folder: holds weights that are not finite numbers \(weight\)"):
        require_numbers("folder", layer)


def test_a_pickle_of_weights_is_named_with_the_way_to_convert_it(
    tmp_path: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    folder = write_random(tmp_path, "llama", num_hidden_layers=1)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"are a pickle \(pytorch_model\.bin\).*to convert it to safetensors"):
        load(folder, tiny_recipe("lora.rank=4"))


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        ({}, "knows 64 positions"),
        ({"rope_type": "linear", "factor": 2.0}, "knows 128 positions"),
        ({"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32}, None),
    ],
)
def test_a_context_longer_than_the_models_is_told(
    tmp_path: Path, tiny_recipe: Callable[..., Recipe], caplog: pytest.LogCaptureFixture, scaling: Any, said: str | None
) -> None:
    rotary = {"rope_theta": 10000.0, "rope_type": "default"} | scaling
    write_random(tmp_path, "llama", num_hidden_layers=1, max_position_embeddings=64, rope_parameters=rotary)
    load(tmp_path, tiny_recipe("lora.rank=4", "model.max_seq_length=256"))
    told = [each.getMessage() for each in caplog.records if "positions" in each.getMessage()]
    assert len(told) == (said is not None)
    assert all(said in line and "model.max_seq_length is 256" in line for line in told if said)


def test_a_context_beyond_learned_positions_is_refused(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    write_random(tmp_path, "opt", num_hidden_layers=1, max_position_embeddings=200, ffn_dim=32, word_embed_proj_dim=32)
    with pytest.raises(ModelError, match=r"--set model\.max_seq_length=200"):
        load(tmp_path, tiny_recipe("lora.rank=4", "model.max_seq_length=201"))


# ---------------------------------------------------------------------------------------------- a real chat model


def test_a_real_model_whose_folder_declares_another_end_stops_at_its_own(
    smollm2: Path, tmp_path: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    for file in smollm2.iterdir():
        (shutil.copy if file.suffix != ".safetensors" else lambda a, b: (b / a.name).symlink_to(a))(file, tmp_path)
    for name, change in (
        ("tokenizer_config.json", {"eos_token": "<|endoftext|>"}), ("config.json", {"eos_token_id": 0}),
        ("generation_config.json", {"eos_token_id": 0}),
    ):  # fmt: skip
        path = tmp_path / name
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    policy = load(tmp_path, tiny_recipe("lora.rank=4", "model.max_seq_length=512"))
    prompt = policy.render([{"role": "user", "content": "Say hello in one word."}])
    [reply] = write(policy, [prompt], SAMPLED.model_copy(update={"temperature": 0.0, "max_tokens": 48}))
    assert reply.finish == "stop"
    assert reply.token_ids[-1] == policy.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert "<|im_start|>" not in reply.text
