"""Generation with the vLLM engine that Unsloth can load next to the model (model.fast_inference).

vLLM is not a requirement. Nothing here has been run with it: this was written from Unsloth 2026.10.7's source, and
its tests check what can be checked without vLLM. The engine has a copy of the base weights only: the adapter as it
stands goes with every call, for without it the replies would be the base model's.
"""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from tempfile import mkdtemp
from typing import Any

from motif_lite.errors import MissingHardwareError
from motif_lite.nouns import Sampling
from motif_lite.policies.engine.sampler import Generated, Request
from motif_lite.recipe.schema import Recipe


def require() -> None:
    """Refuse where vLLM is missing; Unsloth itself would go on without it, and not say so.

    Raises:
        MissingHardwareError: vLLM is not installed.
    """
    if find_spec("vllm") is None:
        raise MissingHardwareError(
            "model.fast_inference = true, but vllm is not installed: pip install -r requirements-vllm.txt "
            "into an environment of its own, or set model.fast_inference to false"
        )


def trainer_options(recipe: Recipe) -> dict[str, Any]:
    """What GRPOConfig is told so that openings come from the same engine."""
    return {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": recipe.model.gpu_memory_utilization,
        "vllm_max_model_length": recipe.model.max_seq_length,
        "vllm_importance_sampling_correction": False,  # Unsloth's default; TRL's is the other
        "generation_kwargs": {"stop": recipe.rollout.openings.stop, "include_stop_str_in_output": True},
    }


def sampling_options(sampling: Sampling, seed: int, stop_ids: list[int]) -> dict[str, Any]:
    """The arguments of vLLM's SamplingParams for one prompt; 0 turns top_k off here and -1 there."""
    return {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "min_p": sampling.min_p,
        "stop": sampling.stop,
        "include_stop_str_in_output": True,
        "logprobs": 0,  # of the token that was drawn alone
        "seed": seed,
        "stop_token_ids": stop_ids,
    }


class VllmEngine:
    """The engine of an Unsloth model that was loaded with fast_inference.

    Args:
        model: The PEFT model; Unsloth has given it `fast_generate` and `load_lora`.
        stop_ids: Tokens that end a turn.
    """

    def __init__(self, model: Any, stop_ids: list[int]) -> None:
        self._model = model
        self._stop_ids = stop_ids
        self._lora_folder = mkdtemp(prefix="motif_lite_lora_")  # Unsloth writes the adapter's settings there

    def sequences(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Generated]]:
        """Write every request, in one call with the adapter as it stands; yields (index, what was written)."""
        from vllm import SamplingParams

        outputs = self._model.fast_generate(
            [{"prompt_token_ids": request.ids} for request in requests],
            sampling_params=[
                SamplingParams(**sampling_options(sampling, request.seed, self._stop_ids)) for request in requests
            ],
            use_tqdm=False,
            lora_request=self._model.load_lora(self._lora_folder, load_tensors=True),
        )
        for request, output in zip(requests, outputs, strict=True):
            [row] = output.outputs
            ids = list(row.token_ids)
            logprobs = [step[token].logprob for step, token in zip(row.logprobs, ids, strict=True)]
            yield request.index, Generated(ids, logprobs, row.finish_reason)
