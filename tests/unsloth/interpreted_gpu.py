"""Unsloth as pinned for GPUs, on a machine without one: Triton's interpreter for its kernels, the CPU for its device.

What runs is Unsloth: its loader, its Qwen2 with its kernels, its generation, its rewritten GRPOTrainer. What is
pretended is the hardware alone, in this file: questions about the GPU get an answer, and a tensor that is asked for
on "cuda" is made on the CPU. Speed, memory, bitsandbytes' CUDA kernels and half precision are not covered.
"""

import os
import sys
from types import SimpleNamespace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from motif_lite.policies import backends

_PROPERTIES = SimpleNamespace(
    name="none, interpreted on a CPU", total_memory=8 << 30, major=8, minor=0, multi_processor_count=1
)


class _CudaIsTheCpu(TorchFunctionMode):
    """Every device that is a GPU, by number or by name, is the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.device and args and type(args[0]) is int:
            return torch.device("cpu", args[0])  # with an index: Unsloth keeps a cache per device
        if _is_gpu(kwargs.get("device")):
            kwargs["device"] = "cpu"
        if func is torch.Tensor.to and len(args) > 1 and _is_gpu(args[1]):
            args = (args[0], "cpu", *args[2:])
        return func(*args, **kwargs)


def _is_gpu(device: object) -> bool:
    return type(device) is int or (isinstance(device, str | torch.device) and str(device).startswith("cuda"))


def start() -> None:
    """Import our backend, and with it Unsloth, as on a GPU; before anything else imports transformers or trl."""
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # compiling takes longer than what is compiled, and falls back in the end
    os.environ["TRITON_INTERPRET"] = "1"
    os.environ["UNSLOTH_GRPO_PREFIX_GROUPER"] = "0"  # FlexAttention, which it takes, has no backward pass on a CPU
    cuda: Any = torch.cuda
    cuda.get_device_properties = lambda *_: _PROPERTIES
    cuda.get_device_capability = lambda *_: (_PROPERTIES.major, _PROPERTIES.minor)
    cuda.current_device = lambda: 0
    cuda.is_current_stream_capturing = lambda: False

    backends.backend("unsloth")
    import unsloth
    from unsloth.models import rl

    for name, module in list(sys.modules.items()):
        if name.startswith("unsloth") and getattr(module, "DEVICE_COUNT", None) == 0:
            module.DEVICE_COUNT = 1  # type: ignore[attr-defined]
    # With ALLOW_CPU set Unsloth leaves TRL as it is; on a GPU this call is part of its import.
    del os.environ["UNSLOTH_ALLOW_CPU"]
    rl.PatchFastRL(FastLanguageModel=unsloth.FastLanguageModel)
    os.environ["UNSLOTH_ALLOW_CPU"] = "1"
    _CudaIsTheCpu().__enter__()  # type: ignore[no-untyped-call]
