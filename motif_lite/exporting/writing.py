"""The weights of base and adapter as one model in a folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from motif_lite.exporting.records import Number
from motif_lite.policies.local import LocalPolicy

TYPES: Mapping[Number, torch.dtype] = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

_NAMES_CODE = ("config.json", "tokenizer_config.json")


def write_merged(policy: LocalPolicy, folder: Path, dtype: torch.dtype) -> None:
    """Merge the adapter into the base, for good, and write both as one model with its tokenizer.

    PEFT adds W and BA in the type that the policy was loaded in; the sum is rounded once.
    """
    merged = policy.model.merge_and_unload(safe_merge=True)
    merged.to(dtype)
    merged.save_pretrained(str(folder), safe_serialization=True)
    policy.tokenizer.save_pretrained(str(folder))
    for name in _NAMES_CODE:
        _drop_code(folder / name)


def loaded(folder: Path, dtype: torch.dtype, device: Any, **named: Any) -> Any:
    """A causal model from an exported folder, as plain transformers loads it."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=dtype, device_map={"": device}, use_safetensors=True, trust_remote_code=False, **named
    )
    return model.eval()


def _drop_code(path: Path) -> None:
    """Leave out the names of classes in Python files: a stock architecture needs none of them."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.pop("auto_map", None) is not None:
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
