"""benchmarks/rollout.py on a model of 60 thousand weights: what is measured, written and printed."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import rollout
from benchmarks.contenders import Case, rate_for
from benchmarks.floor import floor
from motif_lite.planning.shapes import ModelShape

SMALL = ModelShape(2, 32, 64, num_heads=4, attention_dim=32, kv_dim=16, vocab_size=512)
CASES = [
    Case("60k", 64, 6, 8, repeats=2, num_alone=8),
    Case("60k", 16, 32, 64, is_spread=True, repeats=2),
]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two cases leave behind."""
    path = tmp_path_factory.mktemp("benchmark") / "new" / "rollout.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")  # to be put back
        patch.setitem(rollout.SIZES, "60k", SMALL)
        patch.setattr(rollout, "QUICK", CASES)
        rollout.main(["--quick", "--json", str(path)])
    return path


def results(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["results"])


def shown(path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    rollout.main(["--show", "--json", str(path), *flags])
    return capsys.readouterr().out.splitlines()


def test_every_contender_is_timed_in_every_repetition(figures: Path) -> None:
    for case, result in zip(CASES, results(figures), strict=True):
        for contender in ("alone", "wide", "engine"):
            assert len(result[f"{contender}_seconds"]) == case.repeats
            assert min(result[f"{contender}_seconds"]) > 0


def test_the_table_fits_its_width_and_marks_what_was_extrapolated(
    figures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(figures, capsys)
    assert max(map(len, lines)) <= 120
    (heading,) = [line for line in lines if line.startswith(" model")]
    assert [name for name in rollout.COLUMNS if name not in heading] == []
    whole, extrapolated = [line for line in lines if line.startswith(" 60k")]
    assert "~" not in whole
    assert "~" in extrapolated


def test_markdown_has_the_same_cells_and_a_verdict_on_every_target(
    figures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(figures, capsys, "--markdown")
    assert len([line for line in lines if line.startswith("| 60k |")]) == len(CASES)
    verdicts = [line for line in lines if line.startswith("- ")]
    assert len([line for line in verdicts if "not measured" in line]) == 5
    assert len([line for line in verdicts if "in all of these cases" in line and "x" in line]) == 1


def test_spread_lengths_have_the_mean_that_was_asked_for(figures: Path) -> None:
    fixed, spread = results(figures)
    assert fixed["num_tokens"] == [8 * 6, 8 * 6]
    assert sum(spread["num_tokens"]) / (2 * 64) == pytest.approx(32 / 4, rel=0.25)
    assert len(set(spread["num_tokens"])) == 2, "every repetition draws lengths of its own"


def test_the_engine_reads_less_than_it_is_given(figures: Path) -> None:
    fixed, _ = results(figures)
    assert fixed["prompt_tokens"] == 8 * 64
    assert 32 + 2 * 31 <= fixed["read_tokens"] - 8 < 8 * 64 / 2  # two openings that share their first half


@pytest.mark.parametrize(("mean", "limit"), [(8, 32), (64, 256), (1, 4)])
def test_the_stop_rate_gives_the_mean(mean: float, limit: int) -> None:
    rate = rate_for(mean, limit)
    assert sum((1 - rate) ** step for step in range(limit)) == pytest.approx(mean)


def test_the_floor_reads_what_prompts_share_once_and_the_weights_in_every_step() -> None:
    prompt = list(range(40))
    one, same = floor(SMALL, [prompt], [4]), floor(SMALL, [prompt, prompt], [4, 4])
    assert same.reading[0] == one.reading[0]
    assert same.writing[0] == pytest.approx(2 * one.writing[0])
    longer = floor(SMALL, [prompt, prompt], [4, 8])
    assert longer.writing[1] > 1.5 * same.writing[1]
    assert one.seconds == max(one.reading) + max(one.writing)
