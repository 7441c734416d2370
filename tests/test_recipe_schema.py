"""The recipe's JSON schema: as the code says, true of every shipped recipe, and of help where one is wrong."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from motif_lite.jobs import checking
from motif_lite.recipe.keys import key_paths
from motif_lite.rollout.rewards import REWARDS
from motif_lite.tasks.sources import known_names

ROOT = Path(__file__).parents[1]
PATH = ROOT / "recipes" / "recipe.schema.json"
SCHEMA = json.loads(PATH.read_text())
RECIPES = [*sorted((ROOT / "recipes").glob("*.toml")), ROOT / "examples" / "own_task" / "recipe.toml"]


def mistakes(text: str) -> list[str]:
    found = jsonschema.Draft7Validator(SCHEMA).iter_errors(tomllib.loads(text))
    return [".".join(map(str, error.absolute_path)) for error in found]


def at(path: str) -> dict[str, Any]:
    """What the schema says of a key."""
    part: dict[str, Any] = SCHEMA
    for name in path.split("."):
        while "allOf" in part or "$ref" in part:
            reference = part["$ref"] if "$ref" in part else part["allOf"][0]["$ref"]
            part = SCHEMA["$defs"][reference.rpartition("/")[2]]
        part = next(iter(part["patternProperties"].values())) if name == "NAME" else part["properties"][name]
    return part


def test_the_schema_is_what_the_code_says() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import generate_recipe_schema
    finally:
        sys.path.remove(str(ROOT / "docs"))
    assert PATH.read_text() == generate_recipe_schema.text(), "run: make docs"
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_names_the_schema_in_its_first_line_and_is_true_to_it(path: Path) -> None:
    first, rest = path.read_text().split("\n", 1)
    assert first.startswith("#:schema ")
    assert (path.parent / first.removeprefix("#:schema ")).resolve() == PATH
    assert mistakes(rest) == []


def test_a_resolved_recipe_is_true_to_the_schema() -> None:
    resolved = checking.check(ROOT / "examples/own_task/recipe.toml", []).model_dump(exclude_none=True)
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(resolved)) == []


def test_every_key_is_in_the_schema_with_its_documentation() -> None:
    for path, section, name in key_paths():
        assert at(path)["description"] == section.model_fields[name].description, path


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("sede = 1", ""),
        ("[data]\ntrian = 1", "data"),
        ("[training.x]", "training"),
        ('[model]\nbackend = "unslot"', "model.backend"),
        ('[rollout]\nstrategy = "multiround"', "rollout.strategy"),
        ('[evaluation]\nstrategies = ["x"]', "evaluation.strategies.0"),
        ("[rewards]\nacuracy = 1", "rewards"),
        ('[rewards]\n"my.py:f" = "much"', "rewards.my.py:f"),
        ("[training]\nmax_steps = 0", "training.max_steps"),
        ('[training]\nmicro_batch_size = "all"', "training.micro_batch_size"),
        ('[training]\ncredit = "trees"', "training.credit"),
        ("[rollout.futures]\nmax_token = 1", "rollout.futures"),
        ("[evaluation.benchmarks.a]\nsource = 1", "evaluation.benchmarks.a.source"),
        ("[evaluation.validation]\nmarks = 1", "evaluation.validation"),
        ("extends = 1", "extends"),
    ],
)
def test_a_mistake_is_shown_where_it_is(text: str, where: str) -> None:
    assert mistakes(text) == [where]


@pytest.mark.parametrize(
    "text",
    [
        '[data]\ntrain = "my_tasks.py:problems"', '[data]\ntrain = "my.jsonl"', '[rollout]\nstrategy = "my.py:F"',
        '[evaluation]\nstrategies = ["my.py:F", "single_round"]', '[rewards]\n"../lib/my.py:f" = 1',
        '[training]\nmicro_batch_size = "auto"\n[rollout]\nmax_width = 8',
        "[evaluation.benchmarks.a]\nnum_problems = 3",
    ],
)  # fmt: skip
def test_what_a_recipe_may_say_is_allowed(text: str) -> None:
    assert mistakes(text) == []


def test_what_is_known_by_name_is_offered() -> None:
    assert list(at("rewards")["properties"]) == list(REWARDS)
    assert at("data.train")["anyOf"][0] == {"enum": known_names()}
    assert at("evaluation.benchmarks.NAME.source")["anyOf"][0] == {"enum": known_names()}
