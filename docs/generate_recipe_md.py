"""Write docs/recipe.md from the docstrings beside the recipe's fields: ``python docs/generate_recipe_md.py``."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pydantic import BaseModel  # noqa: E402
from pydantic.fields import FieldInfo  # noqa: E402
from pydantic_core import PydanticUndefined  # noqa: E402

from motif_lite.recipe.keys import key_paths  # noqa: E402

HEAD = """\
# The recipe, key by key

A recipe is a TOML file. `extends = "other.toml"` begins with another recipe, relative to the file;
`--set key.path=value` changes one key on the command line; a part with dots in it needs quotes, as in TOML.

Editors with a TOML language server (Taplo; Even Better TOML in VS Code) complete and explain these keys while you type:
begin a recipe with `#:schema recipe.schema.json`, the path of `recipes/recipe.schema.json` relative to the recipe.

This page is made from the docstrings in
`motif_lite/recipe/` by `python docs/generate_recipe_md.py`.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_lines()])


def _lines() -> Iterator[str]:
    table = None
    for path, section, name in key_paths():
        if path.rpartition(".")[0] != table:
            table = path.rpartition(".")[0]
            yield from _heading(table, section)
        field = section.model_fields[name]
        text = " ".join((field.description or "").split())
        kind = " ".join([_kind(field.annotation), *_bounds(field)])
        yield f"| `{name}` | {kind} | {_default(field.get_default(call_default_factory=True))} | {text} |"


def _heading(table: str, section: type[BaseModel]) -> Iterator[str]:
    title = f"`[{table}]`" if table else "At the top"
    yield f"\n## {title}\n\n{(section.__doc__ or '').strip().splitlines()[0]}\n"
    yield "| key | kind | default | what it does |"
    yield "|---|---|---|---|"


def _kind(annotation: Any) -> str:
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        parts = [part for part in get_args(annotation) if part is not NoneType]
        return " or ".join(_kind(part) for part in parts)
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    text = str(annotation)
    for name, kind in {"Literal": "one of", "dict": "table", "list": "list", "bool": "true or false"}.items():
        if name in text:
            return kind if kind != "one of" else " ".join(f"`{value}`" for value in annotation.__args__)
    return next(kind for name, kind in {"int": "integer", "float": "number", "str": "text"}.items() if name in text)


def _bounds(field: FieldInfo) -> Iterator[str]:
    """Ranges, e.g. ``≥ 1``."""
    for bound in field.metadata:
        for name, sign in {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}.items():
            if hasattr(bound, name):
                yield f"{sign} {getattr(bound, name):,}"


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "must be given"
    if value is None or value == {}:
        return "none"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


if __name__ == "__main__":
    (ROOT / "docs" / "recipe.md").write_text(page(), encoding="utf-8")
