"""benchmarks/grading.py on a few replies: its answers are what it says of them, and its figures are printed."""

import pytest

from benchmarks import grading


def test_every_second_batch_of_answers_is_right_and_no_two_are_the_same() -> None:
    made = grading.pairs(2 * len(grading.FORMS), 50, seed=1)
    assert grading.one_at_a_time(made) == [False] * len(grading.FORMS) + [True] * len(grading.FORMS)
    assert len({reply for _, reply in made}) == len(made)
    assert all(150 <= len(reply) <= 350 for _, reply in made)


def test_what_it_measures_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["grading.py", "--replies", "2", "--tokens", "50", "--repeats", "1"])
    grading.main()
    told = capsys.readouterr().out
    for words in ("2 replies of 50 tokens, 0 right", "one at a time", "all at once", "% of a step whose rest takes"):
        assert words in told
