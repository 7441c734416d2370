"""Controls: which claims survive, a vote at equal tokens as a variant, and one study around any recipe."""

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from motif_lite.errors import StudyError
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.records import GradedReply, Subject
from motif_lite.study import file, results
from motif_lite.study import plan as study_plan
from motif_lite.study import report as study_report
from motif_lite.study.claims import claims
from motif_lite.study.live import print_plan
from motif_lite.study.table import table
from motif_lite.study.votes import votes
from tests import records
from tests.faults.nursery import Nursery
from tests.studies import SETTINGS, TINY, plan, pretend

CONTROLS = Path(__file__).parents[1] / "studies" / "controls.toml"


# ---------------------------------------------------------------------------------------------------------------- votes


def samples(problem: str, *answers: str, tokens: int = 10) -> list[GradedReply]:
    return [
        GradedReply(
            problem=problem, question="?", gold="1", correct=answer == "1", tokens=tokens,
            replies=(f"\\boxed{{{answer}}}",), finish=("stop",),
        )
        for answer in answers
    ]  # fmt: skip


def measured(num_samples: int, tokens: int) -> Any:
    subject = Subject("chain_sum", "single_round", "sampled")
    return records.measurement(
        0.5, **subject._asdict(), when="before", num_problems=2, num_samples=num_samples, num_correct=1,
        interval=(0.0, 1.0), generated_tokens=tokens, seconds=1.0,
    )  # fmt: skip


def test_as_many_samples_vote_as_cost_an_answer_of_the_reference() -> None:
    graded = {"a": samples("a", "1", "2", "1", "2", "2"), "b": samples("b", "2", "1", "2", "1", "1")}
    found = votes(measured(10, 100), graded, measured(4, 122))
    assert (found.size, found.wanted, found.tokens) == (3, 3, 30)
    assert found.outcomes == {"a": [True], "b": [False]}


def test_a_vote_of_too_few_samples_says_how_many_it_wanted() -> None:
    found = votes(measured(10, 100), {"a": samples("a", "2", "1", "1")}, measured(1, 1000))
    assert (found.size, found.wanted, found.outcomes) == (3, 100, {"a": [True]})


# --------------------------------------------------------------------------------------------------------------- claims


def said(
    mean: float, interval: tuple[float, float] | None, p_value: float = 0.001, seeds: int = 3, gains: Any = None
) -> str:
    test = {"num_seeds": seeds, "mean": mean, "interval": interval, "p_value": p_value, "p_value_holm": p_value}
    variants = {
        "own": {"label": "random rewards", "claim": "rewards teach", "memorisation": [], "seeds": {}},
        "ref": {"label": "trained", "claim": None, "memorisation": [], "seeds": {}},
        "base": {"label": "base", "claim": None, "memorisation": [], "seeds": {}},
    }
    found = {
        "reference": "ref", "confidence": 0.95, "variants": variants, "all_seeds_have_the_same_problems": False,
        "comparisons": {"own": {"over_seeds": test, "gains": gains}},
    }  # fmt: skip
    [sentence] = claims(found)
    assert "rewards teach (" in sentence
    return sentence.partition("**: ")[0].strip("*")


@pytest.mark.parametrize(
    ("test", "standing"),
    [
        ((-0.2, (-0.3, -0.1)), "Survives"),
        ((-0.2, (-0.3, -0.1), 0.06), "A hint, no proof"),
        ((-0.1, (-0.3, 0.1)), "Undecided"),
        ((-0.4, (-0.9, 0.1)), "Undecided"),
        ((0.1, (-0.06, 0.26)), "Undecided"),
        ((0.0, (-0.05, 0.05)), "Does not survive"),
        ((0.1, (-0.01, 0.21)), "Does not survive"),
        ((0.0, None), "Does not survive"),
        ((0.2, (0.1, 0.3)), "Does not survive, the opposite holds"),
        ((-0.2, None), "No spread over seeds, no claim"),
        ((-0.2, None, 0.5, 1), "One seed, no claim"),
        ((0.0, None, 0.5, 0), "Not measured yet"),
    ],
)
def test_a_claim_survives_only_where_the_reference_is_better(test: tuple[Any, ...], standing: str) -> None:
    assert said(*test) == standing


@pytest.mark.parametrize(
    ("against", "gain", "its", "standing"),
    [
        # arXiv 2506.10947: random rewards give 21 of 29 points, and the true ones significantly more
        ((-0.08, (-0.1, -0.06)), (0.29, (0.27, 0.31)), (0.21, (0.19, 0.23)), "Survives in part"),
        ((-0.29, (-0.31, -0.27)), (0.29, (0.27, 0.31)), (0.0, (-0.02, 0.02)), "Survives"),
        ((-0.29, (-0.31, -0.27)), (0.0, (-0.02, 0.02)), (-0.29, (-0.31, -0.27)), "Nothing to explain"),
        ((-0.29, (-0.31, -0.27)), (0.2, (-0.05, 0.45)), (-0.09, (-0.3, 0.12)), "Undecided"),
        ((-0.1, (-0.15, -0.05)), (0.3, (0.1, 0.5)), (0.2, (-0.01, 0.41)), "Survives at least in part"),
        ((-0.1, (-0.15, -0.05)), (0.3, (0.1, 0.5)), (0.2, None), "Survives in part"),
        ((-0.1, (-0.15, -0.05)), (0.3, None), (0.2, (0.1, 0.3)), "Survives in part"),
        ((0.0, (-0.02, 0.02)), (0.29, (0.27, 0.31)), (0.29, (0.27, 0.31)), "Does not survive"),
    ],
)
def test_a_control_is_judged_by_its_share_of_the_gain(
    against: tuple[Any, ...], gain: tuple[Any, ...], its: tuple[Any, ...], standing: str
) -> None:
    gains = {"over": "base"} | {
        name: {"mean": mean, "interval": interval} for name, (mean, interval) in (("reference", gain), ("own", its))
    }
    mean, interval = against
    assert said(mean, interval, gains=gains) == standing


# ------------------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"wide": {"vote": True}}, "variants.wide.vote: is for a variant with train = false"),
        ({"plain": {"train": False, "vote": True}}, "variants.plain.vote: is for a variant"),
        ({"plain": {"claim": "it is good"}}, "variants.plain.claim: claims are made against the reference"),
        ({"wide": {"gain_over": "base"}}, "variants.wide.gain_over: is about a claim"),
        ({"wide": {"claim": "it is good", "gain_over": "bass"}}, "variants.wide.gain_over: there is no variant 'bass'"),
        ({"wide": {"claim": "it is good", "gain_over": "plain"}}, "variants.wide.gain_over: must be a variant"),
        ({"plain": {"optional": True}}, "variants.plain.optional: others are compared with it"),
        (
            {"wide": {"against": "base"}, "base": {"train": False, "optional": True}},
            "variants.base.optional: others are compared with it",
        ),
    ],
)
def test_a_vote_or_claim_where_it_makes_no_sense_is_refused(
    variants: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        file.Study.model_validate(SETTINGS | {"variants": SETTINGS["variants"] | variants})


def test_a_word_that_is_wrong_leaves_no_variant_out(tmp_path: Path) -> None:
    misspelt = tmp_path / "controls.toml"
    misspelt.write_text(CONTROLS.read_text().replace("tag_count", "tag_cont").replace("../recipes", str(TINY.parent)))
    with pytest.raises(StudyError, match=r"variants form: .*\n.*tag_cont"):
        study_plan.load(misspelt)


def test_around_another_recipe_the_study_takes_its_benchmarks_and_has_a_folder_of_its_own(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'extends = "{TINY}"\n[evaluation.benchmarks.hard]\nsource = "chain_sum"\nnum_problems = 10\n')
    made = study_plan.load(CONTROLS, recipe=recipe)
    assert (made.study.benchmark, made.study.also) == ("chain_sum", ["hard"])
    assert made.out == CONTROLS.with_suffix("") / "mine"
    assert {made.recipe_of(name) for name in made.study.variants} == {recipe}
    assert study_plan.load(CONTROLS).out == CONTROLS.with_suffix("")


DELETHINK = (
    f'extends = "{TINY}"\n[rollout]\nstrategy = "delethink"\nhead_tokens = 4\ntail_tokens = 20\n'
    "[rewards]\nfuture_accuracy = 1.0\n"
)
NO_FORM = "form alone is left out, as its recipe is refused: rewards tag_count, soft_format, strict_format judge"


def test_around_a_recipe_whose_replies_have_no_form_the_other_controls_remain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(DELETHINK)
    made = study_plan.load(CONTROLS, tmp_path / "out", recipe)
    assert list(made.study.variants) == ["trained", "base", "random", "vote"]
    assert made.num_runs == 4 * 3
    found = results.results(made)
    page = table(found)
    assert f"- **Not tested**: the gain is more than a better form. {NO_FORM}" in page
    assert str(tmp_path) not in page
    print_plan(Console(width=300), made)
    assert NO_FORM in capsys.readouterr().out


def test_a_recipe_that_is_wrong_in_itself_is_not_what_a_variant_is_left_out_for(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(DELETHINK.replace("future_accuracy", "tag_count"))
    with pytest.raises(StudyError, match=r"(?s)variants trained, base, vote: .*tag_count judge the form"):
        study_plan.load(CONTROLS, recipe=recipe)


def test_a_further_benchmark_that_a_recipe_lacks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        CONTROLS.read_text()
        .replace('also = "all"', 'also = ["chain_sun"]')
        .replace("../recipes/tiny_cpu.toml", str(TINY))
    )
    with pytest.raises(StudyError, match=r"no benchmark 'chain_sun' \(did you mean 'chain_sum'\?\)"):
        study_plan.load(path)


def test_a_table_says_which_claims_survive_and_what_the_base_gave_away(tmp_path: Path) -> None:
    variants = {
        "plain": {},
        "base": {"train": False, "claim": "training helps", "set": ["evaluation.memorisation=0.6"]},
        "vote": {"train": False, "vote": True, "strategy": "single_round", "claim": "it beats a vote"},
    }
    made = plan(tmp_path, variants=variants, seeds=[1, 2, 3])
    for seed in (1, 2, 3):
        for name in variants:
            right = (True,) * 9 + (seed > 1,) if name == "plain" else (False,) * 9 + (True,)
            directory = pretend(made, made.final_run(name, seed, None), right)
            if name == "base":
                probed(directory)
    found = results.results(made)
    assert found["variants"]["vote"]["seeds"]["1"]["votes"] == 1
    page = table(found)
    assert "## Which claims survive" in page
    assert "- **Survives**: training helps (plain less base: +" in page
    assert "- **Survives**: it beats a vote (plain less vote: +" in page
    assert "base was shown the first 60 % of each question: it wrote the rest of 50.0 % word for word" in page


def probed(directory: RunDirectory) -> None:
    from motif_lite.evaluation.memorisation import FILE, Completion
    from motif_lite.runs.files import append_records

    append_records(directory.root / FILE, (
        Completion(
            benchmark="chain_sum", problem=str(number), shown="a", rest="b", written="b", exact=exact, rouge_l=1.0,
            answer="", correct=False,
        )
        for number, exact in enumerate((True, False))
    ))  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- for real


def test_one_command_runs_all_controls_around_a_recipe_and_says_what_survives(
    nursery: Nursery, tiny_folder: Path, tmp_path: Path
) -> None:
    """With one seed, so that no claim can be made, and one step."""
    recipe, study = tmp_path / "mine.toml", tmp_path / "controls.toml"
    recipe.write_text(
        f'extends = "{TINY}"\n[training]\nmax_steps = 1\nproblems_per_step = 2\nmicro_batch_size = 16\n'
        "[evaluation.benchmarks.chain_sum]\nnum_problems = 8\n"
        '[evaluation.benchmarks.again]\nsource = "chain_sum"\nnum_problems = 6\n'
    )
    text = CONTROLS.read_text()
    study.write_text(text.replace("seeds = [1, 2, 3]", "seeds = [1]").replace("=32", "=6"))
    done = nursery.run("study", str(study), "--recipe", str(recipe), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / study_report.TABLE).read_text()
    assert page.count("**One seed, no claim**") == 4
    assert "was shown the first 60 % of each question" in page
    assert "on 6 test problems" in (tmp_path / "out" / "table-again.md").read_text()
    assert "One seed, no claim: training makes the model better" in done.stdout
