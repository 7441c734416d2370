"""A folder that holds an adapter in PEFT's format, such as a run's ``adapter/``, where a model is expected."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motif_lite.errors import ModelError

CONFIG = "adapter_config.json"

ConfigJson = Mapping[str, Any]
"""The content of a model's config.json or an adapter's adapter_config.json: their libraries define the keys."""


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
    if here is None and name.startswith(("/", "./", "../", "~")):
        raise ModelError(
            f"{folder}: is an adapter, and its base model is gone ({name}); put it back, or correct "
            f"base_model_name_or_path in {CONFIG}"
        )
    return str(here or name)
