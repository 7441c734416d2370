"""The recipe's JSON schema, from the same classes that check it: editors complete keys and explain them by it.

It says less than the check does: rules between keys are not in it, and no key is required, since ``extends`` may bring
it. Its dialect is draft 7, which TOML editors know (Taplo, Even Better TOML).
"""

from collections.abc import Collection, Mapping
from typing import Any

from motif_lite.own_code import PATTERN
from motif_lite.recipe.schema import Recipe

Schema = dict[str, Any]
"""A JSON schema, or a part of one."""

_DROPPED = ("title", "required")


def json_schema(
    *,
    backends: Collection[str],
    credits: Collection[str],
    strategies: Collection[str],
    sources: Collection[str],
    rewards: Mapping[str, str],
) -> Schema:
    """The schema of a recipe file.

    Args:
        backends: Names of them, as of what follows.
        rewards: With a line about each.
    """
    schema: Schema = _plain(Recipe.model_json_schema())
    keys = {name: section["properties"] for name, section in schema["$defs"].items()}
    keys["ModelSection"]["backend"]["enum"] = list(backends)
    keys["TrainingSection"]["credit"]["enum"] = list(credits)
    own = {"pattern": PATTERN}
    keys["RolloutSection"]["strategy"] |= _known(strategies, own)
    keys["EvaluationSection"]["strategies"]["items"] |= _known(strategies, own)
    for section, key in (("DataSection", "train"), ("SourceSection", "source"), ("ValidationSection", "source")):
        keys[section][key] |= _known(sources, {"minLength": 1})
    weight = schema["properties"]["rewards"].pop("additionalProperties")
    schema["properties"]["rewards"] |= {
        "properties": {name: weight | {"description": text} for name, text in rewards.items()},
        "patternProperties": {PATTERN: weight | {"description": "A reward of your own."}},
        "additionalProperties": False,
    }
    for section in schema["properties"].values():
        if "allOf" in section:
            section.pop("default", None)  # a whole table; one that may be left out has none
    extends = {"type": "string", "description": "Another recipe to begin with, relative to this file."}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "motif_lite recipe",
        **schema,
        "properties": {"extends": extends, **schema["properties"]},
    }


def _known(names: Collection[str], others: Schema) -> Schema:
    """Names that are offered, and what else is allowed."""
    return {"anyOf": [{"enum": list(names)}, others]}


def _plain(part: Any) -> Any:
    """A part as TOML files need it: without null, which TOML lacks, and with nothing next to a reference."""
    if isinstance(part, list):
        return [_plain(each) for each in part if each != {"type": "null"}]
    if not isinstance(part, dict):
        return part
    by_name = {key: _plain(value) for key, value in part.items() if not (key in _DROPPED and _is_keyword(part, key))}
    if by_name.get("default", 0) is None:
        del by_name["default"]
    match by_name:
        case {"anyOf": [only]}:
            return {key: value for key, value in by_name.items() if key != "anyOf"} | _alone(only)
        case {"$ref": reference} if len(by_name) > 1:
            return {key: value for key, value in by_name.items() if key != "$ref"} | {"allOf": [{"$ref": reference}]}
    return by_name


def _alone(part: Schema) -> Schema:
    return {"allOf": [part]} if "$ref" in part else part


def _is_keyword(part: Schema, key: str) -> bool:
    """Whether it is a word of the schema's and no key of the recipe's, which would have a schema as its value."""
    return not isinstance(part[key], dict)
