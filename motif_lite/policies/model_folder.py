"""What is found out about a model before its weights are loaded, and what to say where it cannot be."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motif_lite.errors import ModelError
from motif_lite.planning.adapter_folder import ConfigJson, as_folder, is_path
from motif_lite.planning.machine import lacks_memory

_NAMES_SHOWN = 3


def require_trainable_kind(model_name: str, *, load_in_4bit: bool) -> None:
    """Refuse what its configuration shows to be no causal language model, or quantised in a way that is not trained.

    A configuration that is not here or cannot be read is left to the loading, which says why.

    Raises:
        ModelError: It is another kind of model, or its weights are quantised otherwise than the recipe says.
    """
    config = _config(model_name)
    if complaint := _other_kind(config) or _other_quantisation(config, load_in_4bit):
        raise ModelError(f"{model_name}: {complaint}")


def is_quantised(model_name: str) -> bool:
    """Whether a model's weights are quantised in its files, as far as that is known before they are downloaded."""
    return isinstance(_config(model_name).get("quantization_config"), Mapping)


def is_half(model_name: str) -> bool:
    """Whether a model's weights are of the type float16 in its files."""
    config = _config(model_name)
    return str(config.get("dtype") or config.get("torch_dtype")) == "float16"


def _config(model_name: str) -> ConfigJson:
    """What config.json says, of a folder or of a model in the hub's cache; nothing where it cannot be read."""
    from huggingface_hub import try_to_load_from_cache

    folder = as_folder(model_name)
    try:
        path = folder / "config.json" if folder else Path(str(try_to_load_from_cache(model_name, "config.json")))
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # ValueError: no name that the hub may have, or no JSON
        return {}
    return config if isinstance(config, dict) else {}


def _other_kind(config: ConfigJson) -> str | None:
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    kind = str(config.get("model_type"))
    if kind not in CONFIG_MAPPING or CONFIG_MAPPING[kind] in MODEL_FOR_CAUSAL_LM_MAPPING:
        return None
    if any(f"{sense}_config" in config for sense in ("vision", "audio")):
        return (
            f"is a model of text and images or sound ({kind}), and only language models are trained here; take a "
            f"text-only model of the same family"
        )
    what = "has an encoder and a decoder" if config.get("is_encoder_decoder") else "writes no text token by token"
    return f"is no causal language model: a {kind} {what}; take an instruct model, e.g. Qwen/Qwen2.5-3B-Instruct"


def _other_quantisation(config: ConfigJson, load_in_4bit: bool) -> str | None:
    settings = config.get("quantization_config")
    if not isinstance(settings, Mapping):
        return None
    method = settings.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in settings else "an unnamed method")
    if method != "bitsandbytes" or not settings.get("load_in_4bit"):
        how = "in 8 bits with bitsandbytes" if method == "bitsandbytes" else f"with {method}"
        return (
            f"its weights are quantised {how}, and only 4 bits with bitsandbytes can be trained on here; take the "
            f"model as it was before, and --set model.load_in_4bit=true to quantise it"
        )
    if not load_in_4bit:
        return "its weights are quantised to 4 bits already; --set model.load_in_4bit=true"
    return None


def explain_loading(model_name: str, error: Exception) -> str:
    """What to tell the user when a model cannot be loaded."""
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    if is_path(model_name) and not Path(model_name).exists():
        return f"{model_name}: there is no such folder; check model.name"
    if complaint := _other_kind(_config(model_name)):  # of the hub's models it is known only now
        return f"{model_name}: {complaint}"
    if lacks_memory(error):
        return f"{model_name}: there is not enough memory to load it ({reason}); take a smaller model, or free some"
    folder = as_folder(model_name)
    if folder is not None and (folder / "resolved.json").is_file():
        return f"{model_name}: is a run's folder and no model; give its adapter: {folder / 'adapter'}"
    if folder is not None and next(folder.glob("pytorch_model*.bin"), None) and not _has_safetensors(folder):
        return (
            f"{model_name}: its weights are a pickle (pytorch_model.bin), which could execute code, and is not read; "
            f"to convert it to safetensors, load it with transformers' AutoModelForCausalLM, and save it with "
            f"save_pretrained"
        )
    if is_path(model_name) or Path(model_name).exists():
        remedy = "the folder must hold config.json, *.safetensors and a tokenizer"
    else:
        remedy = "check the name and the connection, or give a local folder as model.name"
    return f"{model_name}: the model cannot be loaded ({reason}); {remedy}"


def _has_safetensors(folder: Path) -> bool:
    return next(folder.glob("*.safetensors"), None) is not None


def require_numbers(model_name: str, model: Any) -> None:
    """Refuse weights that are not finite numbers, by their sums: a sum that is finite has only such.

    Raises:
        ModelError: Some weights are not.
    """
    for name, parameter in model.named_parameters():
        weight = parameter.detach()
        is_counted = weight.is_floating_point() and weight.element_size() > 1 and not weight.is_meta
        # A sum may be too large for its type where no weight is.
        if is_counted and not weight.sum().isfinite() and not weight.isfinite().all():
            raise ModelError(
                f"{model_name}: holds weights that are not finite numbers ({name}); download the model again, or take "
                f"an earlier one"
            )


def require_all_weights(model_name: str, loaded: Mapping[str, Any]) -> None:
    """Refuse a folder that lacks weights: transformers fills them with random numbers, and only logs it.

    Args:
        loaded: What `from_pretrained` says of the loading, by kind.

    Raises:
        ModelError: A weight is missing, or has another shape.
    """
    for kind in ("missing_keys", "mismatched_keys"):
        if loaded[kind]:
            names = ", ".join(sorted(str(name) for name in loaded[kind])[:_NAMES_SHOWN])
            raise ModelError(
                f"{model_name}: {len(loaded[kind])} weights are {kind.removesuffix('_keys')} ({names}); "
                f"download the model again"
            )
