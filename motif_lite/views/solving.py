"""An answer in rounds on the terminal, as it is written.

What the model writes is untrusted: it gets to the terminal through `formats.printable` alone, and without markup.
"""

from rich.console import Console
from rich.status import Status
from rich.text import Text

from motif_lite.grading.answers import equivalent
from motif_lite.nouns import Problem, Reply, TokenProgress
from motif_lite.rollout.prompts import ordinal
from motif_lite.solving.solver import Solution
from motif_lite.views.formats import duration, excerpt, percent, print_text, printable
from motif_lite.views.wrapping import Wrapping

_ANSWERS_SHOWN, _ANSWER_WIDTH = 6, 40


class SolutionView:
    """Implements `solving.watcher.Watcher` for people.

    Args:
        console: Where to write; on a terminal lines are broken between words, and a spinner shows what cannot be read.
        shows_thinking: Replies are shown as they are written; otherwise only what each round passes on.
    """

    def __init__(self, console: Console, *, shows_thinking: bool = True) -> None:
        self._console, self.shows_thinking = console, shows_thinking
        self._wrapping, self._is_last, self._round, self._width = Wrapping(None), False, 1, 1
        self._waiting: Status | None = None

    def question(self, text: str) -> None:
        """Show a question that nobody has just typed."""
        print_text(self._console, f"question  {text}")

    def round(self, number: int, num_rounds: int, width: int) -> None:
        """A heading."""
        self._round, self._width, self._is_last = number, width, number == num_rounds
        samples = f", {width} samples" + (", one of them shown" if self.shows_thinking else "") if width > 1 else ""
        self._console.print(Text(f"── round {number} of {num_rounds}{samples} ──", style="bold cyan"))
        self._wrapping = Wrapping(self._console.width if self._console.is_terminal else None)
        if not self.shows_thinking:
            self._wait()

    def text(self, piece: str | None) -> None:
        """Write what has come."""
        if not self.shows_thinking:
            return
        self._write(self._wrapping.rest() + "\n" if piece is None else self._wrapping.add(printable(piece)))
        if piece is None and self._width > 1:
            self._wait()

    def generating(self, progress: TokenProgress) -> None:
        """Show that something is done where no text appears."""
        if self._waiting is not None:
            reading = progress.read < progress.to_read
            what = f"reading {progress.to_read:,} tokens" if reading else f"{progress.written:,} tokens written"
            self._waiting.update(f"round {self._round}: {what}")

    def written(self, reply: Reply) -> None:
        """Say where a reply was cut off."""
        self.close()
        if reply.finish == "length":
            self._say(f"cut off after {reply.num_tokens:,} tokens", "yellow")

    def passed_on(self, progress: str) -> None:
        """Show what the next round begins with."""
        label = Text(f"passed on to the {ordinal(self._round + 1)} round: ", style="green")
        text = Text.assemble(label, printable(progress) if progress else ("nothing", "yellow"))
        self._console.print(text, soft_wrap=not self._console.is_terminal)

    def voting(self, done: int, total: int) -> None:
        """Show nothing: it takes moments."""

    def solution(self, found: Solution, problem: Problem | None = None) -> None:
        """The answer with its votes, and what it took.

        Args:
            problem: With the right answer, where it is known.
        """
        self.close()
        answer = "none: no final reply has a \\boxed{} answer" if found.answer is None else printable(found.answer)
        self._console.print(Text.assemble(("answer    ", "bold"), (answer, "bold")), soft_wrap=True)
        if problem is not None:
            verdict = "right" if found.answer is not None and equivalent(problem.gold, found.answer) else "wrong"
            print_text(self._console, f"gold      {problem.gold}: the answer is {verdict}")
        if len(found.trajectories) > 1:
            print_text(self._console, f"votes     {_votes(found)}")
        if found.num_cut:
            print_text(self._console, f"note      progress was cut {found.num_cut} times to fit model.max_seq_length")
        num_rounds = max(len(trajectory.turns) for trajectory in found.trajectories)
        took = f"{num_rounds} rounds, {found.num_tokens:,} tokens, {duration(found.seconds)}"
        print_text(self._console, f"took      {took}")

    def ended(self) -> None:
        """The answer was ended before it was complete."""
        self._write(self._wrapping.rest() + "\n" if self.shows_thinking else "")
        self.close()
        self._say("answer ended", "yellow")

    def close(self) -> None:
        """Take the spinner away."""
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None

    def _wait(self) -> None:
        if self._console.is_terminal and self._waiting is None:
            self._waiting = self._console.status(f"round {self._round}", spinner="dots")
            self._waiting.start()

    def _write(self, text: str) -> None:
        if text:
            self._console.print(Text(text, style="dim"), end="", soft_wrap=True)

    def _say(self, text: str, style: str) -> None:
        self._console.print(Text(text, style=style))


def _votes(found: Solution) -> str:
    """Such as ``6 of 8 (75.0 %); 42 x6, 41 x1, no box x1``."""
    num_samples = len(found.trajectories)
    shown = [f"{excerpt(vote.answer, 1, _ANSWER_WIDTH).plain} x{vote.count}" for vote in found.votes[:_ANSWERS_SHOWN]]
    others = sum(vote.count for vote in found.votes[_ANSWERS_SHOWN:])
    without = num_samples - sum(vote.count for vote in found.votes)
    shown += [f"others x{others}"] * (others > 0) + [f"no box x{without}"] * (without > 0)
    count = found.votes[0].count if found.votes else 0
    return f"{count} of {num_samples} ({percent(found.share)}); {', '.join(shown)}"
