"""Tokenizers with chat templates, a token per byte: what meets a template needs no model."""

from collections.abc import Mapping

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

CHATML_MARKS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
TURNS = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
"""ChatML as far as the messages go."""
ASKS = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
CHATML = TURNS + ASKS


def chat_tokenizer(
    marks: list[str], template: str, *, special: bool = True, names: Mapping[str, str] | None = None
) -> PreTrainedTokenizerFast:
    """A token per byte, and marks that are declared as special tokens or not.

    Args:
        names: Of special tokens, e.g. ``{"eos_token": "<|im_end|>"}``.
    """
    core = Tokenizer(
        BPE(vocab={byte: n for n, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_tokens([AddedToken(mark, normalized=False, special=special) for mark in marks])
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=template, **(names or {}))
