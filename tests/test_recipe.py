"""Recipes: what ships loads, every mistake is named at once, and what is resolved can be read back."""

import json
import math
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from typer.testing import CliRunner

from motif_lite import cli
from motif_lite.credits.table import credit_of
from motif_lite.errors import RecipeError
from motif_lite.jobs import checking
from motif_lite.recipe import idle_keys, keys, loading
from motif_lite.recipe.other_names import OTHER_NAMES
from motif_lite.recipe.schema import FuturesSampling, Recipe
from motif_lite.recipe.toml import apply_override
from motif_lite.views.formats import recipe_toml

SHIPPED = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))
MINIMAL = '[model]\nname = "some/model"\nbackend = "transformers"\n[data]\ntrain = "chain_sum"\n'


def load(tmp_path: Path, text: str = MINIMAL, *changes: str) -> Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return loading.load(path, changes, checking.TABLES)


def mistakes(tmp_path: Path, *changes: str, text: str = MINIMAL) -> str:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text, *changes)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------- what ships


def test_the_shipped_recipes() -> None:
    smaller = ["motif_gsm8k_12gb", "motif_gsm8k_16gb", "motif_gsm8k_8gb"]
    shipped = [
        "audit_motif", "grpo_gsm8k", "laptop_chain_gsm8k", "laptop_gsm8k", "motif_chain_evening", "motif_chain_gsm8k",
        "motif_evening", "motif_evening_12gb", "motif_gsm8k", *smaller, "motif_t4", "tiny_cpu", "tiny_cpu_26",
        "tiny_cpu_chain", "tiny_cpu_grpo",
    ]  # fmt: skip
    assert [path.stem for path in SHIPPED] == shipped


@pytest.mark.parametrize("gib", [8, 12, 16])
def test_the_recipes_for_smaller_cards_differ_in_what_memory_dictates_only(gib: int) -> None:
    small, motif = (checking.check(SHIPPED[0].with_name(f"motif_gsm8k{of}.toml"), []) for of in (f"_{gib}gb", ""))
    assert set(keys.differing_keys(small, motif)) == {"rollout.max_width"}
    assert small.rollout.max_width < motif.rollout.max_width  # type: ignore[operator]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    assert checking.check(path, []).training.max_steps >= 1


def test_motif_gsm8k_has_the_settings_of_the_reference() -> None:
    motif = checking.check(next(path for path in SHIPPED if path.stem == "motif_gsm8k"), [])
    assert (motif.model.name, motif.model.load_in_4bit) == ("Qwen/Qwen2.5-3B-Instruct", True)
    assert (motif.lora.rank, motif.lora.alpha, motif.lora.targets) == (64, 64.0, "all-linear")
    rollout = motif.rollout
    assert (rollout.num_openings, rollout.num_futures, rollout.num_rounds) == (8, 4, 3)
    assert (rollout.openings.max_tokens, rollout.max_prompt_tokens) == (1024, 1024)
    assert rollout.futures == FuturesSampling(max_tokens=2048, temperature=0.8, top_p=0.95)
    training = motif.training
    assert (training.learning_rate, training.lr_schedule, training.warmup_fraction) == (5e-6, "cosine", 0.1)
    assert (training.optimizer, training.adam_beta1, training.adam_beta2) == ("adamw_8bit", 0.9, 0.99)
    assert (training.weight_decay, training.max_grad_norm, training.beta) == (0.1, 0.1, 0.0)
    assert (training.max_steps, training.loss_type, training.scale_rewards) == (300, "bnpo", "group")
    assert motif.rewards == {"future_accuracy": 1.0, "tag_count": 1.0, "soft_format": 1.0, "strict_format": 1.0}
    assert list(motif.evaluation.benchmarks) == ["math500", "aime24"]


def test_a_key_of_later_rounds_leaves_the_others_at_the_references_values(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        '[model]\nname = "m"\nbackend = "transformers"\nmax_seq_length = 4096\n[data]\ntrain = "chain_sum"\n'
    )
    whole = checking.check(path, []).rollout.futures
    assert (whole.max_tokens, whole.temperature, whole.top_p) == (2048, 0.8, 0.95)
    assert checking.check(path, ["rollout.futures.max_tokens=512"]).rollout.futures == FuturesSampling(max_tokens=512)


@pytest.mark.parametrize(("grpo", "motif"), [("grpo_gsm8k", "motif_gsm8k"), ("tiny_cpu_grpo", "tiny_cpu")])
def test_the_grpo_recipes_differ_from_motif_in_strategy_and_steps_only(grpo: str, motif: str) -> None:
    one, other = (checking.check(SHIPPED[0].with_name(f"{name}.toml"), []) for name in (grpo, motif))
    assert set(keys.differing_keys(one, other)) <= {"rollout.strategy", "training.max_steps"}
    assert one.rollout.strategy == "single_round"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_resolved_recipe_reads_back_the_same_from_json_and_toml(path: Path) -> None:
    resolved = checking.check(path, [])
    settings = json.loads(json.dumps(resolved.model_dump()))
    assert loading.validate(settings, checking.TABLES, origin="json") == resolved
    settings = tomllib.loads(recipe_toml(resolved))
    assert loading.validate(settings, checking.TABLES, origin="toml") == resolved


# ----------------------------------------------------------------------------------------------- documentation


def test_every_key_and_every_section_is_documented() -> None:
    paths = list(keys.key_paths())
    names = [path for path, _, _ in paths]
    assert len(names) == len(set(names)) > 60
    assert {"seed", "rollout.futures.top_p", "evaluation.benchmarks.NAME.source"} <= set(names)
    for path, section, field in paths:
        assert section.__doc__, section
        assert len(section.model_fields[field].description or "") > 10, path


def test_nothing_in_a_recipe_can_be_changed_afterwards(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    for section, field in ((loaded, "seed"), (loaded.training, "max_steps"), (loaded.rollout.openings, "top_p")):
        assert isinstance(section, BaseModel)
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, field, 1)


# ------------------------------------------------------------------------------------------------------ extends


def test_a_file_is_laid_over_the_one_it_extends_table_by_table(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.toml").write_text(MINIMAL + "[training]\nmax_steps = 7\nsave_every = 5\n")
    (tmp_path / "sub" / "middle.toml").write_text('extends = "../base.toml"\n[training]\nmax_steps = 8\n')
    loaded = load(tmp_path, 'extends = "sub/middle.toml"\nseed = 5\n')
    assert (loaded.seed, loaded.training.max_steps, loaded.training.save_every) == (5, 8, 5)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"recipe": 'extends = "recipe.toml"'}, "extends is circular (recipe.toml -> recipe.toml)"),
        ({"recipe": 'extends = "b.toml"', "b": 'extends = "./recipe.toml"'}, "(recipe.toml -> b.toml -> recipe.toml)"),
        ({"recipe": 'extends = "gone.toml"'}, "gone.toml: there is no such recipe, which"),
        ({"recipe": "extends = 3"}, "extends must be a file name in quotes"),
        ({"recipe": 'extends = "b.toml"', "b": "seed ="}, "b.toml: is not valid TOML"),
        ({"recipe": 'extends = "."'}, "cannot be read as a text file"),
        ({"recipe": 'extends = "a\\u0000b"'}, "cannot be read"),
        ({"recipe": f'extends = "{"a" * 5000}"'}, "cannot be read"),
    ],
)
def test_what_cannot_be_extended_is_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        loading.load(tmp_path / "recipe.toml", [], checking.TABLES)
    assert message in str(caught.value)


# -------------------------------------------------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("seed=5", "seed", 5),
        (" seed = 5 ", "seed", 5),
        ("training.learning_rate=1e-3", "training.learning_rate", 1e-3),
        ("training.learning_rate=1", "training.learning_rate", 1.0),
        ("model.name='a=b'", "model.name", "a=b"),
        ('model.name="a.b"', "model.name", "a.b"),
        ("evaluation.greedy=true", "evaluation.greedy", True),
        ('lora.targets=["q_proj"]', "lora.targets", ["q_proj"]),
        ("rewards={future_accuracy=2.0}", "rewards", {"future_accuracy": 2.0}),
        ("rewards.tag_count=0.5", "rewards.tag_count", 0.5),
        ("rollout.openings.max_tokens=9", "rollout.openings.max_tokens", 9),
        ('evaluation.benchmarks.mine.source="chain_sum"', "evaluation.benchmarks.mine.source", "chain_sum"),
        ("evaluation.benchmarks={}", "evaluation.benchmarks", {}),
    ],
)
def test_set_takes_any_toml_value(tmp_path: Path, change: str, path: str, value: object) -> None:
    found: Any = load(tmp_path, MINIMAL, "rewards.future_accuracy=1.0", change).model_dump()
    for key in path.split("."):
        found = found[key]
    assert found == value


def test_the_last_of_several_changes_wins(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL, "seed=5", "seed=6").seed == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "write key.path=value"),
        ("=5", "write key.path=value"),
        ("training..max_steps=5", "write key.path=value"),
        ("model.name=Qwen", "text needs quotes, e.g. --set 'model.name=\"Qwen\"'"),
        ("seed=", "is not a TOML value"),
        ("seed=1\nmodel=2", "is not a TOML value"),
        ("seed=1\n[model]", "is not a TOML value"),
        ("seed.deep=5", "seed is a value, not a table"),
        ("seed=" + "1" * 5000, "is not a TOML value"),
        ("seed=" + "[" * 3000, "is not a TOML value"),
    ],
    ids=lambda text: text[:20],
)
def test_a_change_that_cannot_be_read_is_named(tmp_path: Path, change: str, message: str) -> None:
    told = mistakes(tmp_path, "seed=1", change)
    assert message in told
    assert told.startswith(f"--set {change[:10]}")


@given(st.one_of(st.text(), st.from_regex(r"[a-z.]{0,9}=[\"'\[\]{}0-9a-z.\-:,\n]{0,20}", fullmatch=True)))
def test_any_text_given_to_set_is_taken_or_refused_with_our_own_error(change: str) -> None:
    settings: dict[str, Any] = {"seed": 1, "model": {"name": "x"}}
    try:
        apply_override(settings, change)
    except RecipeError as error:
        assert str(error).startswith("--set ")


# -------------------------------------------------------------------------------------- keys that do nothing

SINGLE = ['rollout.strategy="single_round"', 'evaluation.strategies=["single_round"]']
CHAIN, SAME = 'training.credit="chain"', "rollout.futures={temperature=1.0, top_p=1.0}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([], []),
        (["training.epsilon_high=0.28"], ["training.epsilon_high does nothing with training.num_iterations = 1"]),
        (
            ['training.importance_sampling_level="sequence"', "training.epsilon=0.1"],
            ["training.epsilon, training.importance_sampling_level do nothing with training.num_iterations = 1"],
        ),
        (["training.epsilon_high=0.28", "training.num_iterations=2"], []),
        (['training.loss_type="luspo"', 'training.importance_sampling_level="sequence"'], []),
        (["rollout.tail_tokens=20"], ["rollout.tail_tokens does nothing with rollout.strategy = 'multi_round'"]),
        (["rollout.tail_tokens=20", 'evaluation.strategies=["delethink"]'], []),
        (
            ["rollout.head_tokens=9", "rollout.tail_tokens=20", 'rollout.strategy="refine"', "rewards={tag_count=1}"],
            ["rollout.head_tokens, rollout.tail_tokens do nothing with rollout.strategy = 'refine'"],
        ),
        (['rollout.final_instruction="Box it."'], []),
        (
            [
                'rollout.final_instruction="Box it."',
                'rollout.strategy="single_round"',
                'evaluation.strategies=["single_round"]',
            ],
            ["rollout.final_instruction does nothing with rollout.strategy = 'single_round'"],
        ),
        (
            ["rollout.early_finish=true", "rollout.num_futures=7", *SINGLE],
            [
                "rollout.early_finish does nothing with rollout.strategy = 'single_round'",
                "rollout.num_futures does nothing with rollout.strategy = 'single_round'",
            ],
        ),
        (["rollout.early_finish=true", "rollout.num_futures=1", SINGLE[0]], []),
        (["rollout.num_futures=7", CHAIN, SAME], ["rollout.num_futures does nothing with training.credit = 'chain'"]),
        (["rollout.num_futures=1", CHAIN, SAME], []),
        (
            ["rollout.futures.temperature=0.0"],
            ["rollout.num_futures = 4 does no more than 1 with rollout.futures.temperature = 0"],
        ),
        (["rollout.futures.temperature=0.0", "rollout.num_futures=1"], []),
        (
            ['training.lr_schedule="constant"', "training.warmup_fraction=0.3"],
            ["training.warmup_fraction does nothing with training.lr_schedule = 'constant'"],
        ),
        (
            ['evaluation.strategies=["parallel"]', "rollout.num_rounds=4"],
            ["evaluation.greedy"],
        ),
        (
            [
                'rollout.strategy="parallel"',
                "rollout.num_rounds=4",
                "evaluation.greedy=false",
                "evaluation.num_samples=0",
                "evaluation.memorisation=0.5",
                "evaluation.validation={num_problems=4}",
            ],
            ["evaluation.validation without evaluation.num_samples, evaluation.memorisation"],
        ),
        (['training.lr_schedule="constant"', "training.warmup_fraction=0.0"], []),
        (['training.lr_schedule="constant_with_warmup"', "training.warmup_fraction=0.3"], []),
        *(
            (
                ["training.num_iterations=2", "training.epsilon=0.05", f'training.loss_type="{loss}"'],
                [f"training.epsilon does nothing with training.loss_type = '{loss}', which bounds no ratio from below"],
            )
            for loss in ("cispo", "sapo", "vespo")
        ),
        (["training.num_iterations=2", "training.epsilon=0.05"], []),
        (
            ["rollout.openings.top_p=0.95", "rollout.openings.top_k=20"],
            ["rollout.openings.top_p, rollout.openings.top_k"],
        ),
    ],
)
def test_keys_that_do_nothing_are_told(tmp_path: Path, changes: list[str], said: list[str]) -> None:
    recipe = load(tmp_path, MINIMAL, *changes)
    remarks = list(idle_keys.remarks(recipe, credit_of(recipe)))
    assert [remark.partition(":")[0] for remark in remarks] == said


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_nothing_is_said_of_what_ships(path: Path) -> None:
    recipe = checking.check(path, [])
    assert list(idle_keys.remarks(recipe, credit_of(recipe))) == []


def test_a_check_notes_them_beside_the_recipe() -> None:
    path = next(path for path in SHIPPED if path.stem == "tiny_cpu")
    done = CliRunner().invoke(cli.app, ["--recipe", str(path), "--set", "training.epsilon_high=0.28", "--check"])
    assert done.exit_code == 0
    assert done.stderr.startswith("note: training.epsilon_high does nothing with training.num_iterations = 1")
    assert tomllib.loads(done.stdout)["training"]["epsilon_high"] == 0.28


# ---------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.max_step=5", "training.max_step: unknown key; did you mean training.max_steps?"),
        ("trainin.max_steps=5", "trainin: unknown key; did you mean training?"),
        ("max_steps=5", "max_steps: unknown key; did you mean training.max_steps?"),
        ("rollout.opening.max_tokens=5", "rollout.opening: unknown key; did you mean rollout.openings?"),
        ("rollout.futures.temprature=1.0", "did you mean rollout.futures.temperature?"),
        ("lora.r=64", "lora.r: unknown key; "),
        ('evaluation.benchmarks.x={source="chain_sum", question="q"}', "evaluation.benchmarks.x.question: unknown key"),
        ('model.backend="unslot"', "there is no backend 'unslot' (did you mean 'unsloth'?); known: unsloth,"),
        ('rollout.strategy="rounds"', "rollout.strategy: there is no strategy 'rounds'"),
        ("rewards.future_acuracy=1.0", "there is no reward 'future_acuracy' (did you mean 'future_accuracy'?)"),
        ('evaluation.strategies=["multi"]', "evaluation.strategies.0: there is no strategy 'multi'"),
        ("training.max_steps=0", "training.max_steps: input should be greater than or equal to 1 (got 0)"),
        ("training.max_steps=1.5", "training.max_steps: input should be a valid integer"),
        ('training.max_steps="5"', "training.max_steps: input should be a valid integer (got '5')"),
        ("training.max_steps=true", "training.max_steps: input should be a valid integer"),
        ("training.learning_rate=nan", "training.learning_rate: input should be a finite number (got nan)"),
        ("training.learning_rate=inf", "training.learning_rate: "),
        ("training.weight_decay=inf", "training.weight_decay: input should be a finite number (got inf)"),
        ("training.warmup_fraction=1", "training.warmup_fraction: input should be less than 1"),
        ("rewards.future_accuracy=nan", "rewards.future_accuracy: input should be a finite number (got nan)"),
        ("rollout.futures.temperature=-1", "rollout.futures.temperature: "),
        ("rollout.futures.temperature=nan", "rollout.futures.temperature: "),
        ("rollout.futures.top_p=0", "rollout.futures.top_p: input should be greater than 0"),
        ("rollout.futures.min_p=1", "rollout.futures.min_p: input should be less than 1"),
        ("rollout.futures.stop=['']", "rollout.futures.stop.0: string should have at least 1 character"),
        ("rollout.futures.stop='</answer>'", "rollout.futures.stop: input should be a valid list"),
        ("rollout.num_rounds=1", "rollout.num_rounds: input should be greater than or equal to 2"),
        ("rollout.num_openings=1", "rollout.num_openings: "),
        ("seed=-1", "seed: input should be greater than or equal to 0"),
        ("seed=2147483648", "seed: input should be less than 2147483648"),
        ("evaluation.confidence=1", "evaluation.confidence: input should be less than 1"),
        ('training.optimizer="sgd"', "training.optimizer: input should be 'adamw_8bit',"),
        ("lora.targets=[]", "lora.targets: list should have at least 1 item"),
        ("rewards={}", "rewards: dictionary should have at least 1 item"),
        ('model.name=""', "model.name: string should have at least 1 character"),
        ("model={}", "model.name: must be given"),
        ("training=5", "training: "),
        ("training.micro_batch_size=3", "training.micro_batch_size = 3 does not divide the 8 openings of a step"),
        ("model.max_seq_length=2000", "model.max_seq_length = 2000 is smaller than rollout.max_prompt_tokens"),
        ("model.max_seq_length=3071", "leaves no room for a question of rollout.max_prompt_tokens = 1024"),
        ("rollout.openings.temperature=0", "makes all openings of a group the same"),
        ("rewards={future_accuracy=0}", "every weight is 0"),
        ('rollout={allocation="adaptiv"}', "rollout.allocation: input should be 'fixed' or 'adaptive' (got 'adaptiv')"),
        (
            'rollout={allocation="adaptive", num_futures=1}',
            '"adaptive" has nothing to share out with rollout.num_futures = 1; raise num_futures, or set rollout.',
        ),
        (
            'rollout={allocation="adaptive", strategy="single_round"}',
            'rollout.strategy = "single_round" has none; take multi_round, or set rollout.allocation = "fixed"',
        ),
        (
            'training={multi_objective_aggregation="normalize_then_sum", scale_rewards="batch"}',
            'set scale_rewards = "group", or multi_objective_aggregation = "sum_then_normalize"',
        ),
        ('evaluation={greedy=false, benchmarks={x={source="chain_sum"}}}', "set one of them"),
        (
            'training.credit="chains"',
            "training.credit: there is no credit 'chains' (did you mean 'chain'?); known: opening, chain, tree",
        ),
        (
            'training={credit="chain", micro_batch_size=5}',
            "micro_batch_size = 5 does not divide the 24 rounds of a step (problems_per_step * num_openings * 3 rounds",
        ),
        (
            'training.credit="chain"',
            "sampled in the same way; give futures what openings have, --set rollout.futures.temperature=1.0 --set ",
        ),
        ("training.until_tokens=0", "training.until_tokens: input should be greater than or equal to 1"),
        ("training.until_seconds=inf", "training.until_seconds: input should be a finite number"),
        ('evaluation.validation={source="chain_sum", marks=3}', "evaluation.validation.marks: unknown key; did you"),
        ("evaluation.benchmarks.x={num_problems=3}", "evaluation.benchmarks.x.source: must be given"),
    ],
)
def test_a_mistake_is_explained_with_its_key(tmp_path: Path, change: str, message: str) -> None:
    told = mistakes(tmp_path, change)
    assert message in told
    assert "recipe.toml: " in told.splitlines()[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("num_futures=1", "compares futures with each other, and rollout.num_futures = 1; raise num_futures, or set"),
        ('strategy="single_round"', 'trains later rounds, and rollout.strategy = "single_round" has none; take multi'),
        (
            'allocation="adaptive"',
            'trains futures, so openings cannot share them; set rollout.allocation = "fixed", or',
        ),
    ],
)
def test_what_later_rounds_cannot_be_trained_with_is_told_with_the_way_out(
    tmp_path: Path, change: str, message: str
) -> None:
    tree = ('training.credit="tree"', "rollout.futures.temperature=1.0", "rollout.futures.top_p=1.0")
    assert message in mistakes(tmp_path, *tree, f"rollout.{change}")


def test_later_rounds_are_not_trained_with_a_kl_penalty(tmp_path: Path) -> None:
    told = mistakes(tmp_path, 'training={credit="chain", beta=0.01}')
    assert "weighs rounds, and the KL penalty of TRL does not; set training.beta = 0, or set training.credit" in told


def test_the_rounds_of_a_step_are_counted_by_who_is_trained(tmp_path: Path) -> None:
    three = ("rollout.num_openings=8", "rollout.num_futures=4", "training.problems_per_step=2")
    counts, alike = {}, ("rollout.futures.temperature=1.0", "rollout.futures.top_p=1.0")
    for credit in ("opening", "chain", "tree"):
        recipe = load(tmp_path, MINIMAL, *three, f'training.credit="{credit}"', *alike)
        kind = credit_of(recipe)
        counts[credit] = kind.trained_per_step(recipe), kind.futures_per_opening(recipe)
    assert counts == {"opening": (16, 4), "chain": (48, 1), "tree": (16 * 9, 4)}


def test_openings_of_unsloth_end_at_a_stop_string_only_with_vllm_or_where_our_step_samples_them(tmp_path: Path) -> None:
    change = ("rollout.openings.stop=['</answer>']", 'model.backend="unsloth"')
    assert "Unsloth's openings end at an end of turn only; leave it out" in mistakes(tmp_path, *change)
    for other in ("model.fast_inference=true", "data.refill=1"):
        assert load(tmp_path, MINIMAL, *change, other).rollout.openings.stop == ["</answer>"]


@pytest.mark.parametrize(
    ("change", "suggested"),
    [
        ("training.num_generations=8", "rollout.num_openings"),
        ("save_steps=5", "training.save_every"),
        ("num_train_epochs=1", "training.max_steps or training.until_tokens"),
        ("training.temperature=1.0", "rollout.openings.temperature or rollout.futures.temperature"),
        ("rollout.temperature=1.0", "rollout.openings.temperature or rollout.futures.temperature"),
        ("evaluation.validation={temperature=1.0}", "evaluation.temperature"),
        ("rollout.max_tokens=9", "rollout.openings.max_tokens or rollout.futures.max_tokens"),
        ("lora.r=8", "lora.rank"),
        ("learning_rate=1e-5", "training.learning_rate"),
    ],
)
def test_a_name_of_trl_or_of_another_section_is_answered_with_the_key(
    tmp_path: Path, change: str, suggested: str
) -> None:
    assert f": unknown key; did you mean {suggested}?\n" in f"{mistakes(tmp_path, change)}\n"


def test_keys_of_a_table_that_the_recipe_has_not_are_not_suggested(tmp_path: Path) -> None:
    assert "warm_start" not in mistakes(tmp_path, "training.examples_per_step=4")
    told = mistakes(tmp_path, "training.examples_per_step=4", "warm_start={}")
    assert "did you mean warm_start.examples_per_step?" in told


def test_other_names_stand_for_keys_and_are_none() -> None:
    paths = {path for path, _, _ in keys.key_paths()}
    assert {key for there in OTHER_NAMES.values() for key in there} <= paths
    # A name that a key has, too, has to be one of sampling, which TRL does not give per round.
    assert OTHER_NAMES.keys() & {path.rpartition(".")[2] for path in paths} == {
        "temperature", "top_p", "top_k", "min_p",
    }  # fmt: skip


def test_the_glossary_has_the_same_names() -> None:
    text = (SHIPPED[0].parents[1] / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (`.*`) \|$", text, re.MULTILINE)
    assert {name: tuple(re.findall(r"`(.*?)`", told)) for name, told in rows} == OTHER_NAMES


def test_all_mistakes_are_told_at_once_each_on_a_line(tmp_path: Path) -> None:
    told = mistakes(tmp_path, "seed=-1", "training.max_step=5", "lora.rank=0", "data={}").splitlines()
    assert told[0].endswith("recipe.toml: 4 mistakes in the recipe")
    assert [line.split(":")[0].strip() for line in told[1:]] == ["seed", "lora.rank", "data.train", "training.max_step"]


def test_all_broken_rules_between_keys_are_told_at_once_each_on_a_line(tmp_path: Path) -> None:
    changes = ("training.micro_batch_size=5", "rollout.openings.temperature=0", "model.max_seq_length=99")
    told = mistakes(tmp_path, *changes, 'training.credit="chain"').splitlines()
    assert told[0].endswith("recipe.toml: 5 mistakes in the recipe")
    broken = ("is smaller than", "leaves no room", "makes all openings", "does not divide", "in the same way")
    assert all(part in line for part, line in zip(broken, told[1:], strict=True)), told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed = ", "is not valid TOML: Invalid value (at end of document)"),
        (b"seed = 1\nseed = 2\n", "is not valid TOML: Cannot overwrite a value (at line 2"),
        (b"\xff\xfe\x00", "cannot be read as a text file"),
        (b"seed = " + b"1" * 5000, "is not valid TOML"),
        (b"seed = " + b"[" * 3000, "is not valid TOML"),
        (b"", "2 mistakes in the recipe"),
    ],
    ids=lambda content: repr(content[:16]),
)
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "recipe.toml").write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        loading.load(tmp_path / "recipe.toml", [], checking.TABLES)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "recipe.toml"))


def test_a_study_in_place_of_a_recipe_is_told_in_one_line() -> None:
    path = SHIPPED[0].parents[1] / "studies" / "tiny_credit.toml"
    with pytest.raises(RecipeError) as caught:
        loading.load(path, ["training.max_steps=5"], checking.TABLES)
    assert str(caught.value) == f"{path}: this is a study: python run.py study {path}"


def test_differing_keys_are_found_in_both_directions(tmp_path: Path) -> None:
    one = load(tmp_path, MINIMAL, "rewards={future_accuracy=1.0}")
    other = load(tmp_path, MINIMAL, "rewards={future_accuracy=1.0, tag_count=1.0}", "seed=9")
    assert keys.differing_keys(one, one) == []
    assert set(keys.differing_keys(one, other)) == set(keys.differing_keys(other, one))
    assert {"seed", "rewards.tag_count"} <= set(keys.differing_keys(one, other))


@given(st.floats(), st.integers())
def test_no_number_gets_past_its_range(rate: float, seed: int) -> None:
    settings = tomllib.loads(MINIMAL) | {"seed": seed, "training": {"learning_rate": rate}}
    legal = 0 <= seed < 2**31 and math.isfinite(rate) and 0 < rate <= 1
    try:
        loading.validate(settings, checking.TABLES, origin="here")
        assert legal
    except RecipeError:
        assert not legal
