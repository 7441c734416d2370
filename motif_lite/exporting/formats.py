"""The table of export formats: how each is written, loaded again, and by how much it may differ.

PyTorch is imported where something is written: a command line is checked without it.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motif_lite.exporting import gguf, ollama
from motif_lite.exporting.records import Bound, Number
from motif_lite.recipe.schema import Recipe
from motif_lite.runs import sealing

if TYPE_CHECKING:
    import torch

    from motif_lite.policies.local import LocalPolicy

_UNFINISHED = "merged.unfinished"


@dataclass(frozen=True, slots=True)
class Source:
    """What is exported.

    Attributes:
        policy: Base and adapter; a format that merges them changes it.
        dtype: The precision that they are compared in.
        adapter: The adapter's folder.
        sixteen_bit: The base's own 16-bit type.
    """

    recipe: Recipe
    policy: "LocalPolicy"
    dtype: "torch.dtype"
    adapter: Path
    sixteen_bit: Number


@dataclass(frozen=True, slots=True)
class Format:
    """A way to keep a trained model.

    Attributes:
        bounds: By how its weights may be stored, the default first; for formats that do not ask, under None.
        write: Writes it into an empty folder; merges the policy's adapter where ``merges``.
        load: Loads what was written: a causal model of transformers.
        is_gguf: Its packages are not among the requirements, and llama.cpp reads it.
        next_step: What to do with it, as a line; given the folder.
    """

    bounds: Mapping[Number | None, Bound]
    write: Callable[[Source, Path, Number | None], None]
    load: Callable[[Source, Path], Any]
    next_step: Callable[[Path], str]
    merges: bool = True
    is_gguf: bool = False


_EXACT, _HALF, _BYTE = Bound(0.001, 0.02), Bound(0.15, 2.0), Bound(0.3, 4.0)
"""Of weights in 32, in 16 and in 8 bits: more than twice what was measured on SmolLM2-135M, see docs/export.md."""


def _write_adapter(source: Source, folder: Path, number: Number | None) -> None:
    shutil.copytree(source.adapter, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(sealing.MANIFEST))


def _load_adapter(source: Source, folder: Path) -> Any:
    """Base and exported adapter; what the adapter was is wiped out first."""
    import torch

    with torch.no_grad():
        for name, weight in source.policy.model.named_parameters():
            if "lora_" in name:
                weight.zero_()
    source.policy.load_adapter(folder)
    return source.policy.model


def _write_merged(source: Source, folder: Path, number: Number | None) -> None:
    from motif_lite.exporting import writing

    writing.write_merged(source.policy, folder, writing.TYPES[number or source.sixteen_bit])


def _load_merged(source: Source, folder: Path) -> Any:
    from motif_lite.exporting import writing

    return writing.loaded(folder, source.dtype, source.policy.device_type)


def _write_gguf(source: Source, folder: Path, number: Number | None) -> None:
    from motif_lite.exporting import writing

    between = folder / _UNFINISHED
    number = number or "q8_0"
    writing.write_merged(source.policy, between, writing.TYPES.get(number, writing.TYPES["f32"]))
    gguf.convert(between, folder / gguf.MODEL, number)
    shutil.rmtree(between)


def _load_gguf(source: Source, folder: Path) -> Any:
    from motif_lite.exporting import writing

    return writing.loaded(folder, source.dtype, source.policy.device_type, gguf_file=gguf.MODEL)


def _write_ollama(source: Source, folder: Path, number: Number | None) -> None:
    text = ollama.modelfile(source.recipe, source.policy)
    (folder / ollama.MODELFILE).write_text(text, encoding="utf-8")
    _write_gguf(source, folder, number)


_GGUF_BOUNDS: Mapping[Number | None, Bound] = {"q8_0": _BYTE, "f16": _HALF, "bf16": _HALF, "f32": _EXACT}

FORMATS: dict[str, Format] = {
    "adapter": Format(
        {None: _EXACT}, _write_adapter, _load_adapter, merges=False,
        next_step=lambda folder: f"PeftModel.from_pretrained(base, {str(folder)!r})",
    ),
    "merged": Format(
        {None: _HALF, "bf16": _HALF, "f16": _HALF, "f32": _EXACT}, _write_merged, _load_merged,
        next_step=lambda folder: f"AutoModelForCausalLM.from_pretrained({str(folder)!r})",
    ),
    "gguf": Format(
        _GGUF_BOUNDS, _write_gguf, _load_gguf, is_gguf=True,
        next_step=lambda folder: f"llama-cli -m {folder / gguf.MODEL}",
    ),
    "ollama": Format(
        _GGUF_BOUNDS, _write_ollama, _load_gguf, is_gguf=True,
        next_step=lambda folder: f"cd {folder} && ollama create {folder.name} -f {ollama.MODELFILE}",
    ),
}  # fmt: skip
