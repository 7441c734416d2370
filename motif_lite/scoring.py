"""The reward sanity check: hand-written openings, scored as training would score them.

Futures come from the recipe's own strategy, prompts and sampling, those of all openings in one wide call per round; the
rewards are the recipe's. An opening that a person thinks better should earn more. Where it does not, the reward, the
prompts or the policy are at fault, and it costs a minute to know instead of a night.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motif_lite import data, pipeline, sealing, statistics, step_metrics
from motif_lite.answers import is_correct, last_boxed
from motif_lite.data import Row
from motif_lite.errors import DataError, ModelError, RecipeError, RunError
from motif_lite.paths import cache_folder
from motif_lite.policies import ADAPTER_FILE, Policy
from motif_lite.progress import Observer
from motif_lite.recipe import Recipe, changed, differing_keys
from motif_lite.rewards import earned, is_solved
from motif_lite.rollout import STRATEGIES, Strategy, derive_seed
from motif_lite.run_dir import RunDirectory, holds_run, write_whole
from motif_lite.types import OnProgress, Opening, Problem, Reply, Turn

LEAST_FUTURES = 32
"""Per opening, unless asked otherwise: an interval is then at most 33 points wide. Training makes do with less, for it
compares openings again and again."""

_MADE_FOR = ("model.name", "lora.rank", "lora.alpha", "lora.targets", "rollout.num_rounds")
"""Keys without which an adapter means something else; where the model is made here, the seed is another."""

_LONGEST_LABEL = 40
_LONGEST_OPENING = 1_000_000
"""Characters, as of a question."""


@dataclass(frozen=True, slots=True)
class Written:
    """An opening as a person wrote it.

    Attributes:
        label: For people; where none is given, its number in the row.
    """

    problem: Problem
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What some futures of an opening have in their last box; None: they have no box."""

    text: str | None
    count: int
    is_right: bool


@dataclass(frozen=True, slots=True)
class Scored:
    """What training would make of an opening.

    Attributes:
        accuracy: Share of its futures that are right, boxed inside the answer tags or not.
        interval: Of the accuracy; given the opening, futures are independent.
        rewards: By name, in the recipe's order, without weights.
        total: Their weighted sum, which training compares.
        answers: Most common first.
    """

    written: Written
    accuracy: float
    interval: tuple[float, float]
    rewards: dict[str, float]
    total: float
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """All openings of a file, in its order, and what their futures cost."""

    openings: tuple[Scored, ...]
    num_futures: int
    num_tokens: int
    seconds: float

    def ranked(self) -> dict[Problem, list[Scored]]:
        """By problem, the opening with the highest total first; then the more accurate, then in the file's order."""
        by_problem: dict[Problem, list[Scored]] = {}
        for scored in self.openings:
            by_problem.setdefault(scored.written.problem, []).append(scored)
        for group in by_problem.values():
            group.sort(key=lambda scored: (scored.total, scored.accuracy), reverse=True)
        return by_problem


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """What a ``score`` command line asks for, validated, with nothing heavy done yet.

    Attributes:
        name: For people: the file of openings.
        adapter: Folder of the adapter to score under; None is the bare model.
        num_futures: Per opening.
    """

    name: str
    recipe: Recipe
    written: tuple[Written, ...]
    adapter: Path | None
    num_futures: int

    def perform(self, observer: Observer) -> Scores:
        """Load the policy and score the openings.

        Raises:
            MotifError: Something is the user's to mend.
            Interrupted: The user stopped it.
        """
        with pipeline.conducted(observer, cache_folder(), self.how_to_go_on):
            backend = pipeline.required_backend(self.recipe)
            recipe, _, policy = pipeline.load_policy(backend, self.recipe, observer, trains=False)
            if self.adapter is not None:
                policy.load_adapter(self.adapter)
                _note_other_settings(self.adapter, recipe, observer)
            return score(recipe, policy, self.written, self.num_futures, observer)

    @staticmethod
    def how_to_go_on() -> str:
        """What to tell somebody who has just interrupted it."""
        return "nothing has been written; the same command starts again"


def job(
    recipe: Path | None, changes: Sequence[str], openings: Path, *, num_futures: int | None, adapter: Path | None
) -> ScoreJob:
    """Turn a command line into a job.

    Raises:
        MotifError: The recipe, the openings or the adapter are not fit for it.
    """
    checked = pipeline.check(recipe, changes)
    if checked.rollout.strategy == "single_round":
        raise RecipeError(
            f"{recipe}: an opening of rollout.strategy = 'single_round' is the whole reply and has no futures to score "
            f"it by; take a recipe of several rounds"
        )
    if adapter is not None:
        _require_whole(adapter)
    # The openings of a file are no groups of num_openings: nothing is shared out among them.
    checked = changed(checked, {"rollout.allocation": "fixed"})
    wanted = num_futures or max(checked.rollout.num_futures, LEAST_FUTURES)
    return ScoreJob(openings.name, checked, tuple(read(openings, checked)), adapter, wanted)


def read(path: Path, recipe: Recipe) -> list[Written]:
    """All openings of a file, which has the columns of the recipe's training data and ``openings`` beside them.

    Raises:
        DataError: The file cannot be read, or a row of it is malformed.
    """
    if str(path) in data.DATASETS:
        raise DataError(f"{path}: is a data set without openings; give a file, such as recipes/tiny_openings.jsonl")
    # A copy, which is not validated: the path may hold what no TOML can.
    source = recipe.data.as_source().model_copy(update={"source": str(path)})
    return [
        written
        for number, (problem, row) in enumerate(data.with_rows(source, role="train"), start=1)
        for written in _written(problem, row, f"{path}: row {number}")
    ]


def score(recipe: Recipe, policy: Policy, written: Sequence[Written], num_futures: int, observer: Observer) -> Scores:
    """Roll futures of all openings together and reward them.

    Raises:
        DataError: A question is longer than training would take.
        RecipeError: A reward fails.
    """
    started = time.monotonic()
    strategy = STRATEGIES[recipe.rollout.strategy](recipe.rollout)
    openings = [(each.problem, _turn(recipe, policy, strategy, each)) for each in written]
    _tell_of_long_ones(recipe, written, [turn for _, turn in openings], observer)

    def on_round(round_number: int, num_rounds: int, width: int) -> OnProgress:
        observer.phase("scoring", f"round {round_number} of {num_rounds}, {width} replies")
        return observer.advance

    rollouts = strategy.continue_openings(
        policy,
        openings,
        num_futures,
        recipe.rollout.futures,
        seed=derive_seed(recipe.seed, "score"),
        on_round=on_round,
    )
    observer.phase("grading", f"{len(openings)} openings")
    scored = tuple(_scored(recipe, *pair) for pair in zip(written, rollouts.openings, strict=True))
    num_tokens = step_metrics.generated_tokens(rollouts.openings)["futures"]
    return Scores(scored, num_futures, num_tokens, time.monotonic() - started)


def as_json(scores: Scores, job: ScoreJob) -> dict[str, Any]:
    """Scores for machines: problems in the file's order, the openings of each ranked."""
    return {
        "model": job.recipe.model.name,
        "adapter": None if job.adapter is None else str(job.adapter),
        "seed": job.recipe.seed,
        "futures_per_opening": scores.num_futures,
        "confidence": job.recipe.evaluation.confidence,
        "generated_tokens": scores.num_tokens,
        "seconds": scores.seconds,
        "problems": [
            {
                "problem": problem.id,
                "question": problem.question,
                "gold": problem.gold,
                "openings": [_opening_as_json(scored) for scored in ranked],
            }
            for problem, ranked in scores.ranked().items()
        ],
    }


def require_writable(path: Path, *inputs: Path | None) -> None:
    """Refuse a place for the JSON before anything is computed.

    Args:
        inputs: Files of the same command, which must not be replaced.

    Raises:
        RunError: It is a folder, lies in none, or is an input.
    """
    try:
        is_fit = path.absolute().parent.is_dir() and not path.is_dir()
        is_input = path.resolve() in [given.resolve() for given in inputs if given is not None]
    except (OSError, RuntimeError):  # a name that is too long, links in a circle
        is_fit, is_input = False, False
    if is_input:
        raise RunError(f"{path}: is read by this very command; let --json name another file")
    if not is_fit:
        raise RunError(f"{path}: cannot be written; let --json name a file in a folder that exists")


def write(path: Path, scores: Scores, job: ScoreJob) -> None:
    """Write the scores as JSON, whole or not at all.

    Raises:
        RunError: The file cannot be written.
    """
    try:
        write_whole(path, [json.dumps(as_json(scores, job), indent=2), "\n"])
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); let --json name another file") from None


def _written(problem: Problem, row: Row, where: str) -> list[Written]:
    given = row.get("openings")
    if not isinstance(given, list) or not given:
        raise DataError(
            f"{where}: column 'openings' must hold a list of at least one opening, each a text or an object "
            f'{{"text": ..., "label": ...}}'
        )
    return [_opening(problem, entry, number, where) for number, entry in enumerate(given, start=1)]


def _opening(problem: Problem, entry: object, number: int, where: str) -> Written:
    """One opening of a row; its text is kept as it is, for white space counts in its form."""
    where = f"{where}, opening {number}"
    if isinstance(entry, str):
        entry = {"text": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise DataError(f'{where}: must be a text, or an object {{"text": ..., "label": ...}}')
    unknown = [str(key)[:_LONGEST_LABEL] for key in entry if key not in ("text", "label")]
    if unknown:
        raise DataError(f"{where}: has an unknown key {unknown[0]!r}; it may have 'text' and 'label'")
    text, label = entry["text"], entry.get("label")
    if label is None:
        label = f"opening {number}"
    if not isinstance(label, str) or not label.strip() or len(label) > _LONGEST_LABEL:
        raise DataError(f"{where}: its label must be a short text, of at most {_LONGEST_LABEL} characters")
    if len(text) > _LONGEST_OPENING:
        raise DataError(f"{where}: has {len(text):,} characters; shorten or remove it")
    if any("\ud800" <= char <= "\udfff" for char in text + label):
        raise DataError(f"{where}: holds half a character (a lone surrogate); mend or remove it")
    return Written(problem, label.strip(), text)


def _require_whole(adapter: Path) -> None:
    """Refuse a folder that holds no adapter, or one that was damaged since training wrote it."""
    try:
        is_there = (adapter / ADAPTER_FILE).is_file()
    except OSError:  # a name that no file can have
        is_there = False
    if not is_there:
        raise ModelError(f"{adapter}: holds no adapter; give a run's, such as runs/tiny_cpu/adapter")
    damage = sealing.damage(adapter) if (adapter / sealing.MANIFEST).exists() else None
    if damage:
        raise ModelError(f"{adapter}: {damage}; --resume of its run writes it again")


def _note_other_settings(adapter: Path, recipe: Recipe, observer: Observer) -> None:
    """An adapter that was trained on another model may fit, and then it means nothing."""
    if not holds_run(adapter.parent):
        return
    earlier = RunDirectory(adapter.parent).resolved(pipeline.TABLES)
    matters = (*_MADE_FOR, "seed") if recipe.model.name == "tiny" else _MADE_FOR
    different = [key for key in differing_keys(earlier, recipe) if key in matters]
    if different:
        observer.note(f"note: {adapter} was trained with other settings of {', '.join(different)}")


def _turn(recipe: Recipe, policy: Policy, strategy: Strategy, written: Written) -> Turn:
    """The opening as if the policy had just written it."""
    prompt = policy.render(strategy.first_messages(written.problem))
    num_tokens, limit = policy.count_tokens(prompt), recipe.rollout.max_prompt_tokens
    if num_tokens > limit:
        raise DataError(
            f"{written.problem.id}: its prompt has {num_tokens} tokens, and training leaves out what is longer than "
            f"rollout.max_prompt_tokens = {limit}; shorten the question, or raise that limit"
        )
    return Turn(prompt, Reply(written.text, policy.count_tokens(written.text), "stop"))


def _tell_of_long_ones(recipe: Recipe, written: Sequence[Written], turns: Sequence[Turn], observer: Observer) -> None:
    """Openings are scored whole, also those that the policy could not have written to their end."""
    limit = recipe.rollout.openings.max_tokens
    lengths = [turn.reply.num_tokens for turn in turns]
    long = [f"{one.problem.id}, {one.label}: {n}" for one, n in zip(written, lengths, strict=True) if n > limit]
    if long:
        observer.note(
            f"note: {len(long)} of {len(written)} openings are longer than rollout.openings.max_tokens = {limit}: the "
            f"policy could not write them in a round ({long[0]} tokens{', ...' if len(long) > 1 else ''})"
        )


def _scored(recipe: Recipe, written: Written, opening: Opening) -> Scored:
    remedy = "mend the reward, or leave it out of the recipe"
    rewards = {
        name: earned(name, opening, where=f"on {written.problem.id}, {written.label}", remedy=remedy)
        for name in recipe.rewards
    }
    outcomes = {str(index): [is_solved(future)] for index, future in enumerate(opening.futures)}
    return Scored(
        written=written,
        accuracy=statistics.accuracy(outcomes),
        interval=statistics.interval(outcomes, recipe.evaluation.confidence),
        rewards=rewards,
        total=step_metrics.total_reward(recipe, rewards),
        answers=_answers(opening),
    )


def _answers(opening: Opening) -> tuple[Answer, ...]:
    finals = [future.final.text for future in opening.futures]
    boxes = [boxed.text.strip() if (boxed := last_boxed(final)) else None for final in finals]
    reply_with = dict(zip(boxes, finals, strict=True))
    return tuple(
        Answer(text, count, is_correct(opening.problem.gold, reply_with[text]))
        for text, count in Counter(boxes).most_common()
    )


def _opening_as_json(scored: Scored) -> dict[str, Any]:
    return {
        "label": scored.written.label,
        "text": scored.written.text,
        "accuracy": scored.accuracy,
        "interval": list(scored.interval),
        "rewards": scored.rewards,
        "total": scored.total,
        "answers": [
            {"answer": answer.text, "count": answer.count, "right": answer.is_right} for answer in scored.answers
        ],
    }
