"""Random models of any kind, a few thousand weights each, with a ChatML tokenizer of a token per byte."""

from pathlib import Path
from typing import Any

from tests.chats import CHATML, CHATML_MARKS, chat_tokenizer

SIZES: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 512, "initializer_range": 0.3,
}  # fmt: skip


def write_random(
    folder: Path, kind: str, *, template: str = CHATML, eos: str | None = "<|im_end|>", **config: Any
) -> Path:
    """A folder with random weights of an architecture.

    Args:
        kind: As `model_type` in a config.json.
        eos: The token that the folder declares as the end of a turn.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    names = {"eos_token": eos} if eos else {}
    tokenizer = chat_tokenizer(CHATML_MARKS, template, names=names)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>")}
    settings = SIZES | {"vocab_size": len(tokenizer)} | ends | config
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
