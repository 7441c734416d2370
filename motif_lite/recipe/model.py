"""The recipe's section `[model]`."""

from typing import Annotated, Literal

from pydantic import Field

from motif_lite.recipe.section import Auto, Finite, Section, one_of
from motif_lite.recipe.values import BodyKey, Day, Device, ServerUrl, TemplateVariable


class ModelSection(Section):
    """Which model, and how it is loaded."""

    name: Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f]*$")]
    """A model's name on the hub, a local folder, or `tiny`, the small model that is built on first use."""
    backend: Annotated[str, one_of("backend")]
    """`unsloth` (NVIDIA GPU), `transformers` (CPU or GPU), or `server`: a model that is served elsewhere, which can \
be evaluated and asked, not trained (see served-models.md)."""
    url: ServerUrl | None = None
    """Backend `server` only: the address of an OpenAI-compatible API, e.g. `http://localhost:8000/v1`. A key for it \
is taken from the environment variable `MOTIF_LITE_API_KEY`."""
    requests: Annotated[int, Field(ge=1, le=1024)] = 16
    """Backend `server`, or with `rollout.server`: maximum number of requests at once."""
    request_seconds: Annotated[float, Field(ge=1, le=86_400), Finite] = 600
    """Backend `server`, or with `rollout.server`: seconds after which a request without a reply counts as failed and \
is sent again."""
    extra_body: dict[BodyKey, bool | int | float | str] = {}
    """Backend `server`: further keys of each request, for a server that needs them, e.g. `top_k = 0`."""
    load_in_4bit: bool = False
    """Quantise the base weights to 4-bit NF4 with bitsandbytes (QLoRA)."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of weights and arithmetic; `auto` is bfloat16 on a GPU that supports it, float16 on other GPUs, float32 \
on a CPU."""
    device: Device = "auto"
    """Where the model runs: `auto`, `cpu`, `cuda`, or `cuda:1` for the second GPU. `auto` is a GPU if there is one. A \
run uses one GPU, of several the best; `--processes` shares it among several."""
    chat_template_kwargs: dict[TemplateVariable, bool | int | float | str] = {}
    """Variables for the model's chat template, e.g. `enable_thinking = false` for Qwen3. A name that the template \
does not use is refused."""
    template_date: Day = "auto"
    """The date in prompts, for chat templates that write one (Llama 3): `auto` is the day on which the run starts. A \
resumed run keeps it; to repeat a run on another day, copy it from `resolved.json`."""
    max_seq_length: Annotated[int, Field(ge=16, le=2**24)] = 4096
    """Context in tokens: prompt and reply together. Progress that does not fit is truncated from the left."""
    memory_gib: Auto | Annotated[float, Field(gt=0, le=100_000), Finite] = "auto"
    """Memory in GiB: what the plan assumes and, on a GPU, the limit. `auto` is all of the GPU's memory, or without a \
GPU the machine's. A smaller value lets a large card stand in for a small one, or leaves room for a desktop."""
    fast_inference: bool = False
    """Generate with vLLM inside Unsloth (`requirements-vllm.txt`); backend `unsloth` only."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, lt=1), Finite] = 0.5
    """Share of GPU memory for vLLM's weights and KV cache; only with fast_inference."""
