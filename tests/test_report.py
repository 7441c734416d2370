"""The report: complete by itself, and whatever a model wrote is text in it."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from motif_lite.jobs import checking
from motif_lite.monitor import findings
from motif_lite.monitor.finding import Finding
from motif_lite.rollout.rollouts import Rollouts
from motif_lite.runs.directory import RunDirectory
from motif_lite.training import step_metrics
from motif_lite.training.step_metrics import PerformedStep
from motif_lite.views import report
from motif_lite.views.explorer import page as explorer_page
from tests import records
from tests.fakes import GOOD_FORM, opening, problem

CHANGES = ["rollout.num_openings=2", "training.micro_batch_size=2", "rewards={future_accuracy=1.0, tag_count=1.0}"]
RECIPE = checking.check(Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml", CHANGES)
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}{% raw %} \x1b[2J \ud800 \\boxed{2}"


class Page(HTMLParser):
    """Which tags a page has, and whether each that was opened is closed."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "a <b>run</b>", RECIPE, "")


def train(run: RunDirectory, reply: str, *, steps: int = 2) -> None:
    rewards = {"future_accuracy": [2.0, 0.0], "tag_count": [0.5, 0.0]}
    for step in range(1, steps + 1):
        rollouts = Rollouts(
            tuple(opening(reply, [reply, GOOD_FORM.format("\\boxed{2}")], of=problem(reply, "2")) for _ in range(2))
        )
        seconds, peaks = {"openings": 1.0, "futures": 2.0, "update": 1.0}, {"update": 2**30}
        done = PerformedStep(
            step, rollouts, rewards, seconds=seconds, peak_bytes=peaks, planned_bytes=peaks, trainer_logs={"loss": 0.1}
        )
        run.append_metrics(step_metrics.summarize(RECIPE, done, lambda *_: None))
        run.append_rollouts(step_metrics.lines(RECIPE, done))


def written(run: RunDirectory) -> str:
    report.write(RECIPE, run)
    return run.report.read_text(encoding="utf-8")


def test_the_report_of_a_whole_run_has_the_accuracies_the_plots_the_cost_and_the_recipe(run: RunDirectory) -> None:
    train(run, "a plain reply")
    run.write_evaluation(records.evaluation())
    text = written(run)
    page = Page(text)
    assert page.open == []
    assert page.tags.count("svg") == 7
    samples = "400 \N{MULTIPLICATION SIGN} 1"
    for part in ("60.0 %", "[55.0, 65.0]", "+50.0 [+40.0, +60.0]", "12,345", samples, "not measured",
                 "<td>1.0</td><td>1.0</td>", "a plain reply", "[rollout.openings]"):  # fmt: skip
        assert part in text


def test_accuracy_along_the_way_is_drawn_against_tokens_and_seconds_and_its_cost_counted(run: RunDirectory) -> None:
    train(run, "a reply")
    for step, accuracy in enumerate((0.3, 0.5, 0.7)):
        run.append_mark(records.mark(step, accuracy))
    text = written(run)
    page = Page(text)
    assert page.tags.count("svg") == 7 + 1
    assert "<title>tokens 1000\nheld out: 0.5 [0.4, 0.6]</title>" in text
    assert "Held-out accuracy by seconds of training" in text
    assert "<td>validation</td><td>450</td><td>15,000</td>" in text


def test_steps_whose_trajectories_all_ended_early_have_the_shape_of_the_others(run: RunDirectory) -> None:
    train(run, "a reply", steps=1)
    ended = Rollouts(tuple(opening(GOOD_FORM.format("\\boxed{2}"), of=problem("q", "2")) for _ in range(2)))
    rewards = {"future_accuracy": [2.0, 2.0], "tag_count": [0.5, 0.5]}
    done = PerformedStep(2, ended, rewards, seconds={"update": 1.0})
    line = step_metrics.summarize(RECIPE, done, lambda *_: None)
    run.append_metrics(line)
    run.append_rollouts(step_metrics.lines(RECIPE, done))
    assert line.accuracy_by_round == (1.0, 1.0, 1.0)
    assert line.round_correct == (1.0, None, None)
    assert "Right answer by round" in written(run)


def test_what_a_model_wrote_is_text_and_nothing_else(run: RunDirectory) -> None:
    train(run, HOSTILE)
    text = written(run)
    page = Page(text)
    assert page.open == []
    assert not {"script", "img", "b"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(1)" in text
    assert "{{ 7*7 }}" in text, "no template of a reply is evaluated"
    assert "\x1b" not in text


def test_the_page_needs_nothing_from_anywhere(run: RunDirectory) -> None:
    train(run, "https://example.org/ is only text here")
    run.write_evaluation(records.evaluation())
    text = written(run)
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name == "src"]
    links = [value or "" for name, value in page.attributes if name in ("href", "xlink:href")]
    assert [link for link in links if not link.startswith("#")] == []
    assert re.findall(r"@import|url\((?!#)", text) == []


def test_it_leads_to_the_page_of_all_rollouts_where_there_is_one(run: RunDirectory) -> None:
    train(run, "a reply")
    assert "rollouts.html" not in written(run)
    explorer_page.write(RECIPE, run, run.root / explorer_page.PAGE)
    assert ("href", "rollouts.html") in Page(written(run)).attributes


@pytest.mark.parametrize("evaluated", [False, True])
@pytest.mark.parametrize("steps", [0, 1])
def test_it_can_be_written_with_whatever_the_run_has_so_far(run: RunDirectory, steps: int, evaluated: bool) -> None:
    train(run, "reply", steps=steps)
    if evaluated:
        run.write_evaluation(records.evaluation())
    text = written(run)
    assert Page(text).open == []
    assert ("Nothing has been measured" in text) is not evaluated
    assert ("<svg" in text) is (steps > 0)
    assert "<b>run</b>" not in text


def test_warnings_stand_in_the_report_and_where_there_are_none_it_says_so(run: RunDirectory) -> None:
    train(run, "a plain reply", steps=1)
    usual = run.metrics()[-1].model_copy(update={"groups_on_form_alone": 0.0})
    for step in range(2, 12):
        run.append_metrics(usual.model_copy(update={"step": step}))
    assert "None: replies kept their form" in written(run)
    for step in range(12, 24):
        run.append_metrics(usual.model_copy(update={"step": step, "cut_off": {"openings": 0.9, "futures": 0.0}}))
    text = written(run)
    assert "<b>first rounds are cut off</b>: the share that reaches the token limit rose from 0 %" in text
    assert "--set rollout.openings.max_tokens=70" in text
    assert "None: replies kept" not in text
    assert Page(text).open == []


def test_what_the_recipe_says_is_text_in_a_remedy_too(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    train(run, "a plain reply")
    finding = Finding("<b>name</b>", 1, "<i>text</i>", "--set a='\"<script>\"'")
    monkeypatch.setattr(findings, "diagnose", lambda *_: [finding])
    page = Page(written(run))
    assert not {"i", "script"} & set(page.tags)
    assert page.tags.count("b") == 1, "ours"
