"""The explorer in a real browser: list, filters, search, tree, comparison, a run that goes on, hostile replies."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from motif_lite.jobs import checking, view_job
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.rollout_lines import RolloutLine
from tests import browser, records
from tests.fakes import GOOD_FORM

RECIPE = checking.check(
    Path(__file__).parents[1] / "recipes" / "tiny_cpu.toml", ["rollout.num_openings=2", "training.micro_batch_size=2"]
)
HOSTILE = (
    "</pre></script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    "<a href=\"javascript:document.title='taken'\">x</a> \x1b]0;taken\x07 \u202e \ud800 "
    "$\\href{javascript:document.title='taken'}{x}$ $\\includegraphics{http://192.0.2.1/x.png}$ "
    "\\(\\htmlStyle{background:url(http://192.0.2.1)}{x}\\) " + "long " * 200_000
)


def turn(reply: str, *, cut: bool = False) -> dict[str, object]:
    return {"prompt": f"prompt of {reply[:9]}", "reply": reply, "tokens": 7, "finish": "length" if cut else "stop"}


def lines(step: int, problem: str, word: str, *, accuracies: tuple[float, float] = (1.0, 0.0)) -> list[RolloutLine]:
    rounds = [turn(f"second {word}"), turn("third \\(\\frac{1}{2}\\) \\boxed{2}")]
    return [
        records.rollout(
            step, problem=problem, question=f"What is {problem}?", opening=turn(GOOD_FORM.format(f"{word} {accuracy}")),
            rewards={"future_accuracy": accuracy}, futures_used=1, accuracy=accuracy, interval=(0.0, 1.0),
            futures=({"rounds": rounds, "correct": bool(accuracy)},),
        )
        for accuracy in accuracies
    ]  # fmt: skip


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Tab]:
    with browser.opened(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunDirectory.create(tmp_path / "run <b>", RECIPE, "")
    for step in range(1, 41):
        made.append_rollouts(lines(step, f"p/{step % 10}", f"word{step}"))
    made.append_rollouts(lines(41, "p/equal", "same", accuracies=(1.0, 1.0)))
    return made


@contextmanager
def served(run: RunDirectory) -> Iterator[str]:
    with view_job.job(run.root).server(0, lambda done, total: None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.url
        server.shutdown()


def opened_file(tab: browser.Tab, run: RunDirectory) -> None:
    file = run.root / "page.html"
    view_job.job(run.root).write(file, lambda done, total: None)
    tab.size(1200, 800)
    tab.go(file.as_uri())
    tab.wait("document.querySelectorAll('.row').length > 0")


def steps(tab: browser.Tab) -> str:
    return str(tab.evaluate("[...document.querySelectorAll('.row b:first-child')].map(b => b.textContent).join()"))


def typed(tab: browser.Tab, name: str, value: str) -> None:
    tab.evaluate(
        f"(() => {{const i = document.getElementById('{name}'); i.value = '{value}';"
        "i.dispatchEvent(new Event('input', {bubbles: true}))})()"
    )


def test_list_filters_search_and_tree_of_a_file(tab: browser.Tab, run: RunDirectory) -> None:
    opened_file(tab, run)
    assert "41 of 41 groups" in tab.evaluate("document.getElementById('summary').textContent")
    typed(tab, "signal", "0")
    assert steps(tab) == "step 41"
    tab.evaluate("document.querySelector('button[type=reset]').click()")
    tab.wait("document.getElementById('summary').textContent.startsWith('41 of')")
    typed(tab, "problem", "p/3")
    assert steps(tab) == "step 33,step 23,step 13,step 3"
    typed(tab, "problem", "")
    typed(tab, "search", "SECOND word7")
    tab.wait("document.getElementById('summary').textContent.startsWith('1 of 41')")
    assert steps(tab) == "step 7"
    tab.evaluate("document.querySelector('.row').click()")
    tab.wait("document.querySelectorAll('.opening').length === 2")
    assert tab.evaluate("document.querySelector('mark').textContent") == "second word7"
    assert tab.evaluate("document.querySelectorAll('.opening')[0].className").endswith("earned-high")
    assert tab.evaluate("document.querySelectorAll('.opening')[1].className").endswith("earned-low")
    assert tab.evaluate("document.querySelectorAll('.opening .future .round').length") == 4
    assert tab.evaluate("document.querySelectorAll('.katex .mfrac').length") == 2
    assert tab.evaluate(
        "document.querySelector('.show-prompt').click(), document.querySelector('.prompt').innerText"
    ) == ("prompt of <reasonin")


def test_the_keyboard_opens_and_compares_one_problem_at_two_steps(tab: browser.Tab, run: RunDirectory) -> None:
    opened_file(tab, run)
    tab.key("j")
    tab.wait("document.querySelector('h2')?.textContent === 'Step 41'")
    tab.key("j")
    tab.wait("document.querySelector('h2')?.textContent === 'Step 40'")
    tab.key("c")
    tab.wait("document.querySelectorAll('.columns.two h2').length === 2")
    assert tab.evaluate("[...document.querySelectorAll('h2')].map(h => h.textContent).join()") == "Step 40,Step 10"
    tab.key("[")
    tab.wait("document.querySelector('h2').textContent === 'Step 30'")
    tab.size(390, 800)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    tab.key("Escape")
    tab.wait("document.getElementById('list').offsetHeight > 0")


def test_hostile_replies_are_text(tab: browser.Tab, run: RunDirectory) -> None:
    bad = turn(HOSTILE)
    run.append_rollouts(
        records.rollout(
            50, problem=HOSTILE[:300], question=HOSTILE, gold=HOSTILE[:99], opening=bad, rewards={"tag_count": 0.0},
            futures=({"rounds": [bad, bad], "correct": False},),
        )
        for _ in range(2)
    )  # fmt: skip
    tab.seen.clear()
    opened_file(tab, run)
    title = tab.evaluate("document.title")
    tab.evaluate("document.querySelector('.row').click()")
    tab.wait("document.querySelectorAll('.opening').length === 2")
    tab.evaluate("document.querySelectorAll('.show-prompt').forEach(b => b.click())")
    tab.evaluate("document.querySelectorAll('.more').forEach(b => b.click())")
    time.sleep(0.2)
    assert tab.evaluate("document.title") == title == "Rollouts of run <b>"
    assert tab.evaluate("document.querySelectorAll('main img, main script, main a, main iframe').length") == 0
    assert "\x1b" not in tab.evaluate("document.body.innerText")
    assert "onerror=" in tab.evaluate("document.querySelector('.opening .text').textContent")
    requests = [each["request"]["url"] for each in tab.events("Network.requestWillBeSent")]
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert tab.events("Runtime.exceptionThrown") == []


def test_a_run_is_followed_while_it_trains(tab: browser.Tab, run: RunDirectory) -> None:
    tab.size(1200, 800)
    with served(run) as url:
        tab.go(url)
        tab.wait("document.getElementById('summary')?.textContent.startsWith('41 of 41')")
        run.append_rollouts(lines(42, "p/new", "fresh"))
        tab.wait("document.getElementById('summary').textContent.startsWith('42 of 42')")
        assert steps(tab).startswith("step 42")
        run.forget_after(40)  # as a resumed run does
        tab.wait("document.getElementById('summary').textContent.startsWith('40 of 40')")
        tab.evaluate("document.querySelector('.row').click()")
        tab.wait("document.querySelector('h2')?.textContent === 'Step 40'")
        tab.go("about:blank")


def test_what_was_opened_and_found_is_forgotten_where_a_resumed_run_has_cut_steps_off(
    tab: browser.Tab, run: RunDirectory
) -> None:
    tab.seen.clear()
    with served(run) as url:
        tab.go(url)
        tab.wait("document.getElementById('summary')?.textContent.startsWith('41 of 41')")
        tab.evaluate("document.querySelector('.row').click()")
        tab.wait("document.querySelector('h2')?.textContent === 'Step 41'")
        typed(tab, "search", "second word4")  # steps 4 and 40
        tab.wait("document.getElementById('summary').textContent.startsWith('2 of 41')")
        tab.evaluate("complain('a group is damaged', open)")
        run.forget_after(20)
        run.append_rollouts(lines(21, "p/new", "word4 again"))
        tab.wait("document.getElementById('summary').textContent === '2 of 21 groups · 21 steps'")
        assert steps(tab) == "step 21,step 4"
        assert tab.evaluate("document.querySelectorAll('h2').length") == 0
        for key in ("[", "]", "c"):
            tab.key(key)
        assert tab.evaluate("document.getElementById('problem-message').textContent") == "a group is damaged"
        assert tab.events("Runtime.exceptionThrown") == []
        tab.go("about:blank")


def test_a_future_that_ended_with_its_opening_is_shown(tab: browser.Tab, run: RunDirectory) -> None:
    run.append_rollouts([
        records.rollout(
            42, problem="p/short", opening=turn("\\boxed{2}"), rewards={"future_accuracy": 1.0},
            futures=({"rounds": [], "correct": True},),
        )
        for _ in range(2)
    ])  # fmt: skip
    opened_file(tab, run)
    tab.evaluate("document.querySelector('.row').click()")
    tab.wait("document.querySelector('h2')?.textContent === 'Step 42'")
    assert tab.evaluate("document.querySelector('.future summary').textContent") == (
        "future 1: rightended with its opening"
    )
