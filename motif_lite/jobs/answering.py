"""One question to one answer, which Ctrl-C ends."""

from motif_lite.jobs import session
from motif_lite.jobs.interrupting import Asking, ends_answer
from motif_lite.jobs.solve_job import SolveJob
from motif_lite.nouns import Reply, TokenProgress
from motif_lite.observer import Observer
from motif_lite.paths import cache_folder
from motif_lite.solving.solver import Effort, Solution, Solver
from motif_lite.solving.watcher import Watcher


def answer(
    solver: Solver, question: str, effort: Effort, watcher: Watcher, observer: Observer, *, number: int
) -> Solution:
    """Answer a question.

    Args:
        watcher: Told of the answer as it is written.
        observer: Told of what is worth a note.
        number: Of the question in its session.

    Raises:
        MotifError: An error that the user can fix.
        AnswerEnded: The user pressed Ctrl-C.
        KeyboardInterrupt: Twice.
    """
    with session.working(observer, cache_folder(), SolveJob.how_to_go_on), ends_answer() as asking:
        solver.check(question, effort)
        return solver.solve(question, effort, _Endable(watcher, asking), number=number)


class _Endable:
    """Implements `Watcher` by another one; where the answer is to end, its calls end it.

    Args:
        watcher: Told of everything.
        asking: Whether the answer is to end.
    """

    def __init__(self, watcher: Watcher, asking: Asking) -> None:
        self._watcher, self._asking = watcher, asking

    def round(self, number: int, num_rounds: int, width: int) -> None:
        self._asking.check()
        self._watcher.round(number, num_rounds, width)

    def text(self, piece: str | None) -> None:
        self._watcher.text(piece)

    def generating(self, progress: TokenProgress) -> None:
        self._asking.check()
        self._watcher.generating(progress)

    def written(self, reply: Reply) -> None:
        self._watcher.written(reply)

    def passed_on(self, progress: str) -> None:
        self._watcher.passed_on(progress)

    def voting(self, done: int, total: int) -> None:
        self._asking.check()
        self._watcher.voting(done, total)


class Quiet:
    """Implements `Watcher` for output to a machine: rounds are phases of a live view elsewhere.

    Args:
        label: Of the question, e.g. ``question 3 of 50``.
    """

    def __init__(self, observer: Observer, label: str) -> None:
        self._observer, self._label = observer, label

    def round(self, number: int, num_rounds: int, width: int) -> None:
        """A phase begins."""
        replies = f"{width} replies" if width > 1 else "1 reply"
        self._observer.phase("solving", f"{self._label}: round {number} of {num_rounds}, {replies}")

    def text(self, piece: str | None) -> None:
        """Nothing: the whole reply comes with the answer."""

    def generating(self, progress: TokenProgress) -> None:
        """So far have the replies come."""
        self._observer.generating(progress)

    def written(self, reply: Reply) -> None:
        """Nothing: the answer says it."""

    def passed_on(self, progress: str) -> None:
        """Nothing: the answer says it."""

    def voting(self, done: int, total: int) -> None:
        """Answers are compared."""
        self._observer.advance(done, total)
