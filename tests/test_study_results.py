"""What a study finds in the directories of its runs, and how it says it."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from motif_lite.evaluation.differences import over_seeds
from motif_lite.runs import software
from motif_lite.runs.records import Subject
from motif_lite.runs.software import Software
from motif_lite.study import plot as study_plot
from motif_lite.study import report as study_report
from motif_lite.study import results as study_results
from motif_lite.study import schedule, tuning
from motif_lite.study import table as study_table
from motif_lite.study.plan import StudyPlan
from motif_lite.study.sentences import is_at_an_end, sentences
from tests import records
from tests.studies import plan, pretend

KEPT = ("table.md", "table.json", "plot.svg")
VARIANTS = {"base": {"train": False}, "plain": {}, "wide": {"label": "k = 8"}}


def right(number: int) -> list[bool]:
    """Ten test problems, of which so many are right."""
    return [place < number for place in range(10)]


@pytest.fixture
def finished(tmp_path: Path) -> StudyPlan:
    """Three seeds; ``wide`` gains 10, 20 and 30 points on the reference, and is where that ends before half of it."""
    made = plan(tmp_path, seeds=[1, 2, 3], variants=VARIANTS)
    for seed in (1, 2, 3):
        pretend(made, made.final_run("base", seed, None), right(2))
        pretend(made, made.final_run("plain", seed, None), right(5), [(0, 0.2), (500, 0.3), (1000, 0.5)])
        pretend(made, made.final_run("wide", seed, None), right(5 + seed), [(0, 0.2), (1000, 0.9 + seed / 100)])
    return made


def test_every_figure_of_a_run_is_read(finished: StudyPlan) -> None:
    found = study_results.results(finished)
    assert (found["num_runs_done"], found["num_runs"]) == (9, 9)
    wide = found["variants"]["wide"]
    assert (wide["label"], wide["trains"], wide["strategy"], wide["tuned"]) == ("k = 8", True, "multi_round", None)
    assert wide["accuracy"]["mean"] == pytest.approx(0.7)
    assert wide["accuracy"] == {"mean": pytest.approx(0.7), "interval": pytest.approx((0.41682, 0.88399), abs=1e-4),
                                "num_seeds": 3}  # fmt: skip
    assert wide["means"] == {"tokens": 1000, "trained_tokens": 250, "steps": 1, "answer_tokens": 30}
    assert wide["seeds"]["1"]["prompts"] == {"openings": 8}
    assert found["variants"]["base"]["means"]["tokens"] == 0
    assert found["sources"]["test"] == {"source": "chain_sum", "num_problems": 400}


def test_a_variant_is_compared_over_seeds_and_on_the_same_problems(finished: StudyPlan) -> None:
    wide = study_results.results(finished)["comparisons"]["wide"]
    assert wide["over_seeds"]["mean"] == pytest.approx(0.2)
    assert wide["over_seeds"]["interval"] == pytest.approx((-0.0484, 0.4484), abs=1e-4)
    assert (wide["same_problems"]["num_better"], wide["same_problems"]["num_worse"]) == (6, 0)
    assert wide["same_problems"]["p_value"] == pytest.approx(2 * 0.5**6)


def test_all_tests_of_a_table_are_corrected_together(finished: StudyPlan) -> None:
    found = study_results.results(finished)["comparisons"]
    base, wide = found["base"], found["wide"]
    assert wide["to_the_references_end"]["at_half"]["p_value_holm"] == pytest.approx(4 * 0.0023, abs=1e-4)
    assert base["same_problems"]["p_value_holm"] == pytest.approx(3 * 2 * 0.5**9)
    assert wide["same_problems"]["p_value_holm"] == pytest.approx(2 * 2 * 0.5**6)
    assert wide["over_seeds"]["p_value_holm"] == pytest.approx(0.0742, abs=1e-4)
    assert base["over_seeds"]["p_value_holm"] is None, "it has no spread, so no p-value"
    page = study_table.table(study_results.results(finished))
    assert "Holm's correction is over all 4 p-values of this page" in page


def test_how_soon_a_variant_is_where_the_reference_ends(finished: StudyPlan) -> None:
    wide = study_results.results(finished)["comparisons"]["wide"]["to_the_references_end"]
    # at 500 of 1000 tokens: (0.2 + 0.91) / 2 = 0.555 and so on, where the reference ends at 0.5
    assert wide["at_half"]["mean"] == pytest.approx(0.06)
    # both are there at their last mark; the variant may have been since 0, the reference was not yet at 500
    assert wide["reach"] == {
        "num_seeds": 3, "num_in_noise": 0, "num_reached": 3,
        "share": pytest.approx(1), "interval": pytest.approx([0, 2]),
    }  # fmt: skip
    assert study_results.results(finished)["comparisons"]["base"]["to_the_references_end"] == {}


def test_the_table_has_a_row_per_variant_and_says_what_is_allowed(finished: StudyPlan) -> None:
    page = study_table.table(study_results.results(finished))
    assert page.startswith("# A | study\n\nWhich is better?\n")
    assert "Partial" not in page
    assert "| k = 8 | 70.0 [41.7, 88.4] | 60.0 | 70.0 | 80.0 | 1,000 | 250 | 1.0 | 30.0 |" in page
    assert "| k = 8 | +20.0 [-4.8, +44.8] | 0.074 | 0.074 |" in page
    assert "- base and plain: -30.0 points over 3 seeds, the same on each: no spread to judge by, no claim." in page
    assert "- k = 8 and plain cannot be told apart: +20.0 [-4.8, +44.8] points over 3 seeds" in page
    assert "k = 8 is +6.0 [+4.8, +7.2] points from plain's end; the interval excludes zero (p = 0.009 after" in page
    assert "stays there, on each seed, after 100 % [0, 200] of the tokens that plain takes." in page
    assert "| k = 8 | +6.0 [+4.8, +7.2] | 0.002 | 0.009 | 100 % [0, 200] |" in page


@pytest.mark.parametrize(
    ("gains", "corrected", "said"),
    [
        ([], None, "A and B: not measured yet."),
        ([0.1], None, "A and B: +10.0 points; one seed: no claim."),
        ([0.0, 0.0], None, "A and B are equal on each of 2 seeds."),
        ([0.1, 0.2, 0.3], 0.1, "A and B cannot be told apart: +20.0 [-4.8, +44.8] points over 3 seeds; the interval "
         "contains zero."),
        ([0.19, 0.20, 0.21], 0.01, "A is better than B by 20.0 points [17.5, 22.5] over 3 seeds; the interval excludes "
         "zero (p = 0.010 after Holm's correction)."),
        ([-0.19, -0.20, -0.21], 0.0001, "A is worse than B by 20.0 points [17.5, 22.5] over 3 seeds; the interval "
         "excludes zero (p < 0.001 after Holm's correction)."),
        ([0.19, 0.20, 0.21], 0.2, "A is better than B by 20.0 points [17.5, 22.5] over 3 seeds; the interval excludes "
         "zero, but of so many comparisons one may do so by chance (p = 0.200 after Holm's correction): a hint, no "
         "proof."),
    ],
)  # fmt: skip
def test_the_words_claim_no_more_than_the_figures(gains: list[float], corrected: float | None, said: str) -> None:
    test = asdict(over_seeds(gains, 0.95)) | {"p_value_holm": corrected}
    found = {
        "reference": "b", "confidence": 0.95, "past_its_best": {},
        "variants": {name.lower(): {"label": name, "trains": True, "means": {"tokens": 100}} for name in "AB"},
        "comparisons": {"a": {"against": "b", "over_seeds": test, "to_the_references_end": {}}},
    }  # fmt: skip
    assert sentences(found) == [said]


def test_a_half_that_stands_alone_but_not_among_all_tests_is_a_hint() -> None:
    half = asdict(over_seeds([0.19, 0.20, 0.21], 0.95)) | {"p_value_holm": 0.2}
    found = {
        "reference": "b", "confidence": 0.95, "past_its_best": {},
        "variants": {name.lower(): {"label": name, "trains": True, "means": {"tokens": 100}} for name in "AB"},
        "comparisons": {"a": {
            "against": "b",
            "over_seeds": asdict(over_seeds([], 0.95)),
            "to_the_references_end": {"at_half": half, "reach": {"num_seeds": 3, "num_in_noise": 1}},
        }},
    }  # fmt: skip
    assert sentences(found)[1] == (
        "With half of B's training tokens, A is +20.0 [+17.5, +22.5] points from B's end; the interval excludes zero, "
        "but of so many comparisons one may do so by chance (p = 0.200 after Holm's correction): a hint, no proof. How "
        "soon it gets there is not said, as that end is within noise of the start on 1 of 3 seeds."
    )


def test_a_variant_is_compared_with_the_one_that_it_names_and_models_as_they_are_by_problem(tmp_path: Path) -> None:
    variants = {
        "plain": {"train": False}, "long": {"train": False, "strategy": "single_round", "times_tokens": 2,
                 "label": "1 round, 2 x tokens"},
        "rounds": {"train": False, "against": "long", "label": "2 rounds"},
    }  # fmt: skip
    made = plan(tmp_path, seeds=[1], variants=variants)
    for name, number in (("plain", 2), ("long", 3), ("rounds", 10)):
        pretend(made, made.final_run(name, 1, None), right(number))
    found = study_results.results(made)
    rounds = found["comparisons"]["rounds"]
    assert (rounds["against"], rounds["same_problems"]["num_better"]) == ("long", 7)
    assert found["comparisons"]["long"]["against"] == "plain"
    page = study_table.table(found)
    against_plain, against_long = page.partition("## Against plain")[2].split("## Against 1 round, 2 x tokens")
    assert against_plain.count("\n| 1 round, 2 x tokens | +10.0 |") == 1 and "\n| 2 rounds |" not in against_plain
    assert against_long.count("\n| 2 rounds | +70.0 |") == 1
    assert "Brackets are 95 % intervals over problems: there is one seed." in page
    assert "| 2 rounds | 100.0 [72.2, 100.0] | 100.0 |" in page, "with the study's confidence, whatever the run's"
    assert "- 1 round, 2 x tokens and plain cannot be told apart: +10.0 [-" in page
    assert "- 2 rounds is better than 1 round, 2 x tokens by 70.0 points [" in page
    assert "over 10 problems; the interval excludes zero (p = 0.031 after Holm's correction)." in page
    assert "- long: tiny_cpu.toml, not trained, measured as single_round, with the tokens of 2 rounds; no" in page


def test_models_as_they_are_without_a_problem_in_common_are_not_compared(tmp_path: Path) -> None:
    """A variant may change the benchmark's source, or take its problems' twins."""
    made = plan(tmp_path, seeds=[1], variants={"plain": {"train": False}, "other": {"train": False, "label": "twins"}})
    for name in ("plain", "other"):
        run = made.final_run(name, 1, None)
        others = [records.graded(f"{name}/{number}") for number in range(10)]
        pretend(made, run, right(10)).write_graded(Subject("chain_sum", "multi_round", "sampled"), "before", others)
    page = study_table.table(study_results.results(made))
    assert "- twins and plain have no problem in common: not compared." in page
    assert "| twins | +0.0 | - | - | - | - | - | - |" in page


def test_a_reference_that_ends_below_its_best_is_told_seed_by_seed(tmp_path: Path) -> None:
    """Also where the mean curve ends at its highest."""
    made = plan(tmp_path, seeds=[1, 2, 3], variants=VARIANTS)
    for seed, end in ((1, 0.9), (2, 0.9), (3, 0.4)):
        pretend(made, made.final_run("plain", seed, None), marks=[(0, 0.2), (500, 0.6), (1000, end)])
    found = study_results.results(made)
    assert found["past_its_best"] == {"3": {"cost": 500, "best": 0.6, "end": 0.4}}
    assert (
        "- On validation problems plain ends below its best mark, by more than noise, on 1 of 3 seeds (seed 3: 60.0 % "
        "after 500 tokens, 40.0 % at last). There its end is easily beaten." in study_table.table(found)
    )


def test_twins_of_one_problem_are_one_problem_on_all_seeds(tmp_path: Path) -> None:
    """Its numbers differ from seed to seed, and it is as hard on each."""
    source = 'evaluation.benchmarks={chain_sum={source="gsm8k",twins="instead"}}'
    made = plan(tmp_path, seeds=[1, 2], variants=VARIANTS, set=[source])
    subject = Subject("chain_sum", "multi_round", "sampled")
    for seed in (1, 2):
        for name, number in (("plain", 5), ("wide", 8)):
            twins = [
                records.graded(f"gsm8k-twin/{place}", place < number, question=f"{seed} and {place}?")
                for place in range(10)
            ]
            pretend(made, made.final_run(name, seed, None), right(number)).write_graded(subject, "after", twins)
    found = study_results.results(made)
    assert found["comparisons"]["wide"]["same_problems"]["num_problems"] == 10
    assert found["all_seeds_have_the_same_problems"]
    assert "All seeds are measured on the same problems: figures over seeds say what" in study_table.table(found)


def test_seeds_that_lack_problems_of_each_other_are_compared_on_what_both_variants_have(tmp_path: Path) -> None:
    """A variant's longer prompts may leave problems out."""
    made = plan(tmp_path, seeds=[1], variants=VARIANTS)
    subject = Subject("chain_sum", "multi_round", "sampled")
    for name, places in (("plain", range(10)), ("wide", range(5, 10))):
        graded = [records.graded(f"{place}", place >= 8) for place in places]
        pretend(made, made.final_run(name, 1, None), right(2)).write_graded(subject, "after", graded)
    found = study_results.results(made)
    assert found["comparisons"]["wide"]["over_seeds"]["mean"] == 0
    assert not found["all_seeds_have_the_same_problems"], "there is one seed"


def test_budgets_differ_also_between_variants_of_one_label(tmp_path: Path) -> None:
    made = plan(tmp_path, seeds=[1], variants={"plain": {}, "a": {"label": "chain"}, "b": {"label": "chain"}})
    for name, tokens in (("plain", 400), ("a", 100), ("b", 400)):
        pretend(made, made.final_run(name, 1, None), tokens=tokens)
    assert "Budgets differ: from 100 (chain) to 400 (plain) tokens" in study_table.table(study_results.results(made))


def test_the_end_of_a_list_is_told_among_its_numbers_alone() -> None:
    tried = [{"value": value} for value in ("auto", 4, 8, 16)]
    at = {value: is_at_an_end({"value": value, "candidates": tried}) for value in ("auto", 4, 8, 16)}
    assert at == {"auto": False, 4: True, 8: False, 16: True}


def test_where_intervals_over_seeds_are_too_narrow_the_table_says_for_whom(finished: StudyPlan) -> None:
    assert "Over 3 seeds, intervals are too narrow where some runs collapse" in study_table.table(
        study_results.results(finished)
    )
    run = finished.final_run("wide", 3, None)
    shutil.rmtree(run.root)
    pretend(finished, run, right(0))
    assert "(docs/statistics.md). Here that concerns k = 8.\n" in study_table.table(study_results.results(finished))


def test_the_versions_are_those_that_the_runs_wrote_down(finished: StudyPlan) -> None:
    """Not those of the machine that writes the table."""
    for run in (finished.final_run("plain", seed, None) for seed in (1, 2, 3)):
        lines = [Software(packages={"torch": "1.2.3"}).model_dump_json()]
        (run.root / "software.jsonl").write_text("\n".join(lines) + "\n")
    software.note(finished.final_run("plain", 3, None).root)
    found = study_results.results(finished)["software"]
    assert [each["num_runs"] for each in found] == [6, 3, 1], "the last went on with what is installed here"
    page = study_table.table(study_results.results(finished))
    assert "- versions: not recorded by 6 runs\n" in page
    assert "- versions, as recorded by 3 runs: torch 1.2.3\n" in page


def test_unequal_budgets_are_said(tmp_path: Path) -> None:
    made = plan(tmp_path, variants=VARIANTS)
    pretend(made, made.final_run("plain", 1, None), tokens=1000)
    pretend(made, made.final_run("wide", 1, None), tokens=2000)
    assert "- Budgets differ: from 1,000 (plain) to 2,000 (k = 8) tokens generated in training." in study_table.table(
        study_results.results(made)
    )


def test_partial_results_are_marked_and_compare_the_seeds_that_both_have(finished: StudyPlan) -> None:
    shutil.rmtree(finished.final_run("wide", 2, None).root)
    shutil.rmtree(finished.final_run("plain", 3, None).root)
    found = study_results.results(finished)
    assert "**Partial: 7 of 9 runs are done.**" in study_table.table(found)
    assert found["comparisons"]["wide"]["over_seeds"]["num_seeds"] == 1
    assert "k = 8 and plain: +10.0 points; one seed: no claim." in study_table.table(found)


def test_a_study_that_has_not_begun_has_a_table_and_figures(tmp_path: Path) -> None:
    made = plan(tmp_path)
    study_report.write(made)
    assert "Partial: 0 of 6" in (made.out / "table.md").read_text()
    assert (made.out / "plot.svg").read_text().startswith("<?xml")


def test_results_are_the_same_bytes_whenever_and_wherever_they_are_made(finished: StudyPlan, tmp_path: Path) -> None:
    study_report.write(finished)
    first = {name: (finished.out / name).read_bytes() for name in KEPT}
    moved = StudyPlan(
        finished.study, tmp_path / "elsewhere" / "test.toml", tmp_path / "elsewhere" / "out", finished.strategies
    )
    shutil.move(finished.out, moved.out)
    study_report.write(moved)
    renamed = {name: page.replace(tmp_path.name.encode(), b"elsewhere") for name, page in first.items()}
    assert {name: (moved.out / name).read_bytes() for name in KEPT} == renamed, "but for the folder of the study file"


def test_seconds_are_kept_out_of_what_is_the_same_everywhere(finished: StudyPlan) -> None:
    study_report.write(finished)
    assert '_seconds"' not in (finished.out / "table.json").read_text()
    assert str(finished.out) not in "".join((finished.out / name).read_text() for name in KEPT)
    cost = json.loads((finished.out / "cost.json").read_text())["variants"]["wide"]
    assert cost["means"] == {"training_seconds": 10, "tokens_per_second": 100, "evaluation_seconds": 1.25}
    assert cost["peak_memory_bytes"] == {"update": 2**30}
    assert cost["to_the_references_end"]["reach"]["share"] == pytest.approx(1)
    assert "| k = 8 | 10 | 100 | 1 | 1.00 |" in (finished.out / "cost.md").read_text()


def test_the_figure_names_every_variant_with_its_final_accuracy_and_says_what_bands_are(finished: StudyPlan) -> None:
    drawn = study_plot.by_tokens(study_results.results(finished))
    assert all(f"<!-- {label} -->" in drawn for label in ("plain: 50.0 %", "k = 8: 70.0 %", "base: 20.0 %"))
    assert "<!-- (bands: 95 % t interval over seeds) -->" in drawn


# ------------------------------------------------------------------------------------------------- tuning

TUNED: dict[str, Any] = {
    "seeds": [1, 2],
    "tune": {"key": "training.learning_rate", "values": [1e-4, 5e-4, 1e-3], "seeds": [101, 102]},
    "variants": VARIANTS | {"fixed": {"tune": False}},
}


def tune(made: StudyPlan, variant: str, *accuracies: tuple[float, float]) -> None:
    for run, accuracy in zip(made.tuning_runs(variant), [a for pair in accuracies for a in pair], strict=True):
        pretend(made, run, marks=[(0, 0.99), (100, accuracy)])


def test_every_trained_variant_picks_the_value_with_the_best_end_on_validation(tmp_path: Path) -> None:
    made = plan(tmp_path, **TUNED)
    tune(made, "plain", (0.5, 0.7), (0.6, 0.6), (0.9, 0.1))
    assert tuning.picked(made, "plain") == 1e-4, "of equal means the first"
    tune(made, "wide", (0.1, 0.1), (0.2, 0.3), (0.2, 0.4))
    assert tuning.picked(made, "wide") == 1e-3
    assert schedule.known_run(made, "wide", 2) == made.final_run("wide", 2, 1e-3)
    assert tuning.picked(made, "fixed") is None
    run = made.final_run("wide", 2, 1e-3)
    assert run.resolved().training.learning_rate == 1e-3
    assert made.final_run("fixed", 2, None).resolved().training.learning_rate == 5e-4
    pretend(made, run)
    found = study_results.results(made)
    assert found["variants"]["wide"]["tuned"]["candidates"][1] == {"value": 5e-4, "accuracy": 0.25, "share": 1.0}
    page = study_table.table(found)
    assert "| k = 8 | 10.0 | 25.0 | 30.0 | 0.001* |" in page, "an asterisk: the end of the list"
    assert "| k = 8 | 0.001* | 50.0 |" in page


def test_the_runs_that_count_wait_until_their_value_is_picked(tmp_path: Path) -> None:
    made = plan(tmp_path, **TUNED)
    assert schedule.known_run(made, "plain", 1) is None
    assert [run.name for run in schedule.missing(made)][-4:] == [
        "base, seed 1", "fixed, seed 1", "base, seed 2", "fixed, seed 2",
    ]  # fmt: skip
    assert schedule.num_left(made) == made.num_runs == 2 * 2 * 3 + 4 * 2


def test_tuning_never_looks_at_the_test_problems(tmp_path: Path) -> None:
    made = plan(tmp_path, **TUNED)
    recipes = [run.resolved() for run in made.tuning_runs("plain")]
    assert not any(recipe.evaluation.before or recipe.evaluation.after for recipe in recipes)
    assert {(recipe.training.learning_rate, recipe.seed) for recipe in recipes} == {
        (rate, seed) for rate in (1e-4, 5e-4, 1e-3) for seed in (101, 102)
    }
    assert made.tuning_runs("base") == made.tuning_runs("fixed") == []
