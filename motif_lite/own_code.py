"""Python files of the user's own that a recipe names: ``my_rewards.py:brevity`` is ``brevity`` in ``my_rewards.py``.

A recipe keeps the name as it was written, so that figures, seeds and file names do not depend on where the file lies;
its ``code`` table says where that is. A file is imported once per process, from the very bytes that its hash is of.
"""

import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from motif_lite.errors import CodeError

PATTERN = r"^.+\.py:.+$"
"""What tells a user's name from a built-in one."""

_LARGEST_FILE = 1_000_000
"""Bytes; a larger file is no source code."""


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A file that has been imported.

    Attributes:
        source: Its bytes, as they were imported.
    """

    path: Path
    source: bytes
    module: ModuleType

    @property
    def sha256(self) -> str:
        """The hash of what was imported."""
        return hashlib.sha256(self.source).hexdigest()


_imported: dict[Path, OwnFile] = {}


def is_own(name: str) -> bool:
    """Whether a name stands for something in a file of the user's own."""
    return re.match(PATTERN, name) is not None


def file_of(name: str) -> str:
    """The file's part of a name: ``my_rewards.py``."""
    return name.rpartition(":")[0]


def find(name: str, code: Mapping[str, str], *arguments: str) -> Any:
    """What a name stands for: something that can be called with these arguments, by position.

    Args:
        name: As in the recipe, e.g. ``my_rewards.py:brevity``.
        code: Where each file lies, by the name that the recipe gives it.
        arguments: For the check and its message only.

    Raises:
        CodeError: The file cannot be imported, or has nothing of that name, or it takes other arguments.
    """
    file, _, attribute = name.rpartition(":")
    if file not in code:
        raise CodeError(f"{name}: the recipe does not say where {file} is; name it in the table [code]")
    own = load(Path(code[file]))
    if not hasattr(own.module, attribute):
        there = ", ".join(sorted(_defined(own.module))) or "nothing"
        raise CodeError(f"{own.path}: has no {attribute!r}; it defines: {there}")
    found = getattr(own.module, attribute)
    if not callable(found):
        raise CodeError(f"{own.path}: {attribute} is a {type(found).__name__}; it must be a function or a class")
    wanted = f"{attribute}({', '.join(arguments)})"
    try:
        inspect.signature(found).bind(*arguments)
    except TypeError as error:
        raise CodeError(f"{_line_of(found, own.path)}: must take {wanted} ({error})") from None
    except ValueError:  # something in C that does not tell
        pass
    return found


def load(path: Path) -> OwnFile:
    """Import a file, once per process.

    Raises:
        CodeError: It cannot be read, or fails while it is imported; the message names the line.
    """
    path = path.absolute()
    if path not in _imported:
        _imported[path] = _import(path, read(path))
    return _imported[path]


def read(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        CodeError: It is not there or cannot be read.
    """
    try:
        with path.open("rb") as file:
            source = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise CodeError(f"{path}: there is no such file; its name is relative to the recipe that names it") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in its name
        raise CodeError(f"{path}: cannot be read ({error}); check the path") from None
    if len(source) > _LARGEST_FILE:
        raise CodeError(f"{path}: has more than {_LARGEST_FILE:,} bytes, which is no source code; check the path")
    return source


def described(error: BaseException, path: str | Path) -> str:
    """An exception with the last line of this file that it passed: ``line 3: KeyError: 'a'``."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: {text}" if lines else text


class _Loader(SourceFileLoader):
    """Compiles the bytes that were read: no bytecode of an earlier version, and nothing written next to the file."""

    def __init__(self, name: str, path: Path, source: bytes) -> None:
        super().__init__(name, str(path))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self._source, self.path)
        return code


def _import(path: Path, source: bytes) -> OwnFile:
    name = f"own_code_{hashlib.sha256(str(path).encode(errors='backslashreplace')).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, path, source))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and the like look their module up
    try:
        with redirect_stdout(sys.stderr):  # what --check prints is the recipe
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        remedy = "correct it"
        if isinstance(error, ModuleNotFoundError):
            remedy = "install it; another file of yours cannot be imported, as only this file is kept with a run"
        raise CodeError(f"{path}: {described(error, path)}; {remedy}") from error
    return OwnFile(path, source, module)


def _defined(module: ModuleType) -> list[str]:
    """Names that a file itself defines."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]


def _line_of(found: Any, path: Path) -> str:
    """``file: line 3`` where it is known on which line something is defined."""
    code = getattr(inspect.unwrap(found), "__code__", None)
    return f"{path}: line {code.co_firstlineno}" if code is not None else str(path)
