"""What a warm start imitates: the base's own right solutions, sampled under a plain prompt and cut into rounds."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from motif_lite.context import RunContext
from motif_lite.evaluation.measuring import CALLS_PER_PART, all_graded, settings_of
from motif_lite.nouns import Problem, Reply, Trajectory, Turn
from motif_lite.planning.metering import PhaseMeter
from motif_lite.policies.protocol import Policy, TrainablePolicy, trainable
from motif_lite.recipe.schema import Recipe, WarmStartSection, decided
from motif_lite.rollout import cutting, prompts
from motif_lite.rollout.rewards import INSIDE_ANSWER, answer_score
from motif_lite.rollout.rollouts import derive_seed
from motif_lite.rollout.strategies import strategy_of
from motif_lite.rollout.strategies.rounds import RoundByRound
from motif_lite.runs import inputs
from motif_lite.runs.costs import Cost
from motif_lite.runs.parts import Parts
from motif_lite.runs.records import GradedReply, MeasuredPart, PartsHeader, Subject
from motif_lite.runs.warm_start import Example, Sampled, WarmStart
from motif_lite.tasks.fitting import drop_long

PHASE = "warm start"

_SUBJECT = Subject("warm_start", "plain", "sampled")

_UNCUT = "cannot be cut into as many rounds"
_LONG = "have a round that is longer than its limit"


def demonstrate(context: RunContext, section: WarmStartSection, problems: Sequence[Problem]) -> Sampled:
    """Sample, grade and cut, or go on with that, and keep everything in the run's folder.

    Raises:
        DataError: No problem's plain prompt leaves room for a solution.
    """
    files, fitting = WarmStart(context.run.root), _fitting(context, section, problems)
    asked = _asked(context.recipe, section, fitting)
    parts = Parts(files.solutions, _header(context.recipe, section, asked))
    if (found := files.sampled()) is None:
        if parts.num_dropped:
            context.observer.note("note: warm_start: it was begun with another rollout.max_width; it begins again")
        cutter = Cutter(context.recipe, trainable(context.policy))
        _Sampling(context, section, cutter, parts).solve(asked)
        examples = [round_ for problem in asked for round_ in cutter.examples_of(problem)]
        found = _counted(parts, cutter, asked, examples, num_long=len(problems) - len(fitting))
        files.keep_examples(parts.graded, examples, found)
    parts.remove()
    return found


def _fitting(context: RunContext, section: WarmStartSection, problems: Sequence[Problem]) -> list[Problem]:
    """The problems whose plain prompt leaves room for a solution in the context."""
    recipe, policy, observer = context.recipe, context.policy, context.observer
    observer.phase(PHASE, "reading plain prompts")
    return drop_long(
        list(problems),
        lambda problem: policy.count_tokens(_plain_prompt(policy, section, problem)),
        recipe.model.max_seq_length - recipe.sampling_of(section).max_tokens,
        source="warm_start",
        limited_by="model.max_seq_length less the tokens of a solution",
        remedy="lower warm_start.max_tokens, shorten warm_start.instruction, or raise model.max_seq_length",
        on_progress=observer.advance,
    )


def _plain_prompt(policy: Policy, section: WarmStartSection, problem: Problem) -> str:
    return policy.render(prompts.conversation("", prompts.plain_question(problem.question, section.instruction)))


def _asked(recipe: Recipe, section: WarmStartSection, problems: Sequence[Problem]) -> list[Problem]:
    rng = random.Random(derive_seed(recipe.seed, PHASE, "problems"))
    return rng.sample(list(problems), min(section.num_problems, len(problems)))


def _header(recipe: Recipe, section: WarmStartSection, problems: Sequence[Problem]) -> PartsHeader:
    sampling = recipe.sampling_of(section)
    settings = settings_of(recipe, _SUBJECT, recipe.data.as_source()).model_copy(
        update={
            "max_tokens": (sampling.max_tokens, sampling.max_tokens), "stop": ((), ()),
            "temperature": sampling.temperature, "top_p": sampling.top_p, "num_samples": section.num_samples,
            "problems": inputs.of_problems(problems),
        }
    )  # fmt: skip
    return PartsHeader(settings=settings, width=decided(recipe.rollout.max_width))


class Cutter:
    """Cuts right solutions, and remembers the first of each problem that became examples."""

    def __init__(self, recipe: Recipe, policy: TrainablePolicy) -> None:
        self._rollout, self._policy = recipe.rollout, policy
        self._strategy = strategy_of(recipe, recipe.rollout.strategy)
        self._examples: dict[str, list[Example]] = {}
        self.left_out = defaultdict[str, list[str]](list)
        """The problem of each right solution that could not be cut, by the reason."""

    def has(self, problem: Problem) -> bool:
        """Whether one of its solutions was cut."""
        return problem.id in self._examples

    def examples_of(self, problem: Problem) -> list[Example]:
        """The rounds of the solution that was cut; none where there is none."""
        return self._examples.get(problem.id, [])

    def add(self, problem: Problem, solution: str) -> None:
        """Cut a right solution; what cannot be cut is counted."""
        replies = cutting.replies(solution, self._strategy.num_rounds)
        if replies is None or answer_score(problem.gold, replies[-1]) != INSIDE_ANSWER:
            self.left_out[_UNCUT].append(problem.id)
            return
        path = self._path(problem, replies)
        if path is None:
            self.left_out[_LONG].append(problem.id)
            return
        self._examples[problem.id] = [
            Example(problem=problem.id, round=number, prompt=turn.prompt, reply=turn.reply.text)
            for number, turn in enumerate(path.turns, start=1)
        ]

    def _path(self, problem: Problem, replies: Sequence[str]) -> Trajectory | None:
        """The rounds with the prompts that a rollout would have; None where one is too long."""
        policy, rollout, turns = self._policy, self._rollout, list[Turn]()
        for number, reply in enumerate(replies, start=1):
            sampling = rollout.openings if number == 1 else rollout.futures
            # The chat template's marks are broken, as in prompts: none of them may end the turn that is imitated.
            text = policy.plain([{"role": "assistant", "content": reply}])[0]["content"]
            num_tokens = len(policy.encode_reply(text))
            if num_tokens > sampling.max_tokens:
                return None
            if number == 1:
                prompt = policy.render(self._strategy.first_messages(problem))
            else:
                assert isinstance(self._strategy, RoundByRound)
                prompt, _ = self._strategy.next_prompt(policy, Trajectory(problem, tuple(turns)), number, sampling)
            turns.append(Turn(prompt, Reply(text, num_tokens, "stop")))
        return Trajectory(problem, tuple(turns))


@dataclass(frozen=True, slots=True)
class _Sampling:
    """Writes and grades solutions, wave by wave: each asks the problems that are not solved yet once more."""

    context: RunContext
    section: WarmStartSection
    cutter: Cutter
    parts: Parts

    def solve(self, problems: Sequence[Problem]) -> None:
        place, size = 0, CALLS_PER_PART * decided(self.context.recipe.rollout.max_width)
        for sample in range(1, self.section.num_samples + 1):
            wave = [problem for problem in problems if not self.cutter.has(problem)]
            done = len(self.parts.graded[place : place + len(wave)])
            for start in range(done, len(wave), size):
                left = f", from {start} of {len(wave)}" if len(wave) > size else ""
                what = f"sample {sample} of {self.section.num_samples}{left}"
                self.parts.add(self._part(wave[start : start + size], sample, what))
            for problem, graded in zip(wave, self.parts.graded[place : place + len(wave)], strict=True):
                if graded.correct:
                    self.cutter.add(problem, graded.replies[0])
            place += len(wave)

    def _part(self, problems: Sequence[Problem], sample: int, what: str) -> MeasuredPart:
        policy, observer = self.context.policy, self.context.observer
        sampling = self.context.recipe.sampling_of(self.section)
        meter = PhaseMeter(policy.device_type)
        meter.start(PHASE)
        observer.phase(PHASE, f"{what}: {len(problems)} solutions")
        rendered = [_plain_prompt(policy, self.section, problem) for problem in problems]
        seeds = [derive_seed(self.context.recipe.seed, PHASE, sample, problem.id) for problem in problems]
        written = policy.generate(rendered, sampling, seeds=seeds, on_progress=observer.generating)
        turns = map(Turn, rendered, written)
        paths = [Trajectory(problem, (turn,)) for problem, turn in zip(problems, turns, strict=True)]
        observer.phase(PHASE, f"{what}: grading, {len(paths)} solutions")
        graded = all_graded(paths, observer)
        seconds, peaks = meter.take()
        return MeasuredPart(seconds=seconds[PHASE], peak_memory_bytes=peaks.get(PHASE, 0), graded=graded)


def _counted(
    parts: Parts, cutter: Cutter, asked: Sequence[Problem], examples: Sequence[Example], *, num_long: int
) -> Sampled:
    graded: list[GradedReply] = parts.graded
    by_round = Counter(example.round for example in examples)
    return Sampled(
        num_problems=len(asked),
        num_long=num_long,
        num_solved=len({each.problem for each in graded if each.correct}),
        num_cut=sum(map(cutter.has, asked)),
        left_out={reason: len(ids) for reason, ids in cutter.left_out.items()},
        problems_left_out={reason: len(set(ids)) for reason, ids in cutter.left_out.items()},
        examples_by_round=tuple(by_round[number] for number in sorted(by_round)),
        cost=Cost(
            prompts=len(graded),
            generated_tokens=sum(each.tokens for each in graded),
            seconds=parts.seconds,
            peak_memory_bytes=parts.peak_memory_bytes,
        ),
    )
