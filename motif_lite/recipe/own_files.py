"""Where the user's own Python files lie: relative to the recipe, or the ``--set``, that names them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from motif_lite import own_code
from motif_lite.errors import RecipeError
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.toml import TomlTable


def names(recipe: Recipe) -> list[str]:
    """Everything of the user's own that a recipe names, each once."""
    return list(dict.fromkeys(_names(recipe.model_dump())))


def files(recipe: Recipe) -> dict[str, Path]:
    """The files of the user's own that a recipe names, with where they lie."""
    used = dict.fromkeys(own_code.file_of(name) for name in names(recipe))
    return {file: Path(recipe.code[file]) for file in used if file in recipe.code}


def bind(settings: dict[str, Any], folder: Path) -> None:
    """Note in the ``code`` table of a file's settings where each Python file lies that it names."""
    given = settings.get("code", {})
    if not isinstance(given, dict):
        return  # the check of the recipe says so
    code = {name: _at(folder, path) if isinstance(path, str) else path for name, path in given.items()}
    for file in map(own_code.file_of, _names(settings)):
        if file not in code and Path(_at(folder, file)).is_file():
            code[file] = _at(folder, file)
    if code:
        settings["code"] = code


def bind_rest(settings: dict[str, Any], folders: Sequence[Path]) -> None:
    """Find what no file has bound, e.g. names from ``--set``, in the first folder that has it, and drop what is unused.

    What is in none of them is bound to the last one, so that its check can say what is missing.
    """
    for folder in folders:
        bind(settings, folder)
    code = settings.get("code", {})
    if isinstance(code, dict):
        used = dict.fromkeys(map(own_code.file_of, _names(settings)))
        kept = {file: code.get(file, _at(folders[-1], file)) for file in used}
        kept |= {file: path for file, path in code.items() if not isinstance(path, str)}  # for the recipe's check
        settings.pop("code", None)
        if kept:
            settings["code"] = kept


def require_agreement(base: TomlTable, settings: TomlTable, origin: Path) -> None:
    """Refuse a name that means one file in a recipe and another one in the recipe that it extends.

    Raises:
        RecipeError: There is one.
    """
    theirs, ours = base.get("code", {}), settings.get("code", {})
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for file in theirs.keys() & ours.keys():
            if theirs[file] != ours[file]:
                raise RecipeError(
                    f"{origin}: {file} is {ours[file]} here, and {theirs[file]} in the recipe that it extends; rename "
                    f"one of them"
                )


def _names(settings: TomlTable) -> Iterator[str]:
    """As `names`, of settings that are not validated yet."""
    evaluation = _table(settings, "evaluation")
    strategies = evaluation.get("strategies")
    given = [
        *_table(settings, "rewards"),
        _table(settings, "data").get("train"),
        _table(settings, "rollout").get("strategy"),
        *(strategies if isinstance(strategies, list) else []),
        _table(evaluation, "validation").get("source"),
        *(_table(_table(evaluation, "benchmarks"), name).get("source") for name in _table(evaluation, "benchmarks")),
    ]
    return (name for name in given if isinstance(name, str) and own_code.is_own(name))


def _table(settings: TomlTable, key: str) -> TomlTable:
    value = settings.get(key)
    return value if isinstance(value, dict) else {}


def _at(folder: Path, file: str) -> str:
    """A file's place, wherever the program is called from later."""
    return os.path.abspath(folder / os.path.expanduser(file))  # noqa: PTH100, PTH111  # both take any text
