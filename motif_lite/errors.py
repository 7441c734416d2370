"""Every error that this package raises on purpose.

    MotifError                  one line: what failed, where, and the remedy
    ├── RecipeError             the recipe file, a key in it, or a --set
    ├── CodeError               a Python file of the user's own that the recipe names
    ├── StudyError              the study file, a recipe that follows from it, or one of its runs
    ├── DataError               a data set, a file of problems, or one row of it
    ├── ModelError              a model or adapter that cannot be loaded, run or saved
    ├── ServerError             a server that does not answer, refuses, or sends something else
    ├── RunError                a run directory that cannot be used, resumed or evaluated
    ├── TrainingError           a training step that cannot be done; what was saved before it is whole
    ├── GradingError            the process that compares answers cannot be started
    └── MissingHardwareError    the recipe needs a device or a package that this machine lacks

The user can fix them, so `run.py` prints them without a traceback and exits with code 2. Whatever a
*model writes* is never an error: it is parsed, scores what it deserves, and is counted.
"""


class MotifError(Exception):
    """An error that the user can fix; the message says what, where and how."""


class RecipeError(MotifError):
    """The recipe is unreadable, or one or more of its keys are wrong; all are named in one message."""


class ConflictError(RecipeError):
    """Keys of a recipe are right each by itself, and do not go together."""


class CodeError(MotifError):
    """A file of the user's own code cannot be imported, or lacks what the recipe names; the message names the line."""


class StudyError(MotifError):
    """A study file is unreadable or wrong, or one of its runs has failed or belongs to another study."""


class DataError(MotifError):
    """A data set cannot be found or read, or a row of it is malformed; the message names the row."""


class ModelError(MotifError):
    """A model or adapter cannot be loaded, does not fit its folder or base, or cannot be saved."""


class ServerError(MotifError):
    """A server that a model is asked through does not answer, refuses, or sends what no such server sends."""


class RunError(MotifError):
    """A run directory is in use, incomplete, or does not belong to this recipe."""


class TrainingError(MotifError):
    """A step that fails on what the user chose: a reward of theirs, a learning rate, a micro-batch."""


class GradingError(MotifError):
    """The process that compares answers cannot be started: the installation is broken."""


class MissingHardwareError(MotifError):
    """The recipe asks for a GPU or a package that is not here."""
