"""Plans for a card by its name: what the table knows, which attention is charged, and what a whole run takes."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from motif_lite.commands import plan as plan_command
from motif_lite.errors import RecipeError
from motif_lite.jobs import checking
from motif_lite.planning import cards, hardware, planner, projection, shapes, speeds, timing
from motif_lite.planning.machine import Machine
from motif_lite.planning.planner import Plan
from motif_lite.planning.rows import Lengths
from motif_lite.recipe.keys import changed
from motif_lite.recipe.schema import Recipe

ROOT = Path(__file__).parents[1]
GSM8K = ROOT / "recipes" / "motif_gsm8k.toml"


A_CALL = 0.45
"""Seconds that a call of the engine takes whatever it writes, measured on an H100."""


def recipe(*changes: str) -> Recipe:
    return checking.check(GSM8K, ["training.micro_batch_size=1", *changes])


def plan_of(given: Recipe, card: str, *, decodes: bool = True) -> Plan:
    """Args: decodes: The engine can take the model over; otherwise Unsloth's `generate` writes."""
    shape = replace(shapes.of(given.model.name), decodes=decodes)
    return planner.make(given, shape, hardware.machine_of(given, cards.named(card)))


# ------------------------------------------------------------------------------------------ the table


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("RTX 3090", "RTX 3090"), ("NVIDIA GeForce RTX 3090", "RTX 3090"), ("rtx3090", "RTX 3090"),
        ("3090", "RTX 3090"),
        ("Tesla T4", "T4"), ("RTX 4060 Ti 16 GB", "RTX 4060 Ti 16GB"), ("RTX 3060", "RTX 3060 12GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"), ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
    ],
)  # fmt: skip
def test_a_card_is_found_by_what_people_and_drivers_call_it(said: str, meant: str) -> None:
    assert cards.named(said).name == meant


def test_a_card_that_comes_in_sizes_is_asked_about_and_an_unknown_one_listed() -> None:
    with pytest.raises(RecipeError, match="RTX 4060 Ti 8GB, RTX 4060 Ti 16GB"):
        cards.named("RTX 4060 Ti")
    with pytest.raises(RecipeError, match=r"RTX 3090.*--vram 24"):
        cards.named("Radeon VII")


def test_the_drivers_card_has_its_own_speed_and_another_that_of_a_3090() -> None:
    """A laptop's card has the name of a desktop's, and half of its speed."""
    here = speeds.assumed(Machine("cuda", 15.6, "NVIDIA GeForce RTX 4060 Ti"))
    assert here.card is not None
    assert here.card.name == "RTX 4060 Ti 16GB"
    for name in ("NVIDIA GeForce RTX 4090 Laptop GPU", "a GPU of 24 GiB"):
        assert speeds.assumed(Machine("cuda", 15.6, name)).card == cards.DEFAULT


def test_every_card_has_a_source_and_plausible_figures() -> None:
    assert len({card.name for card in cards.CARDS}) == len(cards.CARDS)
    for card in cards.CARDS:
        assert card.source in cards.SOURCES
        assert cards.named(card.name) == card
        assert 7 < card.memory_gib < 200
        assert 0.03 < card.tflops / card.gigabytes_per_second < 0.5


# ------------------------------------------------------------------------------------------ the attention


@pytest.mark.parametrize(
    ("card", "changes", "slow"),
    [
        ("RTX 3090", (), {"futures"}),
        ("RTX 3090", ("training.problems_per_step=2",), {"openings", "futures"}),
        ("T4", (), {"openings", "futures"}),
        ("H100", (), set()),
        ("RTX 3090", ("rollout.max_width=1",), set()),
        ("RTX 3090", ('model.backend="transformers"',), set()),
    ],
)
def test_math_attention_is_charged_where_unsloth_falls_to_it(
    monkeypatch: pytest.MonkeyPatch, card: str, changes: tuple[str, ...], slow: set[str]
) -> None:
    """Another version of Unsloth than the pinned one, against attention that moves every key and value once."""
    given = recipe(*changes)
    monkeypatch.setattr(speeds, "_LAUNCHING", 0.1e-3)  # a host that does not make the GPU wait
    once = plan_of(given, card, decodes=False)
    monkeypatch.setattr(timing, "groups_queries", lambda: False)
    found = plan_of(given, card, decodes=False)
    assert {phase for phase in found.seconds if found.seconds[phase] > once.seconds[phase]} == slow


def test_launching_kernels_bounds_a_token_step_of_unsloths_from_below() -> None:
    """1.9 ms for each of 36 layers, for 1,024 tokens of openings; reading prompts and drawing come on top."""
    found = plan_of(recipe(), "H200", decodes=False)
    assert found.seconds["openings"] == pytest.approx(1024 * 36 * 1.9e-3, rel=0.05)


def test_a_recorded_token_step_takes_what_was_measured() -> None:
    """On an H100, 32 wide, 700 columns at most: 6.3 ms, and 11.7 where 4-bit weights are dequantised anew.

    That was greedy; at temperature 1 drawing takes 0.2 ms more.
    """
    given = recipe("rollout.num_openings=32", "rollout.openings={max_tokens=96}", "rollout.max_prompt_tokens=552")
    for weights, milliseconds in {"16bit": 6.5, "4bit": 11.9}.items():
        found = plan_of(changed(given, {"rollout.weights": weights}), "H100")
        assert 1e3 * (found.seconds["openings"] - A_CALL) / 96 == pytest.approx(milliseconds, rel=0.1)


def test_every_call_of_the_engine_has_its_fixed_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of three rounds has three calls; Unsloth's `generate` has none of it."""
    for decodes, calls in ((True, 3), (False, 0)):
        with monkeypatch.context() as patched:
            with_it = sum(plan_of(recipe(), "H200", decodes=decodes).seconds.values())
            patched.setattr(timing, "_CALL", 0.0)
            without = sum(plan_of(recipe(), "H200", decodes=decodes).seconds.values())
        assert with_it - without == pytest.approx(calls * A_CALL)


# ------------------------------------------------------------------------------------------ the whole run


def test_evaluation_before_and_after_is_part_of_the_whole() -> None:
    given = recipe()
    found = plan_of(given, "RTX 3090")
    evaluated = list(checking.evaluated(given, checking.expected_problems(given)))
    assert sum(each.num_trajectories * each.times for each in evaluated) == 2 * 2 * 530
    whole = projection.planned(found, evaluated, Lengths.worst(given))
    assert whole.step == found.seconds
    assert whole.total == pytest.approx(300 * sum(found.seconds.values()) + sum(whole.evaluation.values()))
    never = changed(given, {"evaluation.before": False})
    half = projection.planned(
        found, list(checking.evaluated(never, checking.expected_problems(never))), Lengths.worst(given)
    )
    assert sum(half.evaluation.values()) == pytest.approx(sum(whole.evaluation.values()) / 2)


def test_typical_replies_take_less_time_and_never_exceed_the_limits() -> None:
    given = recipe()
    found = plan_of(given, "RTX 3090")
    times = [projection.planned(found, [], Lengths.typical(given, tokens)).total for tokens in (100, 250, 1000, 10**6)]
    assert times == sorted(times)
    assert times[0] < times[1] < 0.5 * times[3]
    # A short first prompt leaves more of a later one to be read than the longest would.
    assert times[3] <= 1.03 * projection.planned(found, [], Lengths.worst(given)).total


def test_the_engine_fills_rows_and_generate_waits_for_the_longest_reply() -> None:
    """64 replies of 100 tokens, the longest 200, 32 at a time: two calls of 200 steps, or 300 steps of the engine."""
    given = recipe("rollout.max_width=32", "training.problems_per_step=2", "rollout.num_rounds=2")
    seconds = {
        decodes: projection.planned(
            plan_of(given, "H200", decodes=decodes), [], Lengths.typical(given, 100)
        ).step["futures"]
        for decodes in (False, True)
    }  # fmt: skip
    drawing = 1.0e-3
    assert seconds[False] == pytest.approx(400 * (36 * 1.9e-3 + drawing), rel=0.1)
    assert seconds[True] == pytest.approx(300 * (36 * 0.105e-3 + 1.8e-3 + drawing) + A_CALL, rel=0.1)


def test_unsloths_check_of_packed_rows_holds_the_logits_of_a_whole_one() -> None:
    """2,048 tokens, 151,936 words, 2 bytes and 4: 1.87 GB, however many chunks there are; the 8 GB recipe has room."""
    eight = checking.memory_plan(
        ROOT / "recipes" / "motif_gsm8k_8gb.toml", ["training.logit_chunks=16", "training.micro_batch_size=1"], 7.5
    )
    assert eight.estimate.phases["update"]["logits"] == 2048 * 151_936 * 6
    assert eight.fits


def test_the_screen_names_card_attention_total_and_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("def problems(role, seed):\n    return [{'question': 'q', 'answer': '1'}]\n")
    own = tmp_path / "own.toml"
    own.write_text(f'extends = "{GSM8K}"\n[evaluation.benchmarks.own]\nsource = "mine.py:problems"\n')
    monkeypatch.setattr(timing, "attends_by_math", lambda *_: True)
    plan_command.show(own, [], None, "RTX 3090", 250)
    shown = " ".join(capsys.readouterr().out.split())
    assert "on RTX 3090" in shown
    assert "55 KB per token of context" in shown
    assert "for evaluation =" in shown
    assert "not counted: evaluation of own" in shown
    assert "replies of 250 tokens" in shown


@pytest.mark.parametrize(
    ("name", "most_hours"),
    [
        ("motif_gsm8k", 12), ("motif_gsm8k_16gb", 30), ("motif_gsm8k_12gb", 48), ("motif_gsm8k_8gb", 105),
        ("grpo_gsm8k", 16), ("motif_chain_gsm8k", 14), ("motif_evening", 2), ("motif_evening_12gb", 5), ("motif_t4", 3),
        ("motif_chain_evening", 3), ("audit_motif", 11),
    ],
)  # fmt: skip
def test_a_recipe_takes_as_long_as_it_says(name: str, most_hours: int) -> None:
    """By the plan, for the card that it names: another figure there would be a promise that nothing keeps.

    An audit trains nothing.
    """
    path = ROOT / "recipes" / f"{name}.toml"
    text = path.read_text().replace("\n# ", " ")
    said = re.search(r"plan, an? ([\w ]+?) takes about (\d+) h (\d+) min", text)
    assert said is not None
    assert "nothing ending early" in text
    found = checking.memory_plan(path, [], None, said[1])
    assert found.fits
    evaluated = list(checking.evaluated(found.recipe, checking.expected_problems(found.recipe)))
    planned = projection.planned(found, evaluated, Lengths.worst(found.recipe))
    total = sum(planned.evaluation.values()) if found.recipe.evaluation.audit else planned.total
    assert math.ceil(total / 60) == 60 * int(said[2]) + int(said[3])
    assert total <= 3600 * most_hours


def test_two_cards_are_one_too_many() -> None:
    with pytest.raises(RecipeError, match="--vram and --gpu"):
        plan_command.show(GSM8K, [], 24.0, "RTX 3090", None)
