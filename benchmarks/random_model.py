"""Checkpoints of real shapes with random weights: memory and speed are those of the real model, what it writes is not.

Random weights almost never end a reply, so every one runs to its limit: the worst case for memory and time.

    python benchmarks/random_model.py FOLDER --size 3b --tokenizer FOLDER_WITH_QWENS_TOKENIZER
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script from anywhere, without installation

from motif_lite.planning.shapes import KNOWN, TINY, ModelShape
from motif_lite.tasks import tiny_model

SHAPES: dict[str, ModelShape] = {"tiny": TINY} | {name.split("-")[1]: shape for name, shape in KNOWN.items()}
"""``tiny``, and Qwen2.5's sizes: ``0.5b``, ``1.5b``, ``3b``, ``7b``."""


def config_of(shape: ModelShape, **further: Any) -> Qwen2Config:
    """The configuration of a Qwen2 of this shape, with further fields."""
    return Qwen2Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.kv_dim * shape.num_heads // shape.attention_dim,
        tie_word_embeddings=shape.tied_embeddings,
        bos_token_id=None,
        **further,
    )


def write(folder: Path, shape: ModelShape, tokenizer: Path | None = None, *, seed: int = 0) -> Path:
    """Write a model of this shape, in 16 bits, with a tokenizer.

    Args:
        folder: Where to; it is made.
        shape: What to write.
        tokenizer: A folder with Qwen2.5's tokenizer; without it the tiny model's is used, which has a token per byte
            and leaves most of a large vocabulary to chance.
        seed: Of the weights.

    Returns:
        The folder.
    """
    config = config_of(
        shape,
        max_position_embeddings=32_768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        dtype="bfloat16",
    )
    if tokenizer is None:
        own = tiny_model.make_tokenizer(3)
        own.save_pretrained(folder)
        config.eos_token_id, config.pad_token_id = own.eos_token_id, own.pad_token_id
    else:
        folder.mkdir(parents=True, exist_ok=True)
        for path in tokenizer.glob("*.json"):
            shutil.copyfile(path, folder / path.name)
        config.eos_token_id, config.pad_token_id = 151_645, 151_643  # <|im_end|>, <|endoftext|>
    torch.manual_seed(seed)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def main() -> None:
    """Write one from the command line."""
    parser = argparse.ArgumentParser(description="Write a checkpoint of a real shape with random weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SHAPES, default="3b")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="a folder with Qwen2.5's tokenizer")
    options = parser.parse_args()
    write(options.folder, SHAPES[options.size], options.tokenizer)


if __name__ == "__main__":
    main()
