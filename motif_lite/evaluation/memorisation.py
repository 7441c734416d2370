"""Has the model seen a benchmark? It is shown the first part of each question, and asked for the rest and the answer.

As in "Reasoning or Memorization?" (arXiv 2507.10532): the beginning of a question, without any chat template, is
continued greedily, and what is written is compared with the rest of the question, exactly and by ROUGE-L; and the
beginning alone is put to the model as if it were the question (here greedily, with ``rollout.strategy``). Nobody can
know what was not shown, so completions that are exact, and answers that are right more often than a guess, come from
memory.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from motif_lite.context import RunContext
from motif_lite.evaluation import intervals
from motif_lite.evaluation.measuring import announce, settings_of
from motif_lite.grading.answers import grade, is_correct
from motif_lite.nouns import Problem, Sampling
from motif_lite.recipe.schema import Recipe
from motif_lite.rollout.rollouts import derive_seed
from motif_lite.rollout.strategies import strategy_of
from motif_lite.rollout.thinking import think
from motif_lite.runs import inputs
from motif_lite.runs.directory import RunDirectory
from motif_lite.runs.files import as_line, each_record, write_whole
from motif_lite.runs.records import Interval, Record, Settings, Subject, Versioned

FILE = "memorisation.jsonl"

_FEWEST_WORDS = 5
"""Of a question that is divided between words; one of fewer is divided between characters."""

_CHANGED = "its problems, rollout.strategy or settings have changed, or an early version measured it"

_MORE_TOKENS = 4
"""Than the rest of a question has: another spelling may take more."""


class Completion(Versioned):
    """A question of which the beginning was shown.

    Attributes:
        rest: What was not shown.
        written: How the model went on, as far as the rest is long.
        exact: It is the rest, spacing aside.
        rouge_l: F-measure of their longest common subsequence of words, from 0 to 1.
        answer: The final text on the beginning as a question.
        correct: Whether that is the answer to the whole question.
        strategy: That answered.
        settings: That it was asked with; None, as is the strategy, where an early version measured.
    """

    benchmark: str
    problem: str
    shown: str
    rest: str
    written: str
    exact: bool
    rouge_l: float
    answer: str
    correct: bool
    strategy: str | None = None
    settings: Settings | None = None


class Found(Record):
    """What a benchmark's completions say.

    Attributes:
        exact: Share of completions that are, with its interval.
        correct: Share of answers that are, with its interval.
    """

    benchmark: str
    num_problems: int
    exact: float
    exact_interval: Interval
    rouge_l: float
    correct: float
    correct_interval: Interval


def probe(context: RunContext, benchmarks: Mapping[str, Sequence[Problem]]) -> None:
    """Show the first part of each question, unless that was done, and keep what came of it."""
    share = context.recipe.evaluation.memorisation
    if share is None:
        return
    done = list(each_record(context.run.root / FILE, Completion))
    lines: list[Completion] = []
    for name, all_problems in benchmarks.items():
        problems = [problem for problem in all_problems if len(problem.question.strip()) > 1]
        parts = [divided(problem.question, share) for problem in problems]
        kept = [each for each in done if each.benchmark == name]
        asked_with = _asked_with(context.recipe, name, problems)
        asked = [(problem.id, *part, *asked_with) for problem, part in zip(problems, parts, strict=True)]
        if [(each.problem, each.shown, each.rest, each.strategy, each.settings) for each in kept] != asked:
            if kept:
                context.observer.note(f"note: memorisation, {name}: {_CHANGED}; all of it is measured again")
            kept = _completions(context, name, problems, parts)
        lines += kept
        write_whole(context.run.root / FILE, map(as_line, lines))
        for found in kept_of(context.recipe, context.run):
            if found.benchmark == name:
                context.observer.note(in_words(found, share))


def _asked_with(recipe: Recipe, benchmark: str, problems: Sequence[Problem]) -> tuple[str, Settings]:
    """The strategy and the settings that beginnings are asked with."""
    strategy = recipe.rollout.strategy
    subject = Subject(benchmark, strategy, "greedy")
    settings = settings_of(recipe, subject, recipe.evaluation.benchmarks[benchmark])
    return strategy, settings.model_copy(update={"problems": inputs.of_problems(problems)})


def kept_of(recipe: Recipe, run: RunDirectory) -> list[Found]:
    """What a run has found, by benchmark; nothing where no recipe asked for it."""
    by_benchmark: dict[str, list[Completion]] = {}
    for each in each_record(run.root / FILE, Completion):
        by_benchmark.setdefault(each.benchmark, []).append(each)
    return [_found(name, lines, recipe.evaluation.confidence) for name, lines in by_benchmark.items()]


def in_words(found: Found, share: float) -> str:
    """A line for people."""
    exact, correct = (
        f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        for value, (low, high) in ((found.exact, found.exact_interval), (found.correct, found.correct_interval))
    )
    return (
        f"memorisation, {found.benchmark}: from the first {100 * share:g} % of {found.num_problems} questions, the "
        f"model writes the rest of {exact} word for word (ROUGE-L {found.rouge_l:.2f}) and answers {correct} right"
    )


def divided(question: str, share: float) -> tuple[str, str]:
    """The first part of a question and the rest, neither of them empty where it has two characters or more."""
    units = _units(question.strip(), question)
    number = min(max(1, round(share * len(units))), len(units) - 1)
    return "".join(units[:number]).rstrip(), "".join(units[number:])


def rouge_l(written: str, rest: str, question: str) -> float:
    """F-measure of the longest common subsequence of the units that divide the question (Lin, 2004)."""
    mine, theirs = (
        [unit.strip() for unit in _units(text.strip(), question) if unit.strip()] for text in (written, rest)
    )
    lengths = [0] * (len(theirs) + 1)
    for unit in mine:
        before = 0
        for place, another in enumerate(theirs, start=1):
            longest = before + 1 if unit == another else max(lengths[place], lengths[place - 1])
            before, lengths[place] = lengths[place], longest
    return 2 * lengths[-1] / (len(mine) + len(theirs)) if mine or theirs else 1.0


def _units(text: str, question: str) -> list[str]:
    """Words with the spaces behind them; characters where the whole question has few words."""
    return re.findall(r"\S+\s*", text) if len(question.split()) >= _FEWEST_WORDS else list(text)


def _completions(
    context: RunContext, benchmark: str, problems: Sequence[Problem], parts: Sequence[tuple[str, str]]
) -> list[Completion]:
    recipe, policy, observer = context.recipe, context.policy, context.observer
    shown = [replace(problem, question=part) for problem, (part, _) in zip(problems, parts, strict=True)]
    observer.phase("evaluating", f"{benchmark}: rest of questions, {len(shown)} replies")
    longest = max(policy.count_tokens(rest) for _, rest in parts) + _MORE_TOKENS
    begun = [policy.text_start + part for part, _ in parts]
    room = policy.context_tokens - max(map(policy.count_tokens, begun))
    sampling = Sampling(max_tokens=max(1, min(longest, room)), temperature=0.0)
    seeds = [derive_seed(recipe.seed, "memorisation", benchmark, place) for place in range(len(shown))]
    written = policy.generate(begun, sampling, seeds=seeds, on_progress=observer.generating)
    openings, futures = (
        Sampling(max_tokens=limits.max_tokens, stop=limits.stop, temperature=0.0)
        for limits in (recipe.rollout.openings, recipe.rollout.futures)
    )
    strategy = strategy_of(recipe, recipe.rollout.strategy)
    on_round = announce(observer, f"{benchmark}: beginnings of questions")
    answered = think(policy, strategy, shown, openings, futures, seed=recipe.seed, on_round=on_round)
    grade((each.problem.gold, each.final.text) for each in answered)
    asked_with = dict(zip(("strategy", "settings"), _asked_with(recipe, benchmark, problems), strict=True))
    return [
        _completion(benchmark, problem, part, reply.text, each.final.text).model_copy(update=asked_with)
        for problem, part, reply, each in zip(problems, parts, written, answered, strict=True)
    ]


def _completion(benchmark: str, problem: Problem, parts: tuple[str, str], written: str, answer: str) -> Completion:
    """What came of one beginning; of what was written, as much as the rest has is compared."""
    (shown, rest), whole = parts, problem.question
    written = "".join(_units(written.lstrip(), whole)[: len(_units(rest, whole))]).strip()
    return Completion(
        benchmark=benchmark, problem=problem.id, shown=shown, rest=rest, written=written,
        exact=written.split() == rest.split(), rouge_l=rouge_l(written, rest, whole), answer=answer,
        correct=is_correct(problem.gold, answer),
    )  # fmt: skip


def _found(benchmark: str, lines: Sequence[Completion], confidence: float) -> Found:
    exact = {each.problem: [each.exact] for each in lines}
    correct = {each.problem: [each.correct] for each in lines}
    return Found(
        benchmark=benchmark,
        num_problems=len(lines),
        exact=intervals.accuracy(exact),
        exact_interval=intervals.interval(exact, confidence),
        rouge_l=fmean(each.rouge_l for each in lines),
        correct=intervals.accuracy(correct),
        correct_interval=intervals.interval(correct, confidence),
    )
