"""Grouped queries in Unsloth's token steps, in a form that PyTorch has a fast kernel for.

Unsloth asks `scaled_dot_product_attention` for grouped queries with a mask. On every card but Hopper ones PyTorch then
writes keys and values out in 32 bits, repeated for each query head: 54 times the traffic that is needed for
Qwen2.5-3B. The query heads of one key head, handed over as so many queries of one head, need no repetition, and the
memory-efficient kernel takes them with their mask.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from motif_lite.nouns import Reply, Sampling
from motif_lite.planning.limits import GROUPED_IN_UNSLOTH
from motif_lite.policies.local import LocalPolicy

_log = logging.getLogger(__name__)

Attention = Callable[..., torch.Tensor]

_MODULE = "unsloth.models.llama"
"""Whose token steps those of Llama, Qwen2 and Mistral models are."""

_TEXTS = ("1 + 2 = ?", "1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 = ?")
"""Prompts of unlike lengths; alone, a prompt goes through other code of Unsloth's, which needs no such attention."""

_WRITTEN = Sampling(max_tokens=3, temperature=0.0)

_BOUND_IN_16_BITS, _BOUND_IN_32_BITS = 0.25, 1e-3
"""Most that a log-probability may differ; where heads are mixed up it differs by more than 1."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """``scaled_dot_product_attention`` for token steps, where nothing else changes.

    Takes query (rows, query heads, 1, size), key and value (rows, key heads, columns, size), with a mask
    (rows, 1, 1, columns) of truth values or none. Calls of another form go to `own` as they are.
    """

    own: Attention

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        is_causal: bool = False,
        enable_gqa: bool = False,
        **further: Any,
    ) -> torch.Tensor:
        """Attend."""
        (rows, heads, length, size), key_heads = query.shape, key.shape[1]
        if not enable_gqa or is_causal or length != 1 or heads == key_heads:
            return self.own(
                query, key, value, attn_mask=attn_mask, is_causal=is_causal, enable_gqa=enable_gqa, **further
            )
        group = heads // key_heads
        mask = None if attn_mask is None else attn_mask.expand(rows, 1, group, key.shape[-2])
        found = self.own(query.reshape(rows, key_heads, group, size), key, value, attn_mask=mask, **further)
        return found.reshape(rows, heads, 1, value.shape[-1])


def use(policy: LocalPolicy, unsloth_version: str) -> None:
    """Have Unsloth's token steps attend so, if padded prompts then get the replies that each gets alone.

    Otherwise Unsloth's own way stays, and a warning says why: it is slow, not wrong.
    """
    if unsloth_version not in GROUPED_IN_UNSLOTH:
        _warn(f"unsloth {unsloth_version} is not a version that grouped attention was tested with")
        return
    module: Any = import_module(_MODULE)
    in_place = module.scaled_dot_product_attention
    own = getattr(in_place, "own", in_place)  # another policy of this process may have changed it
    module.scaled_dot_product_attention = Grouped(own)
    if fault := _fault(policy):
        module.scaled_dot_product_attention = own
        _warn(fault)


def _warn(reason: str) -> None:
    _log.warning(
        "%s; Unsloth's own attention writes replies, which takes several times as long for padded batches as --plan "
        "says, on all but Hopper GPUs",
        reason,
    )


def _fault(policy: LocalPolicy) -> str | None:
    """What is wrong with replies to padded prompts; None where nothing is."""
    prompts = [policy.render([{"role": "user", "content": text}]) for text in _TEXTS]
    try:
        alone = [policy.generate([prompt], _WRITTEN, seeds=[0])[0] for prompt in prompts]
        together = policy.generate(prompts, _WRITTEN, seeds=[0] * len(prompts))
    except Exception as error:  # whatever a kernel raises: there is another way
        return f"grouped attention failed ({type(error).__name__}: {str(error).partition(chr(10))[0][:200]})"
    difference = largest_difference(alone, together)
    bound = _BOUND_IN_32_BITS if policy.model.dtype == torch.float32 else _BOUND_IN_16_BITS
    if difference <= bound:  # not so for NaN
        return None
    return f"with grouped attention log-probabilities of a padded prompt differ by {difference:.2g} from its own alone"


def largest_difference(some: Sequence[Reply], others: Sequence[Reply]) -> float:
    """Of log-probabilities, up to the first token that differs: rounding may decide between two likely ones."""
    found = [0.0]
    for one, other in zip(some, others, strict=True):
        for token, its, another, others_logprob in zip(
            one.token_ids, one.logprobs, other.token_ids, other.logprobs, strict=False
        ):
            found.append(abs(its - others_logprob))
            if token != another:
                break
    return max(found, key=lambda each: float("inf") if each != each else each)
