"""A folder that holds an adapter in PEFT's format, such as a run's ``adapter/``, where a model is expected."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motif_lite.errors import ModelError

CONFIG = "adapter_config.json"

ConfigJson = Mapping[str, Any]
"""The content of a model's config.json or an adapter's adapter_config.json: their libraries define the keys."""


_OF_PATHS = re.compile(r"[/~]|\.\.?[/\\]|[A-Za-z]:[/\\]|[^/]*\\|[^/]+/[^/]+/")
"""How a name begins that is a folder's, whether it is there or not: one on the hub has a single slash."""


def is_path(model_name: str) -> bool:
    """Whether a name can only be that of a folder."""
    return _OF_PATHS.match(model_name) is not None


def as_folder(model_name: str) -> Path | None:
    """The local folder of this name; None where there is none."""
    try:
        folder = Path(model_name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # a name that no file can have
        return None


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / CONFIG).is_file()


def config_of(folder: Path) -> ConfigJson:
    """The settings of an adapter.

    Raises:
        ModelError: They cannot be read.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is not a table of settings")
        return config
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); copy the adapter again") from None


def require_readable(folder: Path) -> None:
    """Refuse an adapter whose weights are a pickle.

    Raises:
        ModelError: They are.
    """
    pickle = folder / "adapter_model.bin"
    if pickle.is_file() and next(folder.glob("adapter_model*.safetensors"), None) is None:
        raise ModelError(
            f"{pickle}: is a pickle, which could execute code, and is not read; to convert it, load it with "
            f"torch.load(..., weights_only=True), and save it with safetensors.torch.save_file as "
            f"adapter_model.safetensors"
        )


def require_numbers(folder: Path) -> None:
    """Refuse settings whose rank or scale is something else than a number.

    Raises:
        ModelError: One is, or the settings cannot be read.
    """
    config = config_of(folder)
    for key, kinds in (("r", (int,)), ("lora_alpha", (int, float))):
        value = config.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise ModelError(f"{folder / CONFIG}: {key} = {value!r:.60} must be a number without quotes; correct it")


def remark_on_revision(folder: Path, base: str) -> str | None:
    """What to say of an adapter that was trained on another revision of its base on the hub than is loaded."""
    revision = config_of(folder).get("revision")
    if not revision or revision == "main" or as_folder(base) is not None:
        return None
    return (
        f"{folder}: was trained on revision {revision!s:.60} of {base}, and the newest is used; to use that one, "
        f"download it (hf download {base} --revision {revision!s:.60} --local-dir FOLDER), and give FOLDER as the "
        f"base's name"
    )


def base_of(folder: Path) -> str:
    """The model that an adapter belongs to, as a hub name or the path of a folder.

    Raises:
        ModelError: The settings cannot be read or name no model, or the folder holds a whole model as well, or the
            base is an adapter, too.
    """
    if next(folder.glob("model*.safetensors"), None) is not None:
        raise ModelError(
            f"{folder}: holds both an adapter and a model; move {CONFIG} and adapter_model.safetensors into a folder "
            f"of their own, and give the one that is meant"
        )
    name = config_of(folder).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{folder / CONFIG}: names no base model; add its folder as base_model_name_or_path")
    here = as_folder(name) or as_folder(str(folder / name))
    if here is not None and is_adapter(here):
        raise ModelError(
            f"{folder}: is an adapter whose base, {here}, is itself an adapter; merge one of them into its model first"
        )
    if here is None and is_path(name):
        raise ModelError(
            f"{folder}: is an adapter, and its base model is gone ({name}); put it back, or correct "
            f"base_model_name_or_path in {CONFIG}"
        )
    return str(here or name)
