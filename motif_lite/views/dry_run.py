"""The preflight on the terminal: the model, prompts as tokens, a group of replies with rewards in words, and costs."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, takewhile, zip_longest
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from motif_lite.nouns import Problem
from motif_lite.planning.planner import Plan
from motif_lite.planning.projection import Projection
from motif_lite.policies.facts import PolicyFacts, Token
from motif_lite.recipe.schema import Recipe
from motif_lite.runs.records import StepMetrics
from motif_lite.views.formats import duration, gib, print_text, printable
from motif_lite.views.replies import reply_rows
from motif_lite.views.tokens import as_text

if TYPE_CHECKING:
    from motif_lite.training.trial import Trial

_INDENT = (0, 0, 0, 2)
"""Of what stands below a heading."""

_LABEL = 10
"""Columns of a label."""

_OPENINGS_SHOWN = 8

_SHARED_BEGINNING = 24
"""A later prompt that begins like the one before with fewer tokens is shown from its beginning."""


class Screen:
    """Prints the parts of a dry run, each when it is known.

    Args:
        console: A terminal, where tokens are told apart by colours; or not, where a bar stands between them.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def model(self, recipe: Recipe, device: str, facts: PolicyFacts, system: str, system_tokens: int) -> None:
        """What was found out as the model was loaded.

        Args:
            device: ``cuda`` or ``cpu``.
            system: The system prompt of the first problem; empty where there is none.
        """
        self._heading("model")
        self._lines(
            [
                ("model", f"{recipe.model.name}, backend {recipe.model.backend}, on {device}"),
                ("system", _system(facts, system, system_tokens)),
                ("turn ends", " or ".join(facts.ends)),
                *_adapter(recipe, facts),
            ]
        )

    def first_prompt(self, recipe: Recipe, problem: Problem, tokens: Sequence[Token]) -> None:
        """The prompt of round 1."""
        limit = recipe.rollout.max_prompt_tokens
        self._heading(f"prompt of round 1: {len(tokens):,} tokens of at most {limit:,}, problem {problem.id}")
        self._tokens(tokens)

    def later_prompts(self, prompts: Sequence[Sequence[Token]], context_tokens: int) -> None:
        """Those of rounds 2 and later, each from where it differs from the one before.

        Args:
            prompts: Of all rounds.
            context_tokens: Of a prompt and its reply.
        """
        for number, (before, tokens) in enumerate(pairwise(prompts), start=2):
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, tokens, strict=False)))
            self._heading(f"prompt of round {number}: {len(tokens):,} tokens in a context of {context_tokens:,}")
            if shared >= _SHARED_BEGINNING:
                self._print(Text(f"(the first {shared:,} tokens as in round {number - 1})", "dim"))
                tokens = tokens[shared:]
            self._tokens(tokens)

    def group(self, recipe: Recipe, tried: "Trial") -> None:
        """The openings, each with its form, its futures' verdicts and its rewards."""
        openings, gold = tried.rollouts.openings, tried.rollouts.openings[0].problem.gold
        self._heading(f"{len(openings)} openings with their futures; the right answer is {printable(gold)}")
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right", style="bold", width=2)
        table.add_column(ratio=1)
        equal = list(_equal_openings(tried))
        for numbers in equal[:_OPENINGS_SHOWN]:
            opening = openings[numbers[0]]
            rewards = {name: values[numbers[0]] for name, values in tried.rewards.items()}
            rows = reply_rows(recipe, opening, rewards, self._console.width - 5)
            for label, row in zip_longest([str(numbers[0] + 1)], rows, fillvalue=""):
                table.add_row(label, row)
            if len(numbers) > 1:
                others = ", ".join(str(number + 1) for number in numbers[1:])
                table.add_row("", Text(f"also opening{'s' if len(numbers) > 2 else ''} {others}", "dim"))
        self._print(table)
        if more := sum(map(len, equal[_OPENINGS_SHOWN:])):
            self._print(Text(f"and {more} more", "dim"))

    def step(self, recipe: Recipe, tried: "Trial", plan: Plan | None) -> None:
        """The gradient, and seconds and memory by phase."""
        self._heading("one step on this group")
        self._lines([("gradient", _gradient(recipe, tried.metrics))])
        self._print(_cost_table(tried, plan))
        if plan is not None:
            self._lines([("planned", f"every prompt and reply as long as the recipe allows; {plan.speed}")])

    def run(self, recipe: Recipe, found: Projection) -> None:
        """What a whole run takes by these figures."""
        self._heading("a whole run, by these figures")
        phases = " + ".join(f"{name} {duration(seconds)}" for name, seconds in found.step.items() if seconds >= 0.5)
        problems, each = recipe.training.problems_per_step, sum(found.step.values())
        groups = f"{problems} problem{'s' if problems > 1 else ''}"
        lines = [("step", f"{_short(each)} with {groups}" + (f": {phases}" if phases else ""))]
        lines.append(("training", f"{_short(found.training)} for {found.num_steps:,} steps"))
        measured = "; ".join(f"{label} {_short(seconds)}" for label, seconds in found.evaluation.items())
        lines.append(("evaluation", measured or "none"))
        self._lines([*lines, ("all", f"about {_short(found.total)}, if replies stay as long as these")])

    def remarks(self, found: Sequence[str], metrics: StepMetrics) -> None:
        """Everything that is worth a thought before the run is started, and the verdict.

        Args:
            metrics: Of the step that was tried.
        """
        if found:
            self._heading(f"remarks ({len(found)})")
            self._lines([(f"{number}.", text.removeprefix("note: ")) for number, text in enumerate(found, start=1)], 2)
        verdict = "the update of this step would be skipped" if metrics.update_skipped else "this recipe would train"
        self._heading(f"{verdict}; nothing was written")

    def _heading(self, text: str) -> None:
        style = "bold cyan"
        self._console.print()
        if self._console.is_terminal:
            self._console.print(Rule(Text(printable(text), style), align="left", style="dim"))
        else:
            self._console.print(Text(f"== {printable(text)}"), soft_wrap=True)

    def _lines(self, lines: Sequence[tuple[str, str]], label_width: int = _LABEL) -> None:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=label_width, style="dim", no_wrap=True)
        table.add_column(ratio=1, overflow="fold")
        for label, text in lines:
            table.add_row(label, Text(printable(text)))
        self._print(table)

    def _tokens(self, tokens: Sequence[Token]) -> None:
        in_colours = self._console.is_terminal and not self._console.no_color
        self._print(as_text(tokens, in_colours=in_colours))

    def _print(self, what: RenderableType) -> None:
        """Print below a heading; where nobody looks on, without the spaces that fill a line."""
        indented = Padding(what, _INDENT)
        if self._console.is_terminal:
            self._console.print(indented)
            return
        with self._console.capture() as captured:
            self._console.print(indented)
        for line in captured.get().splitlines():
            print_text(self._console, line.rstrip())


def _system(facts: PolicyFacts, system: str, num_tokens: int) -> str:
    if not system:
        own = f"none is given; the chat template writes its own: {facts.own_system!r:.200}"
        return own if facts.own_system else "none"
    if facts.folds_system:
        return f"{num_tokens:,} tokens at the beginning of the user's message: the chat template has no system role"
    return f"{num_tokens:,} tokens in the chat template's system role"


def _adapter(recipe: Recipe, facts: PolicyFacts) -> Iterator[tuple[str, str]]:
    found = facts.coverage
    yield (
        "adapter",
        f"rank {recipe.lora.rank} on {found.num_layers} of {found.num_linear} linear layers, "
        f"{100 * found.share:.3g} % of the weights in the decoder's layers",
    )
    share = 100 * facts.num_trained / facts.num_weights
    yield "", f"{facts.num_trained:,} weights are trained, {share:.2g} % of the model's {facts.num_weights:,}"


def _gradient(recipe: Recipe, metrics: StepMetrics) -> str:
    if metrics.grad_norm is None:
        return "not a number"
    if metrics.grad_norm == 0:
        return "0: all openings earned the same"
    limit = recipe.training.max_grad_norm
    clipped = f", clipped to {limit:g} (training.max_grad_norm)" if metrics.grad_norm > limit else ""
    return f"norm {metrics.grad_norm:.3g}{clipped}; applied at the peak learning rate {recipe.training.learning_rate:g}"


def _cost_table(tried: "Trial", plan: Plan | None) -> Table:
    cost = tried.cost
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    for column in ("seconds", "planned", "peak GiB", "planned", "tokens"):
        table.add_column(column, justify="right", no_wrap=True, min_width=9)
    planned: Mapping[str, float] = plan.seconds if plan else {}
    for phase, seconds in cost.seconds.items():
        peak, of = cost.peak_memory_bytes.get(phase), cost.planned_memory_bytes.get(phase)
        num_tokens = cost.tokens.get(phase, 0)
        table.add_row(
            phase,
            _figure(seconds),
            _figure(planned[phase]) if phase in planned else "",
            gib(peak) if peak else "",
            gib(of) if of else "",
            f"{num_tokens:,}" if num_tokens else "",
        )
    return table


def _equal_openings(tried: "Trial") -> Iterator[list[int]]:
    """Numbers of openings of the same text, futures' final replies and rewards."""
    found: dict[object, list[int]] = {}
    for number, opening in enumerate(tried.rollouts.openings):
        finals = tuple(sorted(future.final.text for future in opening.evidence))
        rewards = tuple(values[number] for values in tried.rewards.values())
        found.setdefault((opening.turn.reply.text, finals, rewards), []).append(number)
    yield from found.values()


def _figure(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 1 else f"{seconds:.1f}"


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)
