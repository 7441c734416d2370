"""Which Python the environment is made with. Runs on any Python from 3.6, so it avoids newer syntax.

The order: PYTHON, where it is given; the one that the environment was made with; `python3`; the newest that fits on
PATH; the newest that fits among pyenv's.
"""

import glob
import os
import re
import shutil
import subprocess
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# A shim of pyenv and a virtual environment's Python both name the interpreter that they stand for.
_QUESTION = (
    "import sys; print('{}.{}.{}'.format(*sys.version_info)); "
    "print(getattr(sys, '_base_executable', None) or sys.executable)"
)


class NoInterpreterError(Exception):
    """No Python that fits; the message says which would, and what to type."""


Interpreter = NamedTuple("Interpreter", [("command", str), ("executable", str), ("version", str)])
"""How it was called, its absolute path, and its version, e.g. ``3.12.1``."""


def supported(pyproject: str = "") -> Tuple[int, int]:
    """The oldest and the newest minor version of Python 3 that pyproject.toml allows."""
    with open(pyproject or os.path.join(ROOT, "pyproject.toml"), encoding="utf-8") as file:
        found = re.search(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"', file.read(), re.MULTILINE)
    assert found, "pyproject.toml: requires-python has another form than >=3.N,<3.M"
    return int(found.group(1)), int(found.group(2)) - 1


def choose(given: str, folder: str) -> Interpreter:
    """The interpreter to use.

    Args:
        given: PYTHON as the user typed it, or nothing.
        folder: The environment; it may not exist.

    Raises:
        NoInterpreterError: PYTHON does not fit, or there is none that fits.
    """
    if given:
        return _require(given)
    made_with = ask(_made_with(folder))
    if made_with and fits(made_with.version):
        return made_with
    first = ask("python3")
    if first and fits(first.version):
        return first
    others = available()
    if not others:
        raise NoInterpreterError("{}. {}".format(_lack(first), _how_to_get_one()))
    print("{}; using {} (Python {})".format(_lack(first), others[0].command, others[0].version))
    return others[0]


def ask(command: str) -> Optional[Interpreter]:
    """The interpreter behind a command; None where it does not run."""
    if not command or shutil.which(command) is None:
        return None
    try:
        printed = subprocess.check_output([command, "-c", _QUESTION], stderr=subprocess.DEVNULL, timeout=60)
        version, executable = printed.decode().splitlines()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter(command, executable, version)


def fits(version: str) -> bool:
    """Whether a version such as ``3.12.1`` is supported."""
    oldest, newest = supported()
    major, minor = version.split(".")[:2]
    return major == "3" and oldest <= int(minor) <= newest


def available() -> List[Interpreter]:
    """Those on PATH and among pyenv's that fit: one of each minor version, the newest first."""
    found: Dict[int, Interpreter] = {}
    for command in _commands():
        one = ask(command)
        if one and fits(one.version):
            found.setdefault(int(one.version.split(".")[1]), one)
    return [found[minor] for minor in sorted(found, reverse=True)]


def _commands() -> Iterator[str]:
    oldest, newest = supported()
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    for minor in range(newest, oldest - 1, -1):
        yield "python3.{}".format(minor)
        for path in glob.glob(os.path.join(glob.escape(pyenv), "versions", "3.{}.*".format(minor), "bin", "python3")):
            yield path


def _made_with(folder: str) -> str:
    """The interpreter that an environment names as its own."""
    try:
        with open(os.path.join(folder, "pyvenv.cfg"), encoding="utf-8") as file:
            found = re.search(r"^executable = (.*)$", file.read(), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return ""
    return found.group(1).strip() if found else ""


def _require(given: str) -> Interpreter:
    found = ask(given)
    if found and fits(found.version):
        return found
    state = "is Python {}".format(found.version) if found else "does not run"
    others = available()
    remedy = "try: make PYTHON={} ...".format(others[0].command) if others else _how_to_get_one()
    raise NoInterpreterError("PYTHON={} {}; motif_lite needs {}; {}".format(given, state, _range(), remedy))


def _lack(first: Optional[Interpreter]) -> str:
    state = "python3 is Python {}".format(first.version) if first else "there is no python3"
    return "{}; motif_lite needs {}".format(state, _range())


def _range() -> str:
    return "Python 3.{} to 3.{}".format(*supported())


def _how_to_get_one() -> str:
    return (
        "Install one (Debian, Ubuntu: sudo apt install python3 python3-venv; macOS: brew install python@3.13; "
        "anywhere: pyenv install 3.13), then give it if it is not found: make PYTHON=python3.13 ..."
    )
