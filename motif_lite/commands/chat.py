"""A prompt at which questions are typed; each is solved by itself, knowing nothing of those before."""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from motif_lite.errors import DataError, MotifError, RunError
from motif_lite.jobs import solve_job
from motif_lite.jobs.answering import answer
from motif_lite.jobs.interrupting import AnswerEnded
from motif_lite.observer import Observer
from motif_lite.runs.files import write_whole
from motif_lite.solving.solver import Effort, Solution, Solver, require_rounds
from motif_lite.views import formats
from motif_lite.views.solving import SolutionView

_PROMPT = "question> "

_HELP = """\
A line is a question; each is solved by itself. Commands:
/rounds N     solve in N rounds, also in more than were trained
/samples N    write N samples of each answer; the most common answer wins
/think        show, or hide, what is written in each round
/save FILE    write all answers of this session to a new file, as JSON lines
/help         this text
Ctrl-C ends an answer, and at this prompt the program, as Ctrl-D does."""


@dataclass
class Chat:
    """A session at the prompt.

    Attributes:
        solver: Answers.
        effort: What each question is given; commands change it.
        view: Shows answers.
        observer: Told of notes.
        solved: All complete answers so far.
    """

    solver: Solver
    effort: Effort
    terminal: Console
    view: SolutionView
    observer: Observer
    solved: list[Solution] = field(default_factory=list)
    number: int = 0

    def run(self) -> None:
        """Read and answer until the input ends or Ctrl-C is pressed at the prompt."""
        is_typed = sys.stdin.isatty()
        if is_typed:
            formats.print_text(self.terminal, "type a question; /help lists commands, Ctrl-D leaves")
        while (line := _line(is_typed)) is not None:
            if line.strip():
                if not is_typed:
                    formats.print_text(self.terminal, f"{_PROMPT}{line.strip()}")
                self._take(line.strip())

    def _take(self, line: str) -> None:
        """Obey a command or answer a question; what is wrong with it is said, and the session goes on."""
        try:
            if line.startswith("/"):
                self._obey(line)
            else:
                self._answer(line)
        except AnswerEnded:
            self.view.ended()
        except MotifError as error:
            formats.print_text(self.terminal, f"error: {error}")

    def _answer(self, question: str) -> None:
        self.number += 1
        try:
            found = answer(self.solver, question, self.effort, self.view, self.observer, number=self.number)
        finally:
            self.view.close()
        self.solved.append(found)
        self.view.solution(found)

    def _obey(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        commands: dict[str, Callable[[str], str]] = {
            "/rounds": self._rounds,
            "/samples": self._samples,
            "/think": self._think,
            "/save": self._save,
            "/help": lambda argument: _HELP,
        }
        if name not in commands:
            raise DataError(f"there is no command {name}; /help lists all")
        formats.print_text(self.terminal, commands[name](argument.strip()))

    def _rounds(self, argument: str) -> str:
        effort = solve_job.with_rounds(self.effort, _number(argument, "/rounds", 5))
        require_rounds(effort, self.solver.recipe)
        self.effort = effort
        return f"from here on {self.solver.remark(effort) or f'{effort.num_rounds} rounds'}"

    def _samples(self, argument: str) -> str:
        self.effort = solve_job.with_samples(self.effort, _number(argument, "/samples", 8))
        return f"{self.effort.num_samples} samples from here on"

    def _think(self, argument: str) -> str:
        self.view.shows_thinking = not self.view.shows_thinking
        return "replies are shown" if self.view.shows_thinking else "replies are hidden; /think shows them again"

    def _save(self, argument: str) -> str:
        if not argument:
            raise DataError("/save needs a file, e.g. /save answers.jsonl")
        save(Path(argument), self.solved)
        return f"{len(self.solved)} answer{'s' * (len(self.solved) != 1)} in {argument}"


def save(path: Path, solved: list[Solution]) -> None:
    """Write answers to a new file, as JSON lines.

    Args:
        path: It may begin with ``~``.

    Raises:
        RunError: It exists, or cannot be written.
    """
    try:
        file = path.expanduser()
        if file.exists():
            raise RunError(f"{path}: exists; choose another name")
        write_whole(file, [f"{solve_job.as_json(found)}\n" for found in solved])
    except (OSError, RuntimeError, ValueError) as error:  # no such user; a null character
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path}: cannot be written ({reason})") from None


def _line(is_typed: bool) -> str | None:
    """The next line; None where there is none, or Ctrl-C was pressed."""
    if not is_typed:
        return sys.stdin.readline() or None
    with suppress(ImportError):  # not on every system
        import readline  # noqa: F401  # gives input() its history and arrow keys
    try:
        return input(_PROMPT)
    except (EOFError, KeyboardInterrupt):
        print()
        return None


def _number(argument: str, command: str, example: int) -> int:
    if not argument.isascii() or not argument.isdecimal() or len(argument) > 9:
        raise DataError(f"{command} needs a number, e.g. {command} {example}")
    return int(argument)
