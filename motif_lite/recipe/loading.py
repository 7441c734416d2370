"""From a TOML file to a validated recipe: every mistake is reported in one error, each with its key."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from motif_lite.errors import ConflictError, RecipeError
from motif_lite.recipe import own_files
from motif_lite.recipe.keys import nearest_key
from motif_lite.recipe.rules import broken_rules
from motif_lite.recipe.schema import Recipe
from motif_lite.recipe.tables import Tables
from motif_lite.recipe.toml import TomlTable, apply_override, merged, read_toml

_LONGEST_CHAIN = 32
"""Recipes that extend one another."""

_MISTAKES_SHOWN = 20

_BRANCH = re.compile(r"\[key\]|literal\[.*\]|list\[.*\]|constrained-\w+|bool|int|float|str")
"""What pydantic puts into a key's path without it being part of the key: in a table's key, or in a choice of types."""


def load(path: Path, overrides: Sequence[str], tables: Tables) -> Recipe:
    """Read, merge and validate a recipe.

    Args:
        path: The TOML file.
        overrides: ``key.path=value`` as given to ``--set``, applied in order.
        tables: Names that stand for code, by kind.

    Raises:
        RecipeError: The file cannot be read or parsed, or any key in it is wrong.
    """
    settings = _read(path, ())
    for override in overrides:
        apply_override(settings, override)
    own_files.bind_rest(settings, [Path(), path.parent])
    return validate(settings, tables, origin=str(path))


def validate(settings: TomlTable, tables: Tables, *, origin: str) -> Recipe:
    """Turn plain settings into a `Recipe`; ``origin`` names them in errors.

    Raises:
        RecipeError: One or more keys are wrong; the message has a line for each.
        ConflictError: All are right by themselves, and some do not go together.
    """
    try:
        recipe = Recipe.model_validate(settings, context=dict(tables))
    except ValidationError as error:
        details = error.errors()
        lines = [_explain(detail, settings) for detail in details[:_MISTAKES_SHOWN]]
        raise RecipeError(_told(lines, len(details[_MISTAKES_SHOWN:]), origin)) from None
    if broken := broken_rules(recipe, tables):
        raise ConflictError(_told(broken, 0, origin))
    return recipe


def _told(lines: Sequence[str], num_hidden: int, origin: str) -> str:
    """A line for each mistake; ``num_hidden`` more are counted only."""
    lines = list(dict.fromkeys(lines))
    number = f"{len(lines) + num_hidden} mistakes" if len(lines) > 1 else "a mistake"
    more = [f"and {num_hidden} more"] if num_hidden else []
    return "\n".join([f"{origin}: {number} in the recipe", *(f"  {line}" for line in lines + more)])


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """A file's settings laid over those of the file that it extends."""
    place = _place(path)
    if place in seen:
        chain = " -> ".join(step.name for step in (*seen, path))
        raise RecipeError(f"{path}: extends is circular ({chain}); remove one of them")
    if len(seen) >= _LONGEST_CHAIN:
        raise RecipeError(f"{seen[0]}: extends chains more than {_LONGEST_CHAIN} files; merge some of them")
    by = f", which {seen[-1]} extends" if seen else ""
    settings = read_toml(path, f"recipe{by}", "recipes/", RecipeError)
    if "variants" in settings and not settings.keys() & Recipe.model_fields.keys():
        raise RecipeError(f"{path}: this is a study: python run.py study {path}")
    own_files.bind(settings, path.parent)
    parent = settings.pop("extends", None)
    if parent is None:
        return settings
    if not isinstance(parent, str):
        raise RecipeError(f'{path}: extends must be a file name in quotes, e.g. extends = "motif_gsm8k.toml"')
    base = _read(path.parent / parent, (*seen, place))
    own_files.require_agreement(base, settings, path)
    return merged(base, settings)


def _place(path: Path) -> Path:
    """Where a file lies, by whatever name; reading it says what is wrong with a name that no file can have.

    Raises:
        RecipeError: It is a symbolic link to itself.
    """
    try:
        return path if "\0" in str(path) else path.resolve()
    except RuntimeError:  # so before Python 3.13, which leaves it to the reading
        raise RecipeError(f"{path}: is a symbolic link that leads back to itself; give the file itself") from None


def _explain(detail: ErrorDetails, settings: TomlTable) -> str:
    """One pydantic error as ``key: what is wrong, and the remedy``."""
    path = ".".join(str(part) for part in detail["loc"] if not _BRANCH.fullmatch(str(part)))
    path = path if len(path) <= 200 else f"{path[:200]}..."
    given = "" if isinstance(detail["input"], dict | BaseModel) else f" (got {_shown(detail['input'])})"
    match detail["type"]:
        case "extra_forbidden":
            return f"{path}: unknown key{nearest_key(path, settings)}"
        case "missing":
            return f"{path}: must be given; docs/recipe.md says what it means"
        case "value_error":
            message = str(detail["ctx"]["error"])
            return f"{path}: {message}" if path else message
        case _:
            return f"{path}: {detail['msg'][:1].lower()}{detail['msg'][1:]}{given}"


def _shown(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):  # a hexadecimal integer of 5000 digits, a table of 3000 levels in a list
        return f"a {type(value).__name__} too long to show"
