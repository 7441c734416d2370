"""A recipe's keys as dotted paths: listing, comparing, changing and suggesting them."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from motif_lite.recipe.data import SelectSection, SkipSection, SourceSection, ValidationSection
from motif_lite.recipe.other_names import OTHER_NAMES
from motif_lite.recipe.schema import Recipe, WarmStartSection

Model = TypeVar("Model", bound=BaseModel)


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A copy with new values at dotted paths, which the caller knows to be valid."""
    for path, value in changes.items():
        recipe = _with(recipe, path.split("."), value)
    return recipe


def _with(section: Model, path: list[str], value: Any) -> Model:
    first, *rest = path
    inner = _with(getattr(section, first), rest, value) if rest else value
    return section.model_copy(update={first: inner})


_TABLES: dict[str, type[BaseModel]] = {
    "validation": ValidationSection, "select": SelectSection, "skip": SkipSection,
    "warm_start": WarmStartSection,
}  # fmt: skip
"""Those that a recipe may leave out."""


def key_paths(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[tuple[str, type[BaseModel], str]]:
    """Every key of the recipe as (dotted path, section it belongs to, field name), in order."""
    tables: list[tuple[type[BaseModel], str]] = []
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from key_paths(field.annotation, f"{path}.")
        else:
            yield path, section, name
            if name == "benchmarks":
                tables.append((SourceSection, f"{path}.NAME."))
            if name in _TABLES:
                tables.append((_TABLES[name], f"{path}."))
    for table, path in tables:
        yield from key_paths(table, path)


def differing_keys(one: Recipe, other: Recipe) -> list[str]:
    """Dotted paths of the keys in which two recipes differ.

    Where the user's own files lie is no such key: what matters is in them, and their hashes are compared.
    """
    ours, theirs = (_flat(recipe.model_dump(exclude={"code"})) for recipe in (one, other))
    return sorted(path for path in ours | theirs if ours.get(path) != theirs.get(path))


def written(recipe: Recipe, path: str) -> str:
    """The value at a dotted path as JSON; a hyphen where the recipe has no such key."""
    settings = _flat(recipe.model_dump(exclude={"code"}))
    return json.dumps(settings[path], ensure_ascii=False) if path in settings else "-"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def nearest_key(path: str, settings: Mapping[str, Any]) -> str:
    """Suggest the real key for an unknown one: of the same name elsewhere, of others' name for it, or spelled alike.

    Args:
        settings: What the recipe says; keys of tables that it may have and has not are not suggested.
    """
    close = _close_keys(path, list(_offered(settings)))
    return f"; did you mean {' or '.join(close)}?" if close else "; docs/recipe.md lists the keys"


def _close_keys(path: str, known: list[str]) -> Sequence[str]:
    """What is spelled alike is looked for by whole path first, then by its last part."""
    first, leaf = path.partition(".")[0], path.rpartition(".")[2]
    same = [key for key in known if key.rpartition(".")[2] == leaf]
    if found := [key for key in same if key.startswith(f"{first}.")] or OTHER_NAMES.get(leaf) or same:
        return found
    sections = list(dict.fromkeys(key.rpartition(".")[0] for key in known if "." in key))
    if close := difflib.get_close_matches(path, [*known, *sections], n=1, cutoff=0.75):
        return close
    leaves = dict.fromkeys(key.rpartition(".")[2] for key in known)
    near = difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.75)
    return [key for key in known if key.rpartition(".")[2] in near]


def _offered(settings: Mapping[str, Any]) -> Iterator[str]:
    """All keys but those of tables that a recipe has left out."""
    for path, section, name in key_paths():
        table: Any = settings
        if section in (SourceSection, *_TABLES.values()):
            for part in path.removesuffix(f".{name}").removesuffix(".NAME").split("."):
                table = table.get(part) if isinstance(table, Mapping) else None
        if isinstance(table, Mapping):
            yield path
