"""Tasks of the package reasoning_gym as sources: ``reasoning_gym:NAME``.

The package makes the problems in a process of its own (`grading.gym` says why). The same seed, role and options always
give the same ones.
"""

import atexit
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from motif_lite.errors import DataError, MissingHardwareError
from motif_lite.grading import gym, rule_golds
from motif_lite.grading.answers import last_boxed
from motif_lite.nouns import Problem, ReadProgress
from motif_lite.recipe.data import SourceSection
from motif_lite.recipe.spelling import nearest
from motif_lite.rollout.rollouts import derive_seed
from motif_lite.tasks import held_out
from motif_lite.tasks.sources.base import Request, Role, require_no_rows_keys

PACKAGE = "reasoning_gym"

_NUM_PROBLEMS = 2000
"""Where a recipe does not say."""

_AT_ONCE = 50
"""Problems that are asked for at a time."""

_DRAWS = 20
"""Problems that are made for each that is wanted, as some may be measured, or there already."""

_OURS = {"seed": " (the recipe's seed is taken)", "size": " (set num_problems)"}
"""Options of the package that a recipe has keys of its own for."""

Options = dict[str, Any]

_log = logging.getLogger(__name__)


class Gym:
    """Any task of the package that can be made problem by problem."""

    def takes(self, name: str) -> bool:
        """Whether it begins with the package's name."""
        return name.partition(":")[0] == PACKAGE

    def names(self) -> list[str]:
        """The package's name only: it is not asked unless a recipe names one of its tasks."""
        return [f"{PACKAGE}:NAME"]

    def check(self, request: Request) -> None:
        """Whether the package is there and knows the task and its options.

        Raises:
            DataError: It does not, or a key makes no sense here.
            MissingHardwareError: It is not there.
        """
        _require(request.source)
        MAKER.levels(request.name, request.source.options or {}, by_level=request.by_level)

    def expected(self, source: SourceSection, role: Role) -> int | None:
        """As many as are asked for."""
        return source.num_problems or _NUM_PROBLEMS

    def problems(self, request: Request) -> list[Problem]:
        """All different, and none that is measured; of a curriculum equally many of each level."""
        asked = {question for those in request.measured.values() for question in held_out.asked(those)}
        wanted = request.source.num_problems or _NUM_PROBLEMS
        found: list[Problem] = []
        levels = MAKER.levels(request.name, request.source.options or {}, by_level=request.by_level)
        share = max(1, wanted // len(levels))
        for level, options in enumerate(levels):
            for problem in _different(request, level, options, share, asked):
                found.append(problem)
                if request.on_progress is not None:
                    request.on_progress(len(found), share * len(levels))
        return found

    def progress_reader(self, name: str) -> ReadProgress | None:
        """None."""
        return None


def _require(source: SourceSection) -> None:
    if find_spec(PACKAGE) is None:
        raise MissingHardwareError(
            f"{source.source}: {PACKAGE} is not installed; install the version of requirements-gym.txt "
            f"(pip install -r requirements-gym.txt), or take another source"
        )
    require_no_rows_keys(source)


def _different(request: Request, level: int, options: Options, wanted: int, asked: set[str]) -> Iterator[Problem]:
    """Problems of one level, as many as are wanted, or as there are; what is drawn is added to what was asked.

    Raises:
        DataError: There are none.
    """
    of_level = f"/level-{level}" if request.by_level else ""
    seed = derive_seed(request.seed, PACKAGE, request.name, request.role, level)
    task, count = _task(request.name), 0
    for index, question, answer in MAKER.made(request.name, options, seed, wanted * _DRAWS):
        key = held_out.words(question)
        if key in asked or not _fits_a_box(task, answer):
            continue
        asked.add(key)
        facts = {"task": task, "options": options, "seed": seed, "index": index, "answer": answer}
        name = f"{PACKAGE}-{task}/{request.role}/{request.seed}{of_level}/{index}"
        yield Problem(name, question, rule_golds.written(rule_golds.REASONING_GYM, facts), level=level)
        count += 1
        if count == wanted:
            return
    where = f"{request.name}{of_level.replace('/', ', ').replace('-', ' ')}"
    if not count:
        raise DataError(
            f"{where}: no problem for {request.role} is left that is not measured; set options that allow more"
        )
    _log.warning("%s: has %d problems that differ and are not measured, fewer than %d", where, count, wanted)


def _fits_a_box(task: str, answer: str) -> bool:
    """Whether its braces are balanced, and there is one; an answer that cannot be boxed can never be right."""
    if not answer.strip():
        return task in gym.MANY_ARE_RIGHT
    boxed = last_boxed(f"\\boxed{{{answer}}}")
    return boxed is not None and boxed.text == answer


class Maker:
    """The process that makes problems: started on first use, for its package takes seconds to import, and kept."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def levels(self, name: str, options: Options, *, by_level: bool) -> list[Options]:
        """The options of each level, easiest first; of one where no curriculum is wanted.

        Args:
            name: Of the source.

        Raises:
            DataError: The package does not know the task or an option, or refuses a value.
        """
        task = _task(name)
        [about] = self._asked(name, {"task": task, "options": options, "by_level": by_level}, 1)
        if (tasks := about.get("tasks")) is not None:
            why = f" ({gym.NOT_OFFERED[task]})" if task in gym.NOT_OFFERED else ""
            near = get_close_matches(task, tasks, n=5, cutoff=0.5)
            raise DataError(
                f"{name}: there is no task {task!r}{why}; {'near' if near else 'known'}: {', '.join(near or tasks)}"
            )
        if unknown := about.get("unknown"):
            known = about["known"]
            hint = _OURS.get(unknown[0]) or nearest(unknown[0], known)
            raise DataError(f"{name}: there is no option {unknown[0]!r}{hint}; known: {', '.join(known) or 'none'}")
        if (with_levels := about.get("has_no_levels")) is not None:
            raise DataError(
                f"{name}: the package has no curriculum for it; leave out data.curriculum, or take one of: "
                f"{', '.join(with_levels)}"
            )
        found: list[Options] = about["levels"]
        return found

    def made(self, name: str, options: Options, seed: int, most: int) -> Iterator[tuple[int, str, str]]:
        """Problems as index, question and answer, in order, at most so many."""
        most = min(most, gym.SIZE)
        for first in range(0, most, _AT_ONCE):
            count = min(_AT_ONCE, most - first)
            request = {"task": _task(name), "options": options, "seed": seed, "first": first, "count": count}
            yield from self._asked(name, request, count)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _asked(self, name: str, request: Mapping[str, Any], num_lines: int) -> list[Any]:
        """The lines of the answer.

        Raises:
            DataError: The package refuses the request, or the process has ended.
        """
        try:
            process = self._started()
            assert process.stdin is not None and process.stdout is not None
            print(json.dumps(request), file=process.stdin, flush=True)
            lines = list[Any]()
            while len(lines) < num_lines:
                said = json.loads(process.stdout.readline())
                if isinstance(said, dict) and "refused" in said:
                    raise DataError(f"{name}: {PACKAGE} refuses these options ({said['refused']}); change them")
                lines.append(said)
            return lines
        except (OSError, ValueError):  # it takes nothing in, or says nothing more
            self.close()
            raise DataError(
                f"{name}: the process that makes its problems has ended; is {PACKAGE} installed completely? "
                f"pip install -r requirements-gym.txt"
            ) from None
        except KeyboardInterrupt:  # what it says next would be taken for another answer
            self.close()
            raise

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(gym.__file__))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env=os.environ | {"PYTHONHASHSEED": "0"}, start_new_session=True,
            )  # fmt: skip
            atexit.register(self.close)
        return self._process


def _task(name: str) -> str:
    """Of a source."""
    return name.partition(":")[2]


MAKER = Maker()
"""For all sources of this process."""
