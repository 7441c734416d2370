"""TOML files that users write, and changes of them from the command line."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motif_lite.errors import MotifError, RecipeError

TomlTable = Mapping[str, Any]
"""What a file says, by key, before it is validated: values of any type, tables within tables."""

_LARGEST_FILE = 1_000_000
"""Bytes; so that a device or a data set that was named by mistake is not read to its end."""


def read_toml(path: Path, kind: str, shipped: str, error: type[MotifError]) -> dict[str, Any]:
    """The settings in a file that a user has written.

    Args:
        kind: What it should be, for messages.
        shipped: The folder with such files that ship.
        error: What to raise where it cannot be read.
    """
    if "\0" in str(path):
        raise error(f"{str(path)!r}: cannot be read as a text file (a null character in its name)")
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise error(f"{path}: has more than {_LARGEST_FILE:,} bytes and cannot be a {kind}; check the path")
        return tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except FileNotFoundError:
        raise error(f"{path}: there is no such {kind}; shipped ones are in {shipped}") from None
    except (OSError, UnicodeDecodeError) as reason:
        raise error(f"{path}: cannot be read as a text file ({reason}); save it as UTF-8") from None
    except (ValueError, RecursionError) as reason:  # also numbers of 5000 digits and arrays without end
        raise error(f"{path}: is not valid TOML: {reason}") from None


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A table with changes laid over it, table by table."""
    result = dict(base)
    for key, value in changes.items():
        both_tables = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if both_tables else value
    return result


def apply_override(settings: dict[str, Any], override: str) -> None:
    """Set one ``key.path=value`` in place."""
    path, equals, text = override.partition("=")
    keys = _parts(path)
    if not equals or not keys or not all(keys):
        raise RecipeError(f"--set {override}: write key.path=value, e.g. --set training.max_steps=50")
    if ":" in path and len(keys) == path.count(".") + 1:
        raise RecipeError(
            f"--set {override}: a name with a dot in it needs quotes, e.g. "
            f"--set 'rewards.\"my_rewards.py:brevity\"=0.5'"
        )
    try:
        parsed = tomllib.loads(f"value = {text}")
        if list(parsed) != ["value"]:
            raise tomllib.TOMLDecodeError("more than one value")
    except (ValueError, RecursionError):  # also numbers of 5000 digits and arrays without end
        hint = f"text needs quotes, e.g. --set '{path}=\"{text}\"'"
        if (switch := text.strip().lower()) in ("true", "false"):
            hint = f"write {path}={switch}"
        raise RecipeError(f"--set {override}: {text!r} is not a TOML value; {hint}") from None
    table = settings
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {override}: {key} is a value, not a table")
    table[keys[-1]] = parsed["value"]


def _parts(path: str) -> list[str]:
    """The keys of a dotted path, of which some may be in quotes as in TOML; empty where it is none."""
    if '"' not in path and "'" not in path:
        return [key.strip() for key in path.split(".")]
    try:
        table: Any = tomllib.loads(f"{path} = 0")
    except (ValueError, RecursionError):
        return []
    keys = []
    while isinstance(table, dict):
        if len(table) != 1:
            return []  # a line break, and something else behind it
        ((key, table),) = table.items()
        keys.append(key)
    return keys
