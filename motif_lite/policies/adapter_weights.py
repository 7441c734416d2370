"""An adapter's file of weights put into a model; one that does not fit is refused, with what would make it fit."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from motif_lite.errors import ModelError
from motif_lite.planning import adapter_folder
from motif_lite.policies.protocol import ADAPTER_FILE

_MERGE = "merge it into its model (peft's merge_and_unload), and give the merged folder as model.name"

_WEIGHT_OF_LAYER = re.compile(r"(?:^|\.)([A-Za-z_]\w*)\.lora_(?:A|embedding_A)\b")

_PLAIN = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "init_lora_weights": (True, False, "gaussian", None),
}
"""What settings of an adapter may say that is trained on here; others than these and the next have no weight of it."""

_ABSENT = (
    "use_dora", "use_rslora", "use_bdlora", "use_qalora", "alora_invocation_tokens", "rank_pattern", "alpha_pattern",
    "lora_bias", "modules_to_save", "layers_to_transform", "layer_replication", "target_parameters",
    "trainable_token_indices", "arrow_config",
)  # fmt: skip


def targets_of(folder: Path) -> list[str]:
    """The names of the layers that an adapter has weights for: its settings may say it by a pattern.

    Raises:
        ModelError: The file cannot be read.
    """
    path = folder / ADAPTER_FILE
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return _targets(json.loads(file.read(min(size, 1 << 26))))
    except (OSError, ValueError, RecursionError, TypeError) as error:
        raise ModelError(f"{path}: is not an adapter that can be read ({error})") from None


def put_into(model: Any, folder: Path, known: Collection[str]) -> None:
    """Replace the weights of a model's adapter with saved ones.

    Args:
        model: With PEFT's layers.
        known: Names that ``lora.targets`` may hold for it.

    Raises:
        ModelError: The folder holds no adapter, or one that does not fit this model and recipe, or is damaged.
    """
    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    adapter_folder.require_readable(folder)
    path = folder / ADAPTER_FILE
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: is not an adapter that can be read ({error})") from None
    _require_same_settings(folder, model.active_peft_config, path)
    if broken := next((name for name, weight in weights.items() if not weight.isfinite().all()), None):
        raise ModelError(
            f"{path}: holds weights that are not finite numbers ({broken}); take an earlier checkpoint, or train again "
            f"with a smaller learning rate"
        )
    try:
        result = set_peft_model_state_dict(model, weights)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        whose = _of_another_base(folder, model.name_or_path)
        raise ModelError(f"{path}: does not fit this model and its [lora] settings ({reason}){whose}") from None
    own = f".{model.active_adapter}"  # with a KL penalty there is another adapter, TRL's "ref"
    missing = [name for name in result.missing_keys if "lora_" in name and own in name]
    if missing or result.unexpected_keys:
        remedy = _other_layers(model, weights, known)
        raise ModelError(
            f"{path}: does not fit this model and its [lora] settings ({len(missing)} weights missing, "
            f"{len(result.unexpected_keys)} unknown); {remedy}"
        )


def _targets(names: Mapping[str, Any]) -> list[str]:
    return sorted({match[1] for name in names if (match := _WEIGHT_OF_LAYER.search(name))})


def _other_layers(model: Any, weights: Mapping[str, Any], known: Collection[str]) -> str:
    """What to do about an adapter that is on other layers than ours."""
    theirs = _targets(weights)
    if not theirs:
        return "it holds no LoRA weights; give another adapter"
    if foreign := [name for name in theirs if name not in known]:
        return f"it is also on {', '.join(foreign)}, which gets no adapter here; {_MERGE}"
    num_layers = sum(name.rpartition(".")[2] in theirs for name, _ in model.named_modules())
    if len({name.partition(".lora_")[0] for name in weights}) < num_layers:
        return f"it is on some layers called {', '.join(theirs)} and not on others of these names; {_MERGE}"
    return f"it is on other layers: --set 'lora.targets={json.dumps(theirs)}'"


def _require_same_settings(folder: Path, ours: Any, weights: Path) -> None:
    """Refuse an adapter that was trained with a scale, or in a way, that its weights alone do not tell.

    Args:
        ours: The settings of the adapter whose weights are to be replaced, as PEFT has them.
        weights: Its file, which the message names.

    Raises:
        ModelError: Its settings are not the recipe's.
    """
    if not adapter_folder.is_adapter(folder):
        return  # weights alone: their shapes have to do
    config = adapter_folder.config_of(folder)
    adapter_folder.require_numbers(folder)
    odd = [key for key, allowed in _PLAIN.items() if key in config and config[key] not in allowed]
    odd += [key for key in _ABSENT if config.get(key)]
    if odd:
        raise ModelError(
            f"{weights}: does not fit: it is no plain LoRA adapter ({odd[0]} = {config[odd[0]]!r:.60}); {_MERGE}"
        )
    settings = {"lora.rank": (config.get("r"), ours.r), "lora.alpha": (config.get("lora_alpha"), ours.lora_alpha)}
    different = {key: values for key, values in settings.items() if values[0] != values[1]}
    if different:
        given = ", ".join(f"{key} = {here}" for key, (_, here) in different.items())
        changes = " ".join(f"--set {key}={there}" for key, (there, _) in different.items())
        raise ModelError(
            f"{weights}: does not fit this model and its [lora] settings: it was trained with others than {given}; "
            f"{changes}"
        )


def _of_another_base(folder: Path, model_name: str) -> str:
    """What to say of an adapter that was trained on another model than the one it is to be put on; else nothing."""
    base = (
        adapter_folder.config_of(folder).get("base_model_name_or_path") if adapter_folder.is_adapter(folder) else None
    )
    if not base or base == model_name:
        return ""
    return f"; it was trained on {base}, and this is {model_name}: set model.name to its base"
