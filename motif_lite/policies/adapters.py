"""Which layers an adapter is put on, and an earlier adapter as the start of a run."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from motif_lite.errors import ModelError
from motif_lite.planning import adapter_folder
from motif_lite.planning.adapter_folder import CONFIG
from motif_lite.recipe.schema import ALL_LINEAR
from motif_lite.recipe.spelling import nearest

_log = logging.getLogger(__name__)

_NAMES_SHOWN = 12

_WORTH_A_NOTE = 0.99
"""Share of the decoder's weights; less is told even where no linear layer is left out."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Where an adapter goes.

    Attributes:
        targets: Names of linear layers, as PEFT takes them.
        excluded: Full names of modules that are called the same and get none, e.g. in a vision tower.
        num_layers: Linear layers that get one.
        num_linear: Of the decoder, all together.
        covered: Weights of the layers that get one.
        total: Weights of all the decoder's matrices, embeddings and output head aside.
        left_out: Names of the decoder's other matrices.
    """

    targets: tuple[str, ...]
    excluded: tuple[str, ...]
    num_layers: int
    num_linear: int
    covered: int
    total: int
    left_out: tuple[str, ...]

    @property
    def share(self) -> float:
        """Of the decoder's weights, from 0 to 1."""
        return self.covered / self.total

    @property
    def remark(self) -> str | None:
        """A line about what is left out; None where that is nothing worth a line."""
        if self.share >= _WORTH_A_NOTE or not self.left_out:
            return None
        more = "; to cover all linear layers: --set 'lora.targets=\"all-linear\"'"
        return (
            f"the adapter covers {100 * self.share:.0f} % of the weights in the decoder's layers "
            f"({_listed(self.targets)}); it leaves out {_listed(self.left_out)}"
            f"{more if self.num_layers < self.num_linear else ''}"
        )


def coverage(model: Any, targets: str | Sequence[str], model_name: str) -> Coverage:
    """Find the layers that ``lora.targets`` names in a model that has no adapter yet.

    Raises:
        ModelError: A name is that of no linear layer of the decoder.
    """
    layers = _linear_layers(model)
    known = list(dict.fromkeys(map(_short, layers)))
    wanted = known if targets == ALL_LINEAR else list(targets)
    for name in wanted:
        if not any(_matches(layer, name) for layer in layers):
            raise ModelError(_no_target(model, name, known, model_name))
    covered = {layer for layer in layers if any(_matches(layer, name) for name in wanted)}
    excluded = [
        name for name, _ in model.named_modules() if name not in covered and any(_matches(name, w) for w in wanted)
    ]
    sizes = _matrices(model)
    return Coverage(
        tuple(wanted),
        tuple(excluded),
        len(covered),
        len(layers),
        sum(sizes[layer] for layer in covered),
        sum(sizes.values()),
        tuple(dict.fromkeys(_short(name) for name in sizes if name not in covered)),
    )


def _linear_layers(model: Any) -> dict[str, Any]:
    """The linear layers of the decoder by name, quantised or not, but for the output head."""
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    inside = set(decoder.modules())
    return {
        name: module
        for name, module in model.named_modules()
        if module in inside and module is not head and _size(module)
    }


def _size(module: Any) -> int:
    """Weights of a linear layer; 0 for anything else."""
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # GPT-2's linear layer
        return int(module.weight.numel())
    sizes = [getattr(module, name, None) for name in ("in_features", "out_features")]
    return prod(sizes) if all(isinstance(size, int) for size in sizes) else 0  # type: ignore[arg-type]


def _matrices(model: Any) -> dict[str, int]:
    """Weights of the decoder's matrices by name: its linear layers, and whatever else has two dimensions or more."""
    from torch import nn

    layers, head = _linear_layers(model), model.get_output_embeddings()
    sizes = {name: _size(layer) for name, layer in layers.items()}
    inside = set(model.get_decoder().modules())
    for name, module in model.named_modules():
        if module not in inside or name in layers or module is head or isinstance(module, nn.Embedding):
            continue
        for own, weight in module.named_parameters(recurse=False):
            if weight.ndim > 1:
                sizes[f"{name}.{own}"] = weight.numel()
    return sizes


def _matches(layer: str, target: str) -> bool:
    return layer == target or layer.endswith(f".{target}")


def _short(name: str) -> str:
    """The last part of a name, with the one before where it is a number or only says ``weight``."""
    *before, last = name.split(".")
    return f"{before[-1]}.{last}" if before and (last.isdigit() or last == "weight") else last


def _no_target(model: Any, name: str, known: Sequence[str], model_name: str) -> str:
    exists = any(_matches(module, name) for module, _ in model.named_modules())
    what = "is no linear layer of its decoder" if exists else f"is no layer of it{nearest(name, known)}"
    return f"{model_name}: lora.targets do not fit this model: {name!r} {what}; its linear layers: {_listed(known)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")


def start_of(model_name: str) -> tuple[str, Path | None]:
    """What to load for ``model.name``: a model, and the adapter that the run starts from where the name is one's.

    Raises:
        ModelError: It is an adapter whose base model is gone or not named, or whose weights are a pickle.
    """
    folder = adapter_folder.as_folder(model_name)
    if folder is None or not adapter_folder.is_adapter(folder):
        return model_name, None
    base = adapter_folder.base_of(folder)
    adapter_folder.require_readable(folder)
    if remark := adapter_folder.remark_on_revision(folder, base):
        _log.warning("%s", remark)
    return base, folder


@contextmanager
def named(start: Path | None) -> Iterator[None]:
    """Name the adapter where its base model is at fault.

    Raises:
        ModelError: That of the base, with the adapter's folder in front.
    """
    try:
        yield
    except ModelError as error:
        if start is None or str(error).startswith(str(start)):
            raise
        base = adapter_folder.base_of(start)
        remedy = ""
        if adapter_folder.as_folder(base) is None:
            remedy = f"; if {base} is to be a folder, put it back, or set base_model_name_or_path in {start / CONFIG}"
        raise ModelError(f"{start}: is an adapter of a base model that cannot be used: {error}{remedy}") from None


def require_no_adapter(model: Any, model_name: str) -> None:
    """Refuse a model that came with an adapter of its own: a fresh one would take its place, and say nothing.

    Raises:
        ModelError: It has one.
    """
    if getattr(model, "peft_config", None):
        raise ModelError(
            f"{model_name}: is an adapter on the hub; download it and give its folder as model.name, or merge it into "
            f"its model"
        )


def tokenizer_folder(start: Path | None) -> Path | None:
    """An adapter's folder where it has a tokenizer of its own: it may have been trained with another template."""
    return start if start is not None and (start / "tokenizer_config.json").is_file() else None
